"""What is said on the control socket: one JSON object a line, one answer each, no I/O here.

    {"do": "ports"}                                         → {"ports": [{"port": 1, "interface": "veth1", …}, …]}
    {"do": "port-add", "port": 2, "interface": "veth2"}     → {}
    {"do": "port-remove", "port": 2}                        → {}

A request that is refused, or is none, is answered {"error": "why"}, and nothing has changed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Protocol

from p4switch.admin.ports import PortState
from p4switch.config import LARGEST_PORT, InterfaceBinding, parse_binding
from splitmerge.errors import SplitmergeError

LONGEST = 4096
"""Bytes of a request."""


class Ports(Protocol):
    """As `SwitchPorts`."""

    def add(self, item: InterfaceBinding) -> None: ...
    def remove(self, port: int) -> None: ...
    def all(self) -> list[PortState]: ...


class _BadRequest(Exception):
    """Not a request: says what is wrong with it."""


def answer(line: bytes, ports: Ports) -> bytes:
    """Carry out a request, whatever it is."""
    try:
        result = _carry_out(_parse(line), ports)
    except (_BadRequest, SplitmergeError, TimeoutError) as error:
        result = {"error": str(error)}
    return json.dumps(result).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > LONGEST:
        raise _BadRequest(f"a request has up to {LONGEST} bytes")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise _BadRequest("not JSON") from None
    if not isinstance(request, dict):
        raise _BadRequest("a request is an object")
    return request


def _carry_out(request: dict[str, Any], ports: Ports) -> dict[str, Any]:
    match request:
        case {"do": "ports", **rest} if not rest:
            return {"ports": [asdict(state) for state in ports.all()]}
        case {"do": "port-add", "port": int(port), "interface": str(name), **rest} if not rest:
            ports.add(parse_binding(f"{_number(port)}@{name}", "port-add"))
        case {"do": "port-remove", "port": int(port), **rest} if not rest:
            ports.remove(_number(port))
        case _:
            raise _BadRequest("no such request: see p4switch.admin.requests")
    return {}


def _number(port: int) -> int:
    if isinstance(port, bool) or not 0 <= port <= LARGEST_PORT:
        raise _BadRequest(f"port {port} is out of range 0..{LARGEST_PORT}")
    return port
