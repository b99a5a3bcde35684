"""What is made up stays out of what handles real data."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A request's cost is measured on a random one: it depends on sizes alone.
USERS = {"ctr_tf/evaluation/request_cost.py"}


def imports(path):
    """Modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_a_requests_cost_is_measured_on_random_samples():
    users = set()
    for folder in ("ctr_tf", "pipelines", "serving"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("ctr_tf/synthetic/"):
                continue
            if any(module.startswith("ctr_tf.synthetic") for module in imports(path)):
                users.add(name)
    assert users == USERS
