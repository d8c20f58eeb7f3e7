"""A middlebox whose setup is well, and whose replicas end as they start."""

from __future__ import annotations

import os
import threading

import msgspec

from guestlib import Guest, Packet

STATUS = 9


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """``after``: seconds from a replica's fork to its end; 0: it never says Hello."""

    after: float = 0.0


class Stillborn:
    """Its child processes end; the agent, which forks them, does not."""

    def setup(self, guest: Guest) -> None:
        after = guest.configure(Settings).after
        os.register_at_fork(after_in_child=threading.Timer(after, os._exit, (STATUS,)).start if after else _end)

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        guest.send(packet.frame)


def _end() -> None:
    os._exit(STATUS)
