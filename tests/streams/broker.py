"""A real Kafka broker for tests: one Java process on this machine, no ZooKeeper."""

import socket
import subprocess
import uuid
from pathlib import Path

from ctr_tf.ports import HOST, free_ports
from pipelines.engines.artifacts import pinned_jars
from pipelines.engines.java import java
from pipelines.engines.services import Services

_HEAP_MB = 512
_CLUSTER = "Y3RyLXRmLXRlc3RzLWthZg"  # any 16 bytes, in Base64
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/logs
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
"""


class Broker:
    """A broker that runs until `stop`.

    Args:
        folder: for its data and log files.

    Attributes:
        address: of its clients, host and port.
    """

    def __init__(self, folder: Path):
        jars = pinned_jars("kafka", Path(__file__).with_name("kafka.pom.xml"))
        port, controller = free_ports(2)
        self.address = f"{HOST}:{port}"
        properties = folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                host=HOST, port=port, controller=controller, folder=folder
            ),
            "utf-8",
        )

        def command(main: str, *arguments: str) -> list[str]:
            return java(
                main, [f"{jars}/*"], arguments, heap_mb=_HEAP_MB, temporary=folder
            )

        subprocess.run(
            command(
                *("kafka.tools.StorageTool", "format", "--cluster-id", _CLUSTER),
                *("--config", str(properties)),
            ),
            check=True,
            capture_output=True,
        )
        self._services = Services(folder)
        try:
            self._services.start(
                "broker", command("kafka.Kafka", str(properties)), self._answers
            )
        except BaseException:
            self.stop()
            raise

    def make_topic(self, partitions: int) -> str:
        """Makes a topic of a name of its own; returns the name."""
        from confluent_kafka.admin import AdminClient, NewTopic

        name = f"topic-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": self.address})
        (made,) = admin.create_topics([NewTopic(name, partitions, 1)]).values()
        made.result(60)
        return name

    def stop(self) -> None:
        """Ends the broker."""
        self._services.stop()

    def _answers(self) -> bool:
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), 2).close()
        except OSError:
            return False
        return True
