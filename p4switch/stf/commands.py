"""STF, the text format of p4c's packet tests: one command a line, ``#`` begins a comment.

Understood: packet, expect, add, setdefault, mc_mgrp_create, mc_node_create, mc_node_associate, mirroring_add,
mirroring_add_mc, register_read, register_write, register_reset, meter_set_rates, meter_array_set_rates, wait, and the
``_get`` commands, which only print.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from p4switch.errors import SwitchError
from splitmerge.decimals import decimal

_ACTION = re.compile(r"(?P<name>[^\s(]+)\((?P<args>[^)]*)\)\s*(=.*)?\Z")
_LARGEST = 0xFFFF_FFFF
"""Of ports and priorities."""
_HEX = re.compile(r"[0-9A-Fa-f]*\Z")
_PATTERN = re.compile(r"[0-9A-Fa-f*]*\Z")
_WITHOUT_EFFECT = frozenset({"wait", "mirroring_get", "meter_get_rates", "counter_read", "mc_dump"})


class StfError(SwitchError):
    """A line of an STF file cannot be carried out."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(f"line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class SendPacket:
    line: int
    port: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class ExpectPacket:
    """``pattern`` in hexadecimal with ``*`` for any digit; None: any packets. ``exact``: no bytes may follow."""

    line: int
    port: int
    pattern: str | None
    exact: bool


@dataclass(frozen=True, slots=True)
class AddEntry:
    """``keys`` and ``args`` are (name, value) as written."""

    line: int
    table: str
    priority: int | None
    keys: tuple[tuple[str, str], ...]
    action: str
    args: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SetDefault:
    line: int
    table: str
    action: str
    args: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Configure:
    """A command in simple_switch_CLI's words."""

    line: int
    words: tuple[str, ...]


Command: TypeAlias = SendPacket | ExpectPacket | AddEntry | SetDefault | Configure


def parse_stf(text: str) -> list[Command]:
    """The commands of a file, in order.

    :raises StfError: a line is malformed.
    """
    commands = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].strip()
        if line and line.split()[0] not in _WITHOUT_EFFECT:
            commands.append(_command(number, line))
    return commands


def _command(number: int, line: str) -> Command:
    word, _, rest = line.partition(" ")
    match word:
        case "packet":
            return _packet(number, rest)
        case "expect":
            return _expect(number, rest)
        case "add":
            return _add(number, rest)
        case "setdefault":
            table, _, call = rest.strip().partition(" ")
            action, args = _action(number, call.strip())
            return SetDefault(number, table, action, args)
    return Configure(number, tuple(line.split()))


def _port(number: int, text: str) -> int:
    port = decimal(text, _LARGEST)
    if port is None:
        raise StfError(number, f"{text!r} is no port")
    return port


def _packet(number: int, rest: str) -> SendPacket:
    port, *data = rest.split()
    digits = "".join(data)
    if not _HEX.match(digits) or len(digits) % 2:
        raise StfError(number, "a packet is an even number of hexadecimal digits")
    return SendPacket(number, _port(number, port), bytes.fromhex(digits))


def _expect(number: int, rest: str) -> ExpectPacket:
    port, *data = rest.split()
    digits = "".join(data)
    exact = digits.endswith("$")
    digits = digits.removesuffix("$")
    if not _PATTERN.match(digits):
        raise StfError(number, "an expected packet is hexadecimal digits and *")
    return ExpectPacket(number, _port(number, port), digits.upper() or None, exact)


def _action(number: int, text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    found = _ACTION.match(text)
    if not found:
        raise StfError(
            number,
            f"{text!r} is no action",
        )
    return found["name"], _pairs(number, found["args"].split(","))


def _pairs(number: int, items: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in items:
        name, colon, value = item.strip().partition(":")
        if not item.strip():
            continue
        if not colon:
            raise StfError(number, f"{item!r} is not name:value")
        pairs.append((name.strip(), value.strip()))
    return tuple(pairs)


def _add(number: int, rest: str) -> AddEntry:
    head, parenthesis, tail = rest.partition("(")
    table, *middle = head.split()
    if not parenthesis or not middle:
        raise StfError(number, "add TABLE [PRIORITY] KEY:VALUE … ACTION(ARG:VALUE, …)")
    action, args = _action(number, middle.pop() + parenthesis + tail)
    priority = decimal(middle[0], _LARGEST) if middle else None
    if priority is not None:
        del middle[0]
    return AddEntry(number, table, priority, _pairs(number, middle), action, args)
