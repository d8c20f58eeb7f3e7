"""etcd as the lock service of `SYNCH`, for replicas on several hosts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from splitmerge.errors import BadInput

_ADDRESS = re.compile(r"etcd(?P<tls>\+tls)?://\[?(?P<host>[^\]/]+?)\]?:(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """Where etcd listens for clients."""

    host: str
    port: int
    tls: bool = False
    """Whether this side shows its certificate, and wants one (``etcd+tls://``)."""

    @classmethod
    def parse(cls, text: str, where: str = "locks") -> EtcdAddress:
        """``etcd://host:port`` or ``etcd+tls://host:port`` (IPv6 hosts in brackets). :raises BadInput:"""
        match = _ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match["port"]) <= 0xFFFF:
            raise BadInput(where, f"{text!r} is no lock service", "write in-process or etcd://host:port")
        return cls(match["host"], int(match["port"]), match["tls"] is not None)
