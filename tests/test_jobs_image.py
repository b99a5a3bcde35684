"""The jobs need no TensorFlow: with it shut out, and as their image is installed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from s3_server import keys

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
SHUT_OUT = ("tensorflow", "tensorflow_io", "keras", "sklearn", "scipy", "matplotlib")
WORLD = "--users 20 --days 8 --requests_per_user 3 --behaviors_per_user 10"
VERBS = (
    f"synthesize --output raw {WORLD}",
    "prepare --source synthetic --input raw --output data --num_buckets 2",
    "ingest --store store --source synthetic --input raw",
)


def run(command, folder, **environment):
    result = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result.stdout


def test_the_jobs_run_with_tensorflow_shut_out(tmp_path):
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({SHUT_OUT}))\n"
        "from ctr_tf.commands.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    for words in VERBS:
        command = [sys.executable, "-c", program, *words.split()]
        run(command, tmp_path, PYTHONPATH=str(ROOT))
    assert (tmp_path / "data" / "manifest.json").is_file()
    assert (tmp_path / "store").is_dir()


@pytest.mark.study
def test_the_jobs_run_as_their_image_is_installed(tmp_path, bucket):
    """By the very commands of the image's stage, in a new environment."""
    text = (DOCKER / "Dockerfile.jobs").read_text("utf-8")
    source = tmp_path / "source"
    source.mkdir()
    copied = re.findall(r"^COPY (?!--)(.*)", text, re.M)
    for *paths, target in map(shlex.split, copied):
        for path in paths:
            if (ROOT / path).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / path, source / target, ignore=ignored)
            else:
                (source / target).mkdir(exist_ok=True)
                shutil.copy(ROOT / path, source / target)
    run([sys.executable, "-m", "venv", "installed"], tmp_path)
    lean = text[text.index("FROM source AS lean") :].replace("\\\n", " ")
    command = re.search(r"^RUN (.*)", lean, re.M)[1]
    programs = tmp_path / "installed" / "bin"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    run(["sh", "-e", "-c", command], source, PATH=path, EXTRAS="s3")
    shutil.rmtree(source)
    for words in VERBS:
        run([programs / "ctr-tf", *words.split()], tmp_path)
    assert (tmp_path / "data" / "manifest.json").is_file()
    stored = VERBS[1].replace(" data ", f" s3://{bucket}/data ")
    run([programs / "ctr-tf", *stored.split()], tmp_path)
    assert "data/manifest.json" in keys(bucket)
    probe = "import importlib.util as u; print(u.find_spec('tensorflow'))"
    assert run([programs / "python", "-c", probe], tmp_path) == "None\n"
