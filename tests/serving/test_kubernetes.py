"""What can be known of the Kubernetes examples without a cluster."""

import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)
from running_server import Server

from ctr_tf import __version__
from ctr_tf.commands import launch as launch_command
from ctr_tf.commands.train import main as training_main
from ctr_tf.training import launch as launching
from ctr_tf.training.launch import expand_hosts
from pipelines.listwise import ListwiseOptions, check_options
from serving.config.generate import BATCHING, METRICS_PATH, MODELS, MONITORING

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "kubernetes"
RELEASES = ("1.29", "1.37")  # the oldest that knows sidecars, and the newest known
OBJECTS = [
    (path.name, content)
    for path in sorted(FOLDER.glob("*.yaml"))
    for content in yaml.safe_load_all(path.read_text("utf-8"))
]


def found(kind, name):
    (content,) = (
        content
        for _, content in OBJECTS
        if content["kind"] == kind and content["metadata"]["name"] == name
    )
    return content


def pods():
    return {
        content["metadata"]["name"]: content["spec"]["template"]["spec"]
        for _, content in OBJECTS
        if content["kind"] in ("Deployment", "Job")
    }


def containers():
    """`<pod>/<container>` → the container, and the security context of its pod."""
    return {
        f"{name}/{container['name']}": (container, pod["securityContext"])
        for name, pod in pods().items()
        for container in [*pod.get("initContainers", ()), *pod["containers"]]
    }


def container(name):
    return containers()[name][0]


def option(words, name):
    (value,) = (
        word.partition("=")[2] for word in words if word.startswith(f"--{name}=")
    )
    return value


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_would_take_every_object(release):
    kinds = {content["kind"] for _, content in OBJECTS}
    assert kinds > {"Job", "Deployment", "Service", "HorizontalPodAutoscaler"}
    for _, content in OBJECTS:
        assert kubernetes_validate.validate(content, release, strict=True) == release


def test_the_validator_finds_what_is_mistyped():
    content = found("HorizontalPodAutoscaler", "ctr-serving")
    content = {**content, "spec": {**content["spec"], "minReplica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="minReplica"):
        kubernetes_validate.validate(content, RELEASES[-1], strict=True)


@pytest.mark.parametrize("name", containers())
def test_no_container_is_root_or_without_bounds(name):
    container, pod = containers()[name]
    context = {**pod, **container["securityContext"]}
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} == set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    assert re.search(r":[^:]*\d", container["image"])  # never `latest`


@pytest.mark.parametrize("name", pods())
def test_what_is_mounted_is_there(name):
    pod = pods()[name]
    volumes = {volume["name"] for volume in pod.get("volumes", ())}
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        for mount in container.get("volumeMounts", ()):
            assert mount["name"] in volumes


def test_selectors_find_their_pods():
    labels = {
        content["metadata"]["name"]: content["spec"]["template"]["metadata"]["labels"]
        for _, content in OBJECTS
        if content["kind"] == "Deployment"
    }
    for name, own in labels.items():
        assert found("Deployment", name)["spec"]["selector"]["matchLabels"] == own
    serving = labels["ctr-serving"]
    assert found("Service", "ctr-serving")["spec"]["selector"] == serving
    budget = found("PodDisruptionBudget", "ctr-serving")["spec"]
    assert budget["selector"]["matchLabels"] == serving
    flink = labels["ctr-flink-jobmanager"]
    assert found("Service", "ctr-flink")["spec"]["selector"] == flink
    scaled = found("HorizontalPodAutoscaler", "ctr-serving")["spec"]["scaleTargetRef"]
    assert found(scaled["kind"], scaled["name"])["apiVersion"] == scaled["apiVersion"]


def test_services_lead_to_ports_of_their_containers():
    for service, name in (
        ("ctr-serving", "ctr-serving/serving"),
        ("ctr-flink", "ctr-flink-jobmanager/jobmanager"),
    ):
        ports = {port["name"]: port for port in container(name)["ports"]}
        for port in found("Service", service)["spec"]["ports"]:
            assert ports[port["targetPort"]]["containerPort"] == port["port"]


def test_the_server_is_that_of_the_compose_file():
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
    other, serving = compose["services"]["serving"], container("ctr-serving/serving")
    assert [*serving["command"], *serving["args"]] == [
        other["entrypoint"],
        *other["command"],
    ]
    assert {e["name"]: e["value"] for e in serving["env"]} == other["environment"]
    assert other["image"].endswith(serving["image"].rpartition(":")[2] + "}")
    probe = ["CMD", *serving["readinessProbe"]["exec"]["command"]]
    assert probe == other["healthcheck"]["test"]
    template = found("Deployment", "ctr-serving")["spec"]["template"]
    path = template["metadata"]["annotations"]["prometheus.io/path"]
    assert path == METRICS_PATH
    for name in (MODELS, BATCHING, MONITORING):
        assert any(f"=/config/{name}" in word for word in serving["args"])


def test_a_replica_is_ready_when_its_model_is(small_export):
    """By the example's own command, on the development server's status."""
    probe = container("ctr-serving/serving")["readinessProbe"]["exec"]["command"]
    server = Server(small_export.parent, "--name", "ctr")
    port = server.rest.rpartition(":")[2]

    def is_ready(name="ctr"):
        command = [word.replace("8501", port) for word in probe]
        command = [word.replace("/ctr ", f"/{name} ") for word in command]
        return subprocess.run(command, capture_output=True).returncode == 0

    assert not is_ready()
    server.start()
    try:
        server.wait()
        assert is_ready()
        assert not is_ready("another")
    finally:
        server.stop()
    assert not is_ready()


@pytest.mark.parametrize("name", ["ctr-prepare", "ctr-prepare-flink"])
def test_the_jobs_options_are_options(name):
    verb, *words = container(f"{name}/prepare")["args"]
    assert verb == "prepare"
    check_options(words)
    options = PipelineOptions(words).view_as(ListwiseOptions)
    assert options.input == "/data/logs" and options.output == "/data/prepared"


def test_the_flink_jobs_parts_find_each_other():
    words = container("ctr-prepare-flink/prepare")["args"]
    server = container("ctr-prepare-flink/job-server")
    options = PipelineOptions(words[1:])
    portable = options.view_as(PortableOptions)
    probe = server["startupProbe"]["exec"]["command"][-1]
    assert probe.endswith("/" + portable.job_endpoint.partition(":")[2])
    pool = container("ctr-flink-taskmanager/workers")
    assert portable.environment_type == "EXTERNAL"
    (port,) = pool["ports"]
    assert portable.environment_config == f"localhost:{port['containerPort']}"
    rest = found("Service", "ctr-flink")["spec"]["ports"][-1]["port"]
    assert option(server["args"], "flink-master") == f"ctr-flink:{rest}"
    (properties,) = (
        yaml.safe_load(variable["value"])
        for variable in container("ctr-flink-taskmanager/taskmanager")["env"]
    )
    replicas = found("Deployment", "ctr-flink-taskmanager")["spec"]["replicas"]
    slots = replicas * properties["taskmanager.numberOfTaskSlots"]
    assert options.view_as(FlinkRunnerOptions).parallelism == slots
    assert properties["jobmanager.rpc.address"] == "ctr-flink"
    staging = option(server["args"], "artifacts-dir")
    for name in (
        "ctr-prepare-flink/job-server",
        "ctr-flink-taskmanager/taskmanager",
    ):
        paths = [mount["mountPath"] for mount in container(name)["volumeMounts"]]
        assert any(staging.startswith(f"{path}/") for path in paths)


def test_the_workers_of_a_training_find_each_other():
    spec, train = found("Job", "ctr-train")["spec"], container("ctr-train/train")
    service = found("Service", "ctr-train")["spec"]
    assert spec["completionMode"] == "Indexed"
    template = spec["template"]
    assert template["metadata"]["labels"] == service["selector"]
    hosts = expand_hosts(option(train["args"], "hosts"))
    ports = {port["containerPort"] for port in train["ports"]}
    assert {port["port"] for port in service["ports"]} == ports
    subdomain, (port,) = template["spec"]["subdomain"], ports
    assert hosts == [f"ctr-train-{i}.{subdomain}:{port}" for i in range(4)]
    assert spec["completions"] == spec["parallelism"] == len(hosts)
    (index,) = (variable for variable in train["env"] if variable["name"] == "INDEX")
    assert option(train["args"], "index") == "$(INDEX)"
    assert "job-completion-index" in index["valueFrom"]["fieldRef"]["fieldPath"]


def test_the_training_is_one(monkeypatch):
    """Its words are taken as they are, but for the data, which are not there."""
    train = container("ctr-train/train")
    assert train["command"] == ["ctr-tf", "launch"]
    words = [word.replace("$(INDEX)", "2") for word in train["args"]]
    launched = []
    monkeypatch.setattr(
        launching, "launch", lambda *arguments: launched.append(arguments) or 0
    )
    assert launch_command.main(words) == 0
    ((command, hosts, indices, restarts, _),) = launched
    assert indices == [2] and len(hosts) == 4 and restarts == 100
    assert command[0] == "train"
    assert command[-1] == "training.distribution=multi_worker"
    with pytest.raises(FileNotFoundError, match="'/data/prepared'"):
        training_main(command[1:-1])


def test_images_are_of_the_versions_that_are_tested():
    own = {"prepare", "workers", "train"}
    for name, (each, _) in containers().items():
        if name.rpartition("/")[2] in own:
            assert each["image"].endswith(f":{__version__}")
    image = container("ctr-prepare-flink/job-server")["image"]
    match = re.fullmatch(r"apache/beam_flink([\d.]+)_job_server:([\d.]+)", image)
    assert match[2] == version("apache-beam")
    assert match[1] in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    for name in ("jobmanager/jobmanager", "taskmanager/taskmanager"):
        assert container(f"ctr-flink-{name}")["image"].startswith(f"flink:{match[1]}.")
