"""The commands of the README and of all pages: `console` blocks run, all others exist.

Those of docs/extending.md are run by test_extending.py; those of the site's pages in
other folders need hours, or Docker, and exist.
"""

import ast
import contextlib
import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ctr_tf.commands import train as train_command
from ctr_tf.commands.main import resolve
from ctr_tf.compare import compare
from ctr_tf.ports import free_port
from ctr_tf.recipes.find import find_recipe
from ctr_tf.recipes.read import load_recipe
from ctr_tf.scaling import scaling
from ctr_tf.tuning import tune
from site_pages import outside
from site_pages.hook import GENERATED

ROOT = Path(__file__).parent.parent
OUTSIDE = [Path(path) for path in outside.PAGES.values()]
INSIDE = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {
    page: (ROOT / page).read_text("utf-8")
    for page in (Path("README.md"), *INSIDE, *OUTSIDE)
}
ELSEWHERE = Path("docs/extending.md")
OF_BEAM = ("prepare", "batch-score", "day")  # options of Beam come behind theirs
# Programs that are others' to test, and words of a shell.
OTHERS = {
    *("../fuxictr/bin/pip", "cd", "docker", "export", "for", "java", "kubectl"),
    *("mkdir", "mvn", "pip", "python", "python3.11", "sbatch", "tail"),
}
RUNNERS = re.compile(r"^(chrt -r 1|taskset -c 1) ")
AS_BEFORE = "…"  # in place of the options of the command before


def blocks(kind):
    """Page and text of all blocks of a kind."""
    for page, text in PAGES.items():
        pattern = rf"^```{kind}\n(.*?)^```"
        for block in re.findall(pattern, text, re.DOTALL | re.MULTILINE):
            yield page, block


def commands():
    """Page and words of every command that is not run."""
    console = ((p, block) for p, block in blocks("console") if p in OUTSIDE)
    for page, block in (*blocks("sh"), *console):
        for line in block.replace("\\\n", "").splitlines():
            for command in re.split(r" \| ", line):
                words = shlex.split(RUNNERS.sub("", command), comments=True)
                if words and AS_BEFORE not in words:
                    yield page, [word for word in words if word != "KEYS"]


# What a page's blocks print, run one after the other in one folder.
PRINTED = {
    "getting_started": r"probability",
    "your_own_data": r"hats",
    "your_own_logs": (
        r"left out: only clicked rows have it(?s:.*)AUC(?s:.*)probability(?s:.*)"
        r"\nu0 (100|104|108) .*\nu1 (101|105|109) "
    ),
}
PORTS = ("8500", "8501")  # of pages; a test takes free ones
COMMANDS = list(commands())


def scripts():
    """Name and commands of each page that has some to run; what trains is long."""
    found = {}
    for page, block in blocks("console"):
        if page not in (ELSEWHERE, *OUTSIDE):
            found.setdefault(page.stem, []).append(block)
    for name, parts in found.items():
        script = "".join(parts)
        marks = [pytest.mark.long] if "ctr-tf train" in script else []
        yield pytest.param(name, script, marks=marks, id=name)


@pytest.mark.parametrize(("name", "script"), list(scripts()))
def test_console_blocks_run(name, script, tmp_path):
    for port in PORTS:
        script = re.sub(rf"\b{port}\b", str(free_port()), script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    output, errors = tmp_path / "stdout.txt", tmp_path / "stderr.txt"
    (tmp_path / "work").mkdir()
    with output.open("w") as out, errors.open("w") as err:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", script],
            cwd=tmp_path / "work",
            env={**os.environ, "PATH": path},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            shell.wait()
        finally:  # a server that a block began, too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, errors.read_text("utf-8")[-3000:]
    assert re.search(PRINTED[name], output.read_text("utf-8"))


def check(page, words):
    """Raises where a command is of no program, verb, option, recipe or target."""
    line = f"{page}: {shlex.join(words)}"
    program, verb, *rest = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), line
    elif program == "ctr-tf":
        check_verb(verb, rest, line)
    else:
        assert program in OTHERS, line


def check_verb(verb, rest, line):
    module, rest = resolve([verb, *rest])
    if verb == "launch":
        _, program, *words = module.parser().parse_args(rest).command
        assert program == "train", line
        check_keys(train_command.parser().parse_intermixed_args(words))
        return
    if verb == "engine" and "prepare" in rest:
        place = rest.index("prepare")
        check_verb("prepare", rest[place + 1 :], line)
        rest = rest[:place]
    if verb in OF_BEAM:
        options, _ = module.parser().parse_known_args(rest)
    elif hasattr(module, "parser"):
        options = module.parser().parse_intermixed_args(rest)
    else:  # its parser is its own: its help has the options
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert used <= told_options(module), line
        return
    if verb in ("train", "plan"):
        check_keys(options)
    elif verb == "day":
        find_recipe(options.config)
    elif verb == "tune":
        assert tune.chosen(options, schema="synthetic").space, line
    elif verb == "compare":
        assert compare.chosen(options), line
    elif verb == "scaling":
        assert scaling.chosen(options, history=128), line


def told_options(module):
    """Options that a verb's help has."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        module.main(["--help"])
    return set(re.findall(r"--[\w-]+", printed.getvalue()))


def check_keys(options):
    """Raises where a recipe, or a key of it, is none."""
    if not options.config.startswith("runs/"):  # what a tuning leaves
        load_recipe(find_recipe(options.config), options.overrides)


@pytest.mark.parametrize(
    "page", sorted({page for page, _ in COMMANDS}), ids=lambda page: page.stem
)
def test_other_verbs_recipes_and_targets_exist(page):
    for there, words in COMMANDS:
        if there == page:
            check(page, words)


@pytest.mark.parametrize(
    "command",
    ["ctr-tf tran --data x", "make dmo", "curl x", "ctr-tf ingest --stroe x"]
    + ["ctr-tf train --config sparsectr modl.dim=1", "ctr-tf train --config sparsctr"],
)
def test_a_mistaken_command_is_found(command):
    with pytest.raises((AssertionError, ValueError, FileNotFoundError)):
        check(Path("page.md"), shlex.split(command))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    generated = {ROOT / "docs" / uri for uri in GENERATED}
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        path = (ROOT / page).parent / target
        found = path.exists() or Path(os.path.normpath(path)) in generated
        assert found or target.startswith("https://"), target


def test_python_blocks_import_what_is_there():
    for page, block in blocks("python"):
        if page == ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith(
                ("ctr_tf", "pipelines", "serving")
            ):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), f"{page}: {name.name}"
