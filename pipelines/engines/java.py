"""Words of a `java` command."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from ctr_tf.errors import UserError

# What Flink's and Spark's own launchers open to them on Java 17.
_OPENED = (
    "java.lang",
    "java.lang.invoke",
    "java.lang.reflect",
    "java.io",
    "java.net",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "sun.nio.ch",
    "sun.nio.cs",
    "sun.security.action",
    "sun.util.calendar",
)


def check_java() -> None:
    """Raises UserError unless there is a Java that the engines run on."""
    if shutil.which("java") is None:
        raise UserError("Java 17 must be installed: no `java`.")
    command = ["java", "-XshowSettings:properties", "-version"]
    lines = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()
    words = [line.split() for line in lines]
    versions = [w[2] for w in words if w[:2] == ["java.specification.version", "="]]
    if versions not in (["11"], ["17"]):
        raise UserError(f"`java` must be Java 11 or 17. Received: {versions}")


def java(
    main: str,
    classpath: Iterable[str],
    arguments: Sequence[str],
    *,
    heap_mb: int,
    temporary: Path,
    properties: Sequence[str] = (),
) -> list[str]:
    """The command of a Java program.

    Args:
        main: its class.
        classpath: jars, or folders with `/*` for all jars within.
        arguments: of the program.
        heap_mb: megabytes of its heap.
        temporary: folder of its temporary files.
        properties: options of the virtual machine.

    Returns:
        The words.
    """
    opens = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED]
    opens.append("--add-exports=java.base/sun.net.util=ALL-UNNAMED")
    return [
        *("java", f"-Xmx{heap_mb}m", f"-Djava.io.tmpdir={temporary}", *opens),
        # A program of many threads that loses one of them waits for it without end.
        "-XX:+ExitOnOutOfMemoryError",
        *properties,
        *("-classpath", ":".join(classpath), main, *arguments),
    ]
