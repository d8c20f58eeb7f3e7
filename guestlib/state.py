"""The registry of state types: what may cross the wire, and under which name.

State is msgspec Structs, encoded as msgpack. A type has a ``kind``, the name it travels under (its class name unless
said otherwise). Nothing but a registered type can be created, exported or imported.
"""

from __future__ import annotations

from typing import Any

import msgspec

from guestlib.errors import StateError
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey


def _encode_hook(value: object) -> object:
    """msgspec takes no subclass of bytes: a flow key inside a state travels as its bytes."""
    if isinstance(value, FlowKey):
        return bytes(value)
    raise NotImplementedError(f"{type(value).__name__} cannot travel in a state")


def _decode_hook(wanted: type, value: object) -> object:
    if wanted is FlowKey and isinstance(value, bytes):
        return FlowKey.from_wire(value)
    raise NotImplementedError(f"{wanted.__name__} cannot travel in a state")


class StateTypes:
    """Types by name and names by type."""

    def __init__(self) -> None:
        self.kinds: dict[type, str] = {}
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {}
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_encode_hook)

    def register(self, state_type: type, kind: str | None = None) -> None:
        """Let this Struct type be state, under ``kind`` (its class name by default). Registering it again is no error.

        :raises StateError: if it is no msgspec Struct, cannot be decoded, or the name or type is taken.
        """
        if not (isinstance(state_type, type) and issubclass(state_type, msgspec.Struct)):
            shown = state_type.__qualname__ if isinstance(state_type, type) else repr(state_type)
            remedy = "write `class Flow(msgspec.Struct)` with typed fields, and register that"
            raise StateError(f"register_state: {shown} is no msgspec.Struct type ({remedy})")
        name = kind or state_type.__name__
        if self.kinds.get(state_type) == name:
            return
        if name in self._decoders or state_type in self.kinds:
            raise StateError(f"state type {state_type.__qualname__} or name {name!r} is registered otherwise already")
        try:
            decoder = msgspec.msgpack.Decoder(state_type, dec_hook=_decode_hook)
        except TypeError as error:
            raise StateError(f"{state_type.__qualname__} cannot be state: {error}") from None
        self._decoders[name] = decoder
        self.kinds[state_type] = name

    def kind_of(self, state: object) -> str:
        """The name that this state's type travels under. :raises StateError: if the type is not registered."""
        kind = self.kinds.get(type(state))
        if kind is None:
            raise StateError(f"state type {type(state).__qualname__} is not registered: call register_state in setup")
        return kind

    def encode(self, state: object) -> bytes:
        """msgpack of a state. :raises StateError: if something in it cannot be encoded."""
        try:
            return self._encoder.encode(state)
        except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
            raise StateError(f"{type(state).__qualname__} cannot be encoded: {error}") from error

    def decode(self, kind: str, raw: bytes) -> Any:
        """The state of this kind. :raises StateError: if the kind is not registered or the bytes do not fit it."""
        decoder = self._decoders.get(kind)
        if decoder is None:
            known = ", ".join(sorted(self._decoders)) or "none"
            raise StateError(f"state type {kind!r} is not registered here (registered: {known})")
        try:
            return decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, NotImplementedError, RecursionError, BadInput) as error:
            raise StateError(f"bytes are no {kind}: {error}") from None
