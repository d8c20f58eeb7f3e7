"""What the server says when it refuses: canonical codes, and how the switch's own errors map to them."""

from __future__ import annotations

import enum

from p4switch.errors import (
    BadEntry,
    ConstError,
    DuplicateEntry,
    InUse,
    LoadError,
    NoSuchEntry,
    StateError,
    SwitchError,
    TableFull,
    UnsupportedError,
)

SPACE = "ALL-sswitch-p4org"
"""Error space of simple_switch_grpc; clients that look at it find the same here."""


class Code(enum.IntEnum):
    """google.rpc.Code, as far as a P4Runtime server uses it."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class Refused(SwitchError):
    """A request, or one update of it, is refused and changed nothing. ``code`` is canonical.

    ``strict``: the code that simple_switch_grpc gives instead, where it is another one.
    """

    def __init__(self, code: Code, message: str, strict: Code | None = None) -> None:
        self.code = code
        self.strict = strict
        self.message = message
        super().__init__(message)


def invalid(message: str, strict: Code | None = None) -> Refused:
    """The client sent something that is wrong whatever the state."""
    return Refused(Code.INVALID_ARGUMENT, message, strict)


_CODES: tuple[tuple[type[SwitchError], Code], ...] = (
    (DuplicateEntry, Code.ALREADY_EXISTS),
    (NoSuchEntry, Code.NOT_FOUND),
    (TableFull, Code.RESOURCE_EXHAUSTED),
    (ConstError, Code.PERMISSION_DENIED),
    (InUse, Code.FAILED_PRECONDITION),
    (BadEntry, Code.INVALID_ARGUMENT),
    (StateError, Code.UNKNOWN),
    (LoadError, Code.INVALID_ARGUMENT),
    (UnsupportedError, Code.INVALID_ARGUMENT),
)

_STRICT = {Code.RESOURCE_EXHAUSTED: Code.UNKNOWN, Code.OUT_OF_RANGE: Code.INVALID_ARGUMENT}
"""Where simple_switch_grpc is coarser than the specification (PI's device_mgr.cpp, common.cpp)."""
_STRICT_KINDS: tuple[tuple[type[SwitchError], Code], ...] = ((ConstError, Code.UNKNOWN), (InUse, Code.UNKNOWN))


def refusal(error: SwitchError, *, strict: bool = False) -> Refused:
    """The refusal that an error of the switch means. ``strict``: with simple_switch_grpc's codes."""
    if isinstance(error, Refused):
        return Refused(error.strict or _STRICT.get(error.code, error.code), error.message) if strict else error
    codes = _STRICT_KINDS + _CODES if strict else _CODES
    code = next((code for kind, code in codes if isinstance(error, kind)), Code.UNKNOWN)
    return Refused(_STRICT.get(code, code) if strict else code, str(error))
