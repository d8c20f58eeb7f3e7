"""Carries out STF commands on a device and compares what comes out."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from p4switch import ir
from p4switch.device import Device, Transmit
from p4switch.ir import MatchKind
from p4switch.runtime import ActionCall, CloneSession, FieldMatch, MeterConfig, MulticastGroup, Replica, Table
from p4switch.stf.commands import AddEntry, Command, Configure, ExpectPacket, SendPacket, SetDefault, StfError

_INDEX = re.compile(r"\$(\d+)")
_DIGIT_BITS = {"x": 4, "o": 3, "b": 1}
_PACKET_SPACING_US = 1000

T = TypeVar("T")


@dataclass
class _Groups:
    """simple_switch_CLI's view of replication: nodes of ports, groups of nodes, sessions to a port or group."""

    nodes: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    members: dict[int, list[int]] = field(default_factory=dict)
    session_groups: dict[int, int] = field(default_factory=dict)

    def replicas(self, group: int) -> tuple[Replica, ...]:
        nodes = (self.nodes[handle] for handle in self.members.get(group, ()))
        return tuple(Replica(port, rid) for rid, ports in nodes for port in ports)


def run_stf(device: Device, commands: list[Command]) -> list[str]:
    """Run all commands; what differs from the expectations, one line each, empty if the test passes.

    Ports that the test never names have nothing attached: what is sent there is lost, as in p4c's own runner.

    :raises StfError: a command does not fit the program.
    """
    return _Run(device).run(commands)


class _Run:
    def __init__(self, device: Device) -> None:
        self._device = device
        self._state = device.state
        self._groups = _Groups()
        self._now_us = 0
        self._sent: dict[int, list[bytes]] = defaultdict(list)

    def run(self, commands: list[Command]) -> list[str]:
        for command in commands:
            match command:
                case SendPacket():
                    self._send(command)
                case AddEntry():
                    self._add(command)
                case SetDefault():
                    table = self._table(command.line, command.table)
                    action = _find_action(command.line, table, command.action)
                    table.set_default(_call(command.line, action, command.args))
                case Configure():
                    self._configure(command.line, command.words)
        attached = {item.port for item in commands if isinstance(item, SendPacket | ExpectPacket)}
        expected: dict[int, list[ExpectPacket]] = {port: [] for port in sorted(attached)}
        for command in commands:
            if isinstance(command, ExpectPacket):
                expected[command.port].append(command)
        return [line for port, wanted in expected.items() for line in _compare(port, wanted, self._sent[port])]

    def _send(self, command: SendPacket) -> None:
        self._now_us += _PACKET_SPACING_US
        sent: list[Transmit] = self._device.process(command.port, command.frame, self._now_us)
        for frame in sent:
            self._sent[frame.port].append(frame.frame)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _table(self, line: int, name: str) -> Table:
        tables = self._state.tables
        if name in tables:
            return tables[name]
        found = [table for full, table in tables.items() if full.endswith(name)]
        if len(found) != 1:
            raise StfError(line, f"{len(found)} tables are called {name!r}")
        return found[0]

    def _add(self, command: AddEntry) -> None:
        table = self._table(command.line, command.table)
        keys = table.spec.keys
        match: list[FieldMatch] = [_anything(key) for key in keys]
        for name, text in command.keys:
            position = _find_key(command.line, keys, name)
            match[position] = _match(command.line, keys[position], text)
        action = _find_action(command.line, table, command.action)
        priority = (command.priority or 0) + 1 if table.needs_priority else 0
        table.insert(tuple(match), _call(command.line, action, command.args), priority=priority)

    # -- everything else ---------------------------------------------------------------------------------------------

    def _configure(self, line: int, words: tuple[str, ...]) -> None:
        state, groups = self._state, self._groups
        match words:
            case "mc_mgrp_create", group:
                groups.members[int(group)] = []
            case "mc_node_create", rid, *ports:
                groups.nodes.append((int(rid), tuple(int(port) for port in ports)))
            case "mc_node_associate", group, handle:
                groups.members.setdefault(int(group), []).append(int(handle))
            case "mirroring_add", session, port:
                state.clone_sessions.insert(int(session), CloneSession((Replica(int(port)),)))
            case "mirroring_add_mc", session, group:
                groups.session_groups[int(session)] = int(group)
            case "register_read", name, _:
                self._array(line, state.registers, name)
            case "register_write", name, index, value:
                self._array(line, state.registers, name).write(int(index), int(value, 0))
            case "register_reset", name:
                register = self._array(line, state.registers, name)
                for i in range(len(register)):
                    register.write(i, 0)
            case "meter_set_rates", name, index, *rates:
                self._array(line, state.meters, name).configure(int(index), _rates(line, rates), self._now_us)
            case "meter_array_set_rates", name, *rates:
                meters = self._array(line, state.meters, name)
                for i in range(len(meters)):
                    meters.configure(i, _rates(line, rates), self._now_us)
            case _:
                raise StfError(line, f"command {words[0]!r} is not known")
        self._replicate()

    def _replicate(self) -> None:
        state, groups = self._state, self._groups
        for group in groups.members:
            made = MulticastGroup(groups.replicas(group))
            (state.multicast.modify if group in state.multicast else state.multicast.insert)(group, made)
        for session, group in groups.session_groups.items():
            clone = CloneSession(groups.replicas(group))
            known = session in state.clone_sessions
            (state.clone_sessions.modify if known else state.clone_sessions.insert)(session, clone)

    @staticmethod
    def _array(line: int, arrays: Mapping[str, T], name: str) -> T:
        if name not in arrays:
            raise StfError(line, f"there is no {name!r}")
        return arrays[name]


def _rates(line: int, rates: list[str]) -> MeterConfig:
    """``rate:burst`` twice, committed first; rates in units a microsecond."""
    if len(rates) != 2:
        raise StfError(line, "a meter has two rates")
    (committed, committed_burst), (peak, peak_burst) = (item.split(":") for item in rates)
    return MeterConfig(round(float(committed) * 1e6), int(committed_burst), round(float(peak) * 1e6), int(peak_burst))


def _compare(port: int, wanted: list[ExpectPacket], sent: list[bytes]) -> list[str]:
    if any(item.pattern is None for item in wanted):
        return []
    if len(wanted) != len(sent):
        return [f"port {port}: {len(sent)} packets instead of {len(wanted)}: {[frame.hex() for frame in sent]}"]
    return [
        f"line {item.line}: port {port}: {frame.hex()} is not {item.pattern}{'$' if item.exact else ''}"
        for item, frame in zip(wanted, sent, strict=True)
        if not _fits(item, frame)
    ]


def _fits(item: ExpectPacket, frame: bytes) -> bool:
    digits, pattern = frame.hex().upper(), item.pattern or ""
    if len(digits) < len(pattern) or (item.exact and len(digits) != len(pattern)):
        return False
    return all(wanted in ("*", digit) for wanted, digit in zip(pattern, digits, strict=False))


def _find_key(line: int, keys: tuple[ir.Key, ...], name: str) -> int:
    """Position of a key by its name or the end of it; ``a$0.b`` is ``a[0].b``."""
    name = _INDEX.sub(r"[\1]", name)
    names = [key.name for key in keys]
    for candidate in (name, f"{name}$", f"{name}.$valid$"):
        if candidate in names:
            return names.index(candidate)
    found = [i for i, known in enumerate(names) if known.endswith((f".{name}", f".{name}$"))]
    if len(found) != 1:
        raise StfError(line, f"{len(found)} keys are called {name!r}")
    return found[0]


def _find_action(line: int, table: Table, name: str) -> ir.Action:
    if name in table.actions:
        return table.actions[name]
    found = [action for full, action in table.actions.items() if full.endswith(name)]
    if len(found) != 1:
        raise StfError(line, f"{len(found)} actions of {table.name} are called {name!r}")
    return found[0]


def _call(line: int, action: ir.Action, args: tuple[tuple[str, str], ...]) -> ActionCall:
    given = dict(args)
    if given.keys() != {param.name for param in action.params}:
        raise StfError(line, f"{action.name} takes {[param.name for param in action.params]}")
    return ActionCall(action.name, tuple(int(given[param.name], 0) for param in action.params))


def _anything(key: ir.Key) -> FieldMatch:
    match key.kind:
        case MatchKind.EXACT:
            return 0
        case MatchKind.LPM | MatchKind.TERNARY:
            return 0, 0
        case MatchKind.RANGE:
            return 0, (1 << key.width) - 1
        case MatchKind.OPTIONAL:
            return None


def _match(line: int, key: ir.Key, text: str) -> FieldMatch:
    try:
        return _typed_match(key, text)
    except ValueError:
        raise StfError(line, f"{text!r} is no {key.kind} match") from None


def _typed_match(key: ir.Key, text: str) -> FieldMatch:
    ones = (1 << key.width) - 1
    match key.kind:
        case MatchKind.EXACT | MatchKind.OPTIONAL:
            return int(text, 0)
        case MatchKind.LPM:
            value, slash, length = text.partition("/")
            bits = int(length) if slash else key.width
            return int(value, 0) & (ones ^ ones >> bits), bits
        case MatchKind.RANGE:
            low, _, high = text.partition("..")
            return int(low, 0), int(high or low, 0)
        case MatchKind.TERNARY:
            value, ands, mask = text.partition("&&&")
            return (int(value, 0) & int(mask, 0), int(mask, 0)) if ands else _wildcards(text, ones)


def _wildcards(text: str, ones: int) -> tuple[int, int]:
    """``0x25**`` as value and mask."""
    if "*" not in text:
        return int(text, 0), ones
    bits = _DIGIT_BITS[text[1]]
    base, digits = 1 << bits, text[2:]
    value = int(digits.replace("*", "0"), base)
    mask = int("".join("0" if digit == "*" else "1" for digit in digits), 2)
    spread = 0
    for i in range(len(digits)):
        spread |= (base - 1 if mask >> i & 1 else 0) << i * bits
    return value & ones, spread & ones
