"""Digest lists: gathering, de-duplication and acknowledgement as a sans-IO core.

For each digest that the client enabled: messages gather until ``max_list_size`` distinct ones are there or
``max_timeout`` passed since the first; then they go as one list. A message that is in a list not yet
acknowledged is not sent again until ``ack_timeout`` has passed. Times are in nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Values: TypeAlias = tuple[int, ...]
LARGEST_LIST = 1000
"""Messages in one list where the client set no limit."""
LARGEST_CACHE = 65_536
"""Messages not acknowledged; beyond it, new ones are dropped and counted."""


@dataclass(frozen=True, slots=True)
class DigestConfig:
    """``max_timeout_ns``, ``max_list_size`` (0: no limit) and ``ack_timeout_ns`` of a DigestEntry."""

    max_timeout_ns: int = 0
    max_list_size: int = 0
    ack_timeout_ns: int = 0


@dataclass(frozen=True, slots=True)
class SendList:
    """Send these messages as list ``list_id``."""

    digest_id: int
    list_id: int
    values: tuple[Values, ...]


@dataclass(slots=True)
class _Buffer:
    config: DigestConfig
    waiting: dict[Values, None] = field(default_factory=dict)
    first_ns: int = 0
    sent: dict[int, tuple[int, tuple[Values, ...]]] = field(default_factory=dict)
    """Lists not acknowledged: when sent, and what."""
    cache: dict[Values, int] = field(default_factory=dict)
    """Messages in such lists, with the list's id."""


class DigestBuffers:
    """Buffers of all enabled digests. Every method that takes ``now_ns`` also returns the lists now due."""

    def __init__(self) -> None:
        self._buffers: dict[int, _Buffer] = {}
        self._next_list = 1
        self.dropped = 0
        """Messages of digests that nobody enabled, or beyond `LARGEST_CACHE`."""

    @property
    def configs(self) -> dict[int, DigestConfig]:
        """Configurations of the enabled digests, by id."""
        return {number: buffer.config for number, buffer in self._buffers.items()}

    def enable(self, digest_id: int, config: DigestConfig) -> None:
        """Enable a digest, or give it another configuration; what waits stays."""
        buffer = self._buffers.get(digest_id)
        if buffer is None:
            self._buffers[digest_id] = _Buffer(config)
        else:
            buffer.config = config

    def disable(self, digest_id: int) -> None:
        """Forget a digest and what waits of it."""
        self._buffers.pop(digest_id, None)

    def receive(self, digest_id: int, values: Values, now_ns: int) -> list[SendList]:
        """A message from the data plane."""
        buffer = self._buffers.get(digest_id)
        if buffer is None:
            self.dropped += 1
            return []
        self._expire(buffer, now_ns)
        if values in buffer.cache or values in buffer.waiting:
            return []
        if len(buffer.cache) + len(buffer.waiting) >= LARGEST_CACHE:
            self.dropped += 1
            return []
        if not buffer.waiting:
            buffer.first_ns = now_ns
        buffer.waiting[values] = None
        limit = buffer.config.max_list_size or LARGEST_LIST
        if len(buffer.waiting) >= limit or not buffer.config.max_timeout_ns:
            return [self._send(digest_id, buffer, now_ns)]
        return []

    def acknowledge(self, digest_id: int, list_id: int) -> bool:
        """The client has this list. False if the digest is not enabled; an old or unknown list is no error."""
        buffer = self._buffers.get(digest_id)
        if buffer is None:
            return False
        self._forget(buffer, list_id)
        return True

    def tick(self, now_ns: int) -> list[SendList]:
        """Lists whose time has come."""
        due = []
        for digest_id, buffer in self._buffers.items():
            self._expire(buffer, now_ns)
            if buffer.waiting and now_ns - buffer.first_ns >= buffer.config.max_timeout_ns:
                due.append(self._send(digest_id, buffer, now_ns))
        return due

    def deadline_ns(self) -> int | None:
        """When `tick` next has something to send; None: nothing waits."""
        waiting = [b.first_ns + b.config.max_timeout_ns for b in self._buffers.values() if b.waiting]
        return min(waiting, default=None)

    def forget_unacknowledged(self) -> None:
        """The primary changed: the new one has acknowledged nothing and has seen nothing."""
        for buffer in self._buffers.values():
            buffer.sent.clear()
            buffer.cache.clear()

    def _send(self, digest_id: int, buffer: _Buffer, now_ns: int) -> SendList:
        limit = buffer.config.max_list_size or LARGEST_LIST
        values = tuple(buffer.waiting)[:limit]
        for item in values:
            del buffer.waiting[item]
        list_id, self._next_list = self._next_list, self._next_list + 1
        if buffer.config.ack_timeout_ns:
            buffer.sent[list_id] = now_ns, values
            buffer.cache.update(dict.fromkeys(values, list_id))
        return SendList(digest_id, list_id, values)

    def _expire(self, buffer: _Buffer, now_ns: int) -> None:
        old = [n for n, (sent_ns, _) in buffer.sent.items() if now_ns - sent_ns >= buffer.config.ack_timeout_ns]
        for list_id in old:
            self._forget(buffer, list_id)

    @staticmethod
    def _forget(buffer: _Buffer, list_id: int) -> None:
        _, values = buffer.sent.pop(list_id, (0, ()))
        for item in values:
            if buffer.cache.get(item) == list_id:
                del buffer.cache[item]
