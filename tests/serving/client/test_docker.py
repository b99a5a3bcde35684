"""What can be known of the container files without a Docker engine."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from serving.config.generate import (
    BATCHING,
    METRICS_PATH,
    MODELS,
    MONITORING,
    models_config,
)

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"


def instructions(name):
    text = (DOCKER / name).read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


FILES = ("Dockerfile.jobs", "Dockerfile.serving")


@pytest.mark.parametrize("name", FILES)
def test_the_linter_finds_nothing(name):
    program = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([program, DOCKER / name], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_linter_looks():
    program = Path(sys.executable).with_name("hadolint")
    text = "FROM python\nUSER root\n"
    result = subprocess.run([program, "-"], input=text, capture_output=True, text=True)
    assert result.returncode == 1 and "DL3006" in result.stdout


@pytest.mark.parametrize("name", FILES)
def test_images_run_as_a_numbered_user(name):
    """Those that are started: stages with a program."""
    user, started = None, 0
    for instruction, rest in instructions(name):
        if instruction == "FROM":
            user = None
        elif instruction == "USER":
            user = rest.strip()
        elif instruction == "ENTRYPOINT":
            started += 1
            assert user == "1000"
    assert started == {"Dockerfile.jobs": 3, "Dockerfile.serving": 1}[name]
    serving = yaml.safe_load(read("compose.yaml"))["services"]["serving"]
    assert serving["user"] == "1000:1000"


def test_stages_are_those_that_the_readme_builds():
    text = read("Dockerfile.jobs")
    stages = re.findall(r"^FROM \S+ AS (\S+)", text, re.M)
    readmes = [DOCKER / "README.md", ROOT / "examples" / "kubernetes" / "README.md"]
    commands = text + "".join(path.read_text("utf-8") for path in readmes)
    asked = set(re.findall(r"Dockerfile.jobs --target (\S+)", commands))
    assert asked == {"jobs", "worker"} and asked < set(stages)
    assert stages[-1] == "training"  # what is built without a target
    for argument in re.findall(r"--build-arg (\w+)=", text):
        assert re.search(rf"^ARG {argument}\b", text, re.M), argument


def test_copied_paths_exist():
    copied = []
    for name in FILES:
        for instruction, rest in instructions(name):
            words = shlex.split(rest)
            if instruction == "COPY" and not words[0].startswith("--from"):
                copied += [word for word in words[:-1] if not word.startswith("--")]
    assert {"${EXPORT}/", "${CONFIG}/", "setup.py", "ctr_tf/"} <= set(copied)
    for path in copied:
        assert path.startswith("${") or (ROOT / path).exists(), path


def test_versions_are_the_packages_own():
    text = (DOCKER / "Dockerfile.jobs").read_text("utf-8")
    assert f'ARG TENSORFLOW="tensorflow=={version("tensorflow")}"' in text
    assert f"beam_python3.11_sdk:{version('apache-beam')} " in text
    (tag,) = {
        *re.findall(r"^ARG TF_SERVING=(\S+)", read("Dockerfile.serving"), re.M),
        *re.findall(r"\$\{TF_SERVING:-(\S+)\}", read("compose.yaml")),
    }
    minor = version("tensorflow").rpartition(".")[0]
    assert tag.startswith(minor + ".")


def read(name):
    return (DOCKER / name).read_text("utf-8")


def test_the_server_is_started_with_what_serving_config_writes():
    compose = yaml.safe_load(read("compose.yaml"))
    serving = compose["services"]["serving"]
    (entrypoint,) = (
        re.findall(r'"(--?[^"]+)"', rest)
        for instruction, rest in instructions("Dockerfile.serving")
        if instruction == "ENTRYPOINT"
    )
    assert serving["command"] == entrypoint
    for name in (MODELS, BATCHING, MONITORING):
        assert sum(f"=/config/{name}" in word for word in entrypoint) == 1
    targets = [volume.split(":")[-2] for volume in serving["volumes"]]
    assert targets == ["/models/ctr", "/config"]
    assert 'base_path: "/models/ctr"' in models_config("ctr", "/models/ctr")


def test_prometheus_reads_the_servers_metrics():
    (scrape,) = yaml.safe_load(read("prometheus.yml"))["scrape_configs"]
    assert scrape["metrics_path"] == METRICS_PATH
    ((target,),) = (c["targets"] for c in scrape["static_configs"])
    services = yaml.safe_load(read("compose.yaml"))["services"]
    host, _, port = target.partition(":")
    assert f"{port}:{port}" in services[host]["ports"]
    for service in services.values():
        assert re.search(r":[^:]*\d", service["image"])  # never `latest`
