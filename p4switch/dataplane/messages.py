"""The messages of ``p4.bm.DataplaneInterface``, built here: a pool of their own meets no other copy of them."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "p4.bm"
SERVICE = f"{PACKAGE}.DataplaneInterface"


class OperStatus(IntEnum):
    """``PortOperStatus``."""

    UNKNOWN = 0
    DOWN = 1
    UP = 2


_Field = descriptor_pb2.FieldDescriptorProto
_PACKET = (
    ("id", _Field.TYPE_UINT64),
    ("device_id", _Field.TYPE_UINT64),
    ("port", _Field.TYPE_UINT32),
    ("packet", _Field.TYPE_BYTES),
)
_STATUS = (
    ("device_id", _Field.TYPE_UINT64),
    ("port", _Field.TYPE_UINT32),
    ("oper_status", _Field.TYPE_ENUM),
)
_MESSAGES: dict[str, tuple[tuple[str, Any], ...]] = {
    "PacketStreamRequest": _PACKET,
    "PacketStreamResponse": _PACKET,
    "SetPortOperStatusRequest": _STATUS,
    "SetPortOperStatusResponse": (),
}
"""Fields by message, numbered from 1."""


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="splitmerge/dataplane.proto", package=PACKAGE, syntax="proto3")
    status = file.enum_type.add(name="PortOperStatus")
    for item in OperStatus:
        status.value.add(name=f"OPER_STATUS_{item.name}", number=item)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, start=1):
            made = message.field.add(name=field, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
            if kind == _Field.TYPE_ENUM:
                made.type_name = f".{PACKAGE}.{status.name}"
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


PacketStreamRequest: Any = _message("PacketStreamRequest")
PacketStreamResponse: Any = _message("PacketStreamResponse")
SetPortOperStatusRequest: Any = _message("SetPortOperStatusRequest")
SetPortOperStatusResponse: Any = _message("SetPortOperStatusResponse")
