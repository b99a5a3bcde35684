"""The kinds of features, one file each: every file of this package is one.

A new kind is a new file with one subclass of `ctr_tf.schema.feature.Feature`; nothing
else needs to name it.
"""

import importlib
import pkgutil

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema.feature import Feature


def _find() -> dict[str, type[Feature]]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return {cls.kind: cls for cls in Feature.__subclasses__()}


def kind_class(name: object) -> type[Feature]:
    """The class of a kind.

    Args:
        name: as the schema has it, such as `"categorical"`.

    Raises:
        UserError: names the nearest kind.
    """
    kinds = _find()
    if name not in kinds:
        raise UserError(unknown_name("kind", name, kinds))
    return kinds[name]
