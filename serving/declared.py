"""Messages that are declared here, as public .proto files declare them.

They are in a pool of their own, so that a process may have TensorFlow's, too.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

FIELD = descriptor_pb2.FieldDescriptorProto
# Message → its fields → number and kind: a type of `FIELD`, the full name of a message
# (after a dot) or an enum (after "="), a list of one of these where it is repeated, or
# a mapping from "" to one of these where it is a map from strings.
Declared = Mapping[str, Mapping[str, tuple[int, Any]]]


def declare(
    name: str,
    package: str,
    messages: Declared,
    enums: Mapping[str, Mapping[str, int]] | None = None,
    beside: tuple[Any, ...] = (),
) -> dict[str, type[Message]]:
    """Message classes, by their names.

    Args:
        name: of the file that they would stand in.
        package: of all of them.
        messages: what is declared.
        enums: name → value's name → number.
        beside: modules of Google's own messages that are named as kinds.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=name, package=package, syntax="proto3"
    )
    for enum, numbers in (enums or {}).items():
        one = file.enum_type.add(name=enum)
        for value, number in numbers.items():
            one.value.add(name=value, number=number)
    for message, fields in messages.items():
        one = file.message_type.add(name=message)
        for key, (number, kind) in fields.items():
            _add_field(one, f".{package}.{message}", key, number, kind)
    pool = descriptor_pool.DescriptorPool()
    for module in beside:
        file.dependency.append(module.DESCRIPTOR.name)
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        message: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{package}.{message}")
        )
        for message in messages
    }


def _add_field(message: Any, path: str, key: str, number: int, kind: Any) -> None:
    if isinstance(kind, Mapping):  # a repeated message of key and value
        entry = message.nested_type.add(name=_entry_name(key))
        entry.options.map_entry = True
        _add_field(entry, "", "key", 1, FIELD.TYPE_STRING)
        _add_field(entry, "", "value", 2, kind[""])
        kind = [f"{path}.{entry.name}"]
    repeated = isinstance(kind, list)
    label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
    field = message.field.add(name=key, number=number, label=label)
    (kind,) = kind if repeated else (kind,)
    if not isinstance(kind, str):
        field.type = kind
    elif kind[0] == "=":
        field.type, field.type_name = FIELD.TYPE_ENUM, kind[1:]
    else:
        field.type, field.type_name = FIELD.TYPE_MESSAGE, kind


def _entry_name(key: str) -> str:
    return "".join(part.title() for part in key.split("_")) + "Entry"
