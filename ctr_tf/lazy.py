"""Names of a package whose files are imported when a name is asked for."""

import importlib
from collections.abc import Mapping
from typing import Any


def attribute(package: str, modules: Mapping[str, str], name: str) -> Any:
    """What a package's `__getattr__` answers.

    Args:
        package: its `__name__`.
        modules: name → file of the package that has it.
        name: asked for.

    Raises:
        AttributeError: if the package has no such name.
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
