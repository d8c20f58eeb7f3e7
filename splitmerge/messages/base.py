"""What all messages have in common."""

from __future__ import annotations

import msgspec

PROTOCOL = 9
"""Version of this vocabulary; a `Hello` with another one is refused."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Base of every message."""
