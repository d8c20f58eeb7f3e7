"""Frames of the control network: a sans-IO codec.

A frame is a 4-byte big-endian length and that many bytes of msgpack: one `splitmerge.messages` message.
Feed received bytes to `Decoder.receive_data`, take messages from `Decoder.messages`; `encode` gives bytes to send.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from splitmerge.errors import WireError
from splitmerge.flowkey import FlowKey
from splitmerge.messages import AnyMessage, Message

MAX_FRAME = 16 * 1024 * 1024
"""Bytes in one frame; a longer one is refused before it is stored."""


def _encode_key(value: object) -> bytes:
    """msgspec takes no subclass of bytes; a flow key travels as the bytes it is."""
    if isinstance(value, FlowKey):
        return bytes(value)
    raise NotImplementedError(f"{type(value).__name__} cannot travel in a message")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_key)
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """The frame of a message. :raises WireError: if it would be longer than `MAX_FRAME`."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise WireError(f"{type(message).__name__} of {len(body)} bytes; a frame holds {MAX_FRAME}")
    return len(body).to_bytes(4, "big") + body


class Decoder:
    """Bytes in, messages out. After a `WireError` the stream has lost its frames: close it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._broken = False

    def receive_data(self, data: bytes) -> None:
        """Add received bytes; `messages` parses them."""
        self._buffer += data

    def messages(self) -> Iterator[Message]:
        """Every whole message received so far.

        :raises WireError: for a frame that is too long or is no message of this protocol, now and ever after.
        """
        while (message := self.next_message()) is not None:
            yield message

    def next_message(self) -> Message | None:
        """The next whole message, None if there is none yet. :raises WireError: as `messages` does."""
        if self._broken:
            raise WireError("the stream is broken: an earlier frame could not be read")
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if length > MAX_FRAME:
            self._broken = True
            raise WireError(f"frame of {length} bytes announced; the most is {MAX_FRAME}")
        if len(self._buffer) < 4 + length:
            return None
        body = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        try:
            message: Message = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._broken = True
            raise WireError(f"not a message of the control network: {error}") from None
        return message
