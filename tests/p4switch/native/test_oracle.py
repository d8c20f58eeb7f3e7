"""The native back end against the interpreter: the same packets and table states, the same everything.

States and packets come from a seed that hypothesis draws. Entries are made from keys that the interpreter was asked for
before, so that many lookups hit; packets from those of the programs' STF files, changed in all ways.
"""

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p4switch.device import Device
from p4switch.errors import StateError
from p4switch.interpreter import Interpreter
from p4switch.ir import MatchKind, Program
from p4switch.load import load_program
from p4switch.native import NativeDevice
from p4switch.runtime import (
    ActionCall,
    ActionSet,
    CloneSession,
    Count,
    Drop,
    Group,
    GroupMember,
    GroupRef,
    MemberRef,
    MeterConfig,
    MulticastGroup,
    Replica,
    State,
    Table,
    WeightedAction,
)
from p4switch.runtime.hashes import csum16
from p4switch.stf import parse_stf, run_stf
from p4switch.stf.commands import SendPacket

PROGRAMS = Path(__file__).parent.parent / "programs"
OURS = Path(__file__).parents[3] / "p4src" / "build" / "splitmerge.json"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.json"))


class Twins:
    """One program on both back ends."""

    def __init__(self, path: Path) -> None:
        self.program: Program = load_program(path.read_bytes())
        self.now = 0
        self.keys: dict[str, list[tuple[int, ...]]] = {}
        self.native = NativeDevice(self.program, clock=lambda: self.now)
        self.oracle = Device(self.program, clock=lambda: self.now, backend=self._watching)

    def _watching(self, state: State) -> Interpreter:
        for table in state.tables.values():
            self._watch(table)
        return Interpreter(state)

    def _watch(self, table: Table) -> None:
        find, seen = table.find, self.keys.setdefault(table.name, [])

        def watched(key: Any) -> Any:
            if len(seen) < 200:
                seen.append(key if isinstance(key, tuple) else (key,))
            return find(key)

        table.find = watched

    def change(self, name: str, *args: Any, **options: Any) -> None:
        """Call a method, by its path in the state, on both; both must refuse or neither."""
        outcomes = []
        for device in (self.native, self.oracle):
            with device.state.lock:
                target: Any = device.state
                for part in name.split("/"):
                    target = target[part[1:]] if part.startswith(":") else getattr(target, part)
                try:
                    target(*args, **options)
                    outcomes.append("done")
                except StateError as error:
                    outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]

    def send(self, port: int, frame: bytes) -> None:
        """Process a packet on both and compare what comes out."""
        self.now += 7
        with self.oracle.state.lock:
            expected = self.oracle.process(port, frame, self.now)
        with self.native.state.lock:
            found = self.native.process(port, frame, self.now)
        assert found == expected, f"port {port}, frame {frame.hex()}"

    def compare(self) -> None:
        """Everything that the control plane can see."""
        one, other = self.native.state, self.oracle.state
        assert one.drops == +other.drops
        for name, counter in other.counters.items():
            assert list(one.counters[name]) == list(counter), name
        for name, register in other.registers.items():
            assert list(one.registers[name].values) == register.values, name
        for name, table in other.tables.items():
            assert list(map(seen, one.tables[name].entries())) == list(map(seen, table.entries())), name
        assert one.digests.take() == other.digests.take()
        assert one.digests.dropped == other.digests.dropped


def seen(entry: Any) -> tuple[object, ...]:
    return entry.match, entry.priority, entry.action, entry.packets, entry.bytes, entry.last_hit_us


# -- states ----------------------------------------------------------------------------------------------------------


def number(rng: random.Random, width: int) -> int:
    return rng.choice([0, 1, (1 << width) - 1, rng.getrandbits(width), rng.getrandbits(min(width, 3))]) % (1 << width)


def field_match(rng: random.Random, kind: MatchKind, width: int, value: int) -> Any:
    ones = (1 << width) - 1
    match kind:
        case MatchKind.EXACT:
            return value
        case MatchKind.LPM:
            length = rng.choice([0, width, rng.randint(0, width)])
            return value & (ones ^ ones >> length), length
        case MatchKind.TERNARY:
            mask = rng.choice([0, ones, rng.getrandbits(width)])
            return value & mask, mask
        case MatchKind.RANGE:
            return max(0, value - rng.choice([0, 1, value])), min(ones, value + rng.choice([0, 1, ones]))
        case MatchKind.OPTIONAL:
            return rng.choice([value, None])


def action_call(rng: random.Random, table: Table) -> ActionCall:
    name = rng.choice(sorted(table.actions))
    params = table.actions[name].params
    return ActionCall(name, tuple(number(rng, param.width) for param in params))


def entry_action(rng: random.Random, twins: Twins, table: Table) -> Any:
    if table.profile is None:
        return action_call(rng, table)
    weighted = tuple(
        WeightedAction(action_call(rng, table), rng.randint(1, 3), rng.choice([None, 1]))
        for _ in range(rng.randint(1, 3))
    )
    refs = [MemberRef(rng.randint(1, 6))]
    if table.profile.spec.selector is not None:
        return rng.choice([*refs, GroupRef(rng.randint(1, 4)), ActionSet(weighted)])
    return refs[0]


def populate(rng: random.Random, twins: Twins) -> None:
    """Random entries, most of them for keys seen before; modifications and removals among them."""
    state = twins.oracle.state
    for name, profile in state.profiles.items():
        table = next(table for table in state.tables.values() if table.profile is profile)
        for member in range(1, 6):
            method = rng.choice(["insert_member", "modify_member"])
            twins.change(f"profiles/:{name}/{method}", member, action_call(rng, table))
        for group in range(1, 4):
            members = tuple(
                GroupMember(rng.randint(1, 5), rng.randint(1, 2), rng.choice([None, 1, 2]))
                for _ in range(rng.randint(0, 3))
            )
            method = rng.choice(["insert_group", "modify_group"])
            twins.change(f"profiles/:{name}/{method}", group, Group(members))
    for name, table in state.tables.items():
        populate_table(rng, twins, name, table)
    for port in range(1, 3):
        down = rng.random() < 0.3
        twins.change(f"ports_down/{'add' if down else 'discard'}", port)
    for number_of in range(1, 5):
        replicas = tuple({Replica(rng.randint(0, 5), rng.randint(0, 3)) for _ in range(rng.randint(0, 3))})
        method = rng.choice(["insert", "modify", "delete"])
        value = () if method == "delete" else (MulticastGroup(replicas),)
        twins.change(f"multicast/{method}", number_of, *value)
        value = () if method == "delete" else (CloneSession(replicas, packet_length=rng.choice([0, 20, 60])),)
        twins.change(f"clone_sessions/{method}", number_of, *value)
    for name, register in state.registers.items():
        twins.change(f"registers/:{name}/write", rng.randrange(len(register)), number(rng, register.spec.width))
    for name, counter in state.counters.items():
        twins.change(f"counters/:{name}/write", rng.randrange(len(counter)), Count(5, 300))
    for name, meter in state.meters.items():
        config = rng.choice([None, MeterConfig(rng.randint(1, 10**5), 100, rng.randint(1, 10**6), 200)])
        twins.change(f"meters/:{name}/configure", rng.randrange(len(meter)), config, twins.now)
    for name, members in state.value_sets.items():
        pairs = tuple((number(rng, members.width), number(rng, members.width)) for _ in range(2))
        twins.change(f"value_sets/:{name}/replace", pairs)


def populate_table(rng: random.Random, twins: Twins, name: str, table: Table) -> None:
    if rng.random() < 0.3 and table.actions:
        twins.change(f"tables/:{name}/set_default", action_call(rng, table))
    if rng.random() < 0.1:
        twins.change(f"tables/:{name}/reset_default")
    for _ in range(rng.randint(0, 6) if table.spec.keys else 0):
        pool = twins.keys[name] or [tuple(number(rng, key.width) for key in table.spec.keys)]
        values = rng.choice(pool)
        match = tuple(
            field_match(rng, key.kind, key.width, value) for key, value in zip(table.spec.keys, values, strict=True)
        )
        options = {"priority": rng.randint(1, 3) if table.needs_priority else 0}
        known = [(entry.match, {"priority": entry.priority}) for entry in table.entries()]
        method = rng.choice(["insert", "insert", "modify", "delete"])
        if method != "insert" and known:
            match, options = rng.choice(known)
        if method == "delete":
            twins.change(f"tables/:{name}/delete", match, options["priority"])
        else:
            twins.change(f"tables/:{name}/{method}", match, entry_action(rng, twins, table), **options)
    for one, other in zip(
        twins.native.state.tables[name].entries(), twins.oracle.state.tables[name].entries(), strict=True
    ):
        if other.meter is not None and rng.random() < 0.5:
            assert one.meter is not None
            config = MeterConfig(rng.randint(1, 10**5), 100, rng.randint(1, 10**6), 200)
            one.meter.configure(config, name, twins.now)
            other.meter.configure(config, name, twins.now)


# -- packets ---------------------------------------------------------------------------------------------------------


def changed(rng: random.Random, frame: bytes) -> bytes:
    """The frame, or something near it."""
    data = bytearray(frame)
    for _ in range(rng.choice([0, 0, 1, 1, 3])):
        if data:
            at = rng.randrange(len(data))
            data[at] = rng.choice([0, 1, 255, data[at] ^ 1 << rng.randrange(8), rng.randrange(256)])
    match rng.randrange(6):
        case 0:
            return bytes(data[: rng.randint(0, len(data))])
        case 1:
            return bytes(data) + rng.randbytes(rng.randint(1, 40))
    return bytes(data)


def ipv4(rng: random.Random) -> bytes:
    """Ethernet and IPv4 from small pools of addresses, with options at times, mostly with a right checksum."""
    options = rng.randbytes(4 * rng.choice([0, 0, 0, 1, 2, 10]))
    protocol = rng.choice([1, 6, 17, 17, 89])
    payload = struct.pack("!HHHH", rng.choice([80, 4000, 8 << 8]), rng.choice([80, 4001]), 8, 0) + rng.randbytes(4)
    fragment = rng.choice([0, 0, 0, 0x2000, 5])
    head = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + len(options) // 4,
        0,
        20 + len(options) + len(payload),
        1,
        fragment,
        rng.choice([64, 64, 1, 0, 2]),
        protocol,
        0,
        bytes([10, 0, rng.choice([1, 2]), rng.choice([1, 2, 3])]),
        bytes([rng.choice([10, 10, 10, 224]), 0, rng.choice([1, 2]), rng.choice([1, 2])]),
    )
    head += options
    checksum = csum16(int.from_bytes(head), 8 * len(head)) ^ (rng.random() < 0.1)
    return head[:10] + struct.pack("!H", checksum) + head[12:] + payload


def ipv6(rng: random.Random) -> bytes:
    next_header = rng.choice([6, 17, 58, 44, 0])
    solicitation = struct.pack("!BBHI", 135, 0, 0, 0) + bytes(15) + b"\1" + rng.choice([b"", bytes(8)])
    body = {
        58: rng.choice([solicitation, struct.pack("!BBHHH", rng.choice([128, 129]), 0, 0, 5, 6)]),
        44: struct.pack("!BBHI", 17, 0, rng.choice([0, 1, 9]), 1) + struct.pack("!HHHH", 1, 2, 8, 0),
    }.get(next_header, struct.pack("!HHHH", rng.choice([80, 4000]), rng.choice([80, 4000]), 8, 0))
    addresses = [b"\xfd" + bytes(14) + bytes([rng.choice([1, 2])]), b"\xfe\x80" + bytes(13) + b"\2"]
    source, target = rng.choice(addresses), rng.choice([*addresses, b"\xff\x02" + bytes(13) + b"\1"])
    return struct.pack("!IHBB", 6 << 28, len(body), next_header, rng.choice([64, 255, 1])) + source + target + body


def ours(rng: random.Random) -> bytes:
    """A frame for the project's program."""
    target = rng.choice(["0200000000fe", "0200000000fe", "ffffffffffff", "333300000001"])
    head = bytes.fromhex(target + "020000000102")
    match rng.randrange(6):
        case 0 | 1:
            return head + b"\x08\x00" + ipv4(rng)
        case 2:
            return head + b"\x86\xdd" + ipv6(rng)
        case 3:
            address = bytes([10, 0, 1, rng.choice([1, 2])])
            arp = struct.pack(
                "!HHBBH6s4s6s4s", 1, 0x800, 6, 4, rng.choice([1, 2]), head[6:], address, bytes(6), address
            )
            return head + b"\x08\x06" + arp
        case 4:
            return head + b"\x88\xb5" + struct.pack("!BBIIH", rng.randrange(8), 0, 7, rng.randrange(5), 0x800) + b"xyz"
    packet_out = struct.pack("!HBII", rng.choice([1, 2, 11, 510, 511]) << 7, rng.randrange(7), 3, 4)
    return packet_out + head + b"\x08\x00" + ipv4(rng)


def seeds(path: Path) -> list[tuple[int, bytes]]:
    text = path.with_suffix(".stf").read_text()
    return [(command.port, command.frame) for command in parse_stf(text) if isinstance(command, SendPacket)]


def packets(rng: random.Random, known: list[tuple[int, bytes]], count: int) -> Iterator[tuple[int, bytes]]:
    for _ in range(count):
        if known:
            port, frame = rng.choice(known)
            yield rng.choice([port, port, 0, 1, 2, 511]), changed(rng, frame)
        else:
            yield rng.choice([1, 1, 2, 11, 12, 510, 3]), changed(rng, ours(rng))


# -- tests -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[*NAMES, "splitmerge"])
def path(request: pytest.FixtureRequest) -> Path:
    return OURS if request.param == "splitmerge" else PROGRAMS / f"{request.param}.json"


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_back_ends_agree(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    twins = cached_twins(path)
    known = [] if path == OURS else seeds(path)
    if twins.now == 0 and path == OURS:
        prepare_ours(twins)
    for _ in range(3):
        for port, frame in packets(rng, known, 60):
            twins.send(port, frame)
        populate(rng, twins)
    for port, frame in packets(rng, known, 60):
        twins.send(port, frame)
    twins.compare()


_CACHE: dict[Path, Twins] = {}


def cached_twins(path: Path) -> Twins:
    """One pair a program: its state is carried from example to example, which makes for more kinds of states."""
    if path not in _CACHE:
        _CACHE[path] = Twins(path)
    return _CACHE[path]


def prepare_ours(twins: Twins) -> None:
    """Ports with roles, so that packets get beyond the first table."""
    ingress = "SplitmergeIngress"
    for port, name, args in ((1, "set_host", ()), (2, "set_host", ()), (11, "set_replica", (3,))):
        call = ActionCall(f"{ingress}.port_roles.{name}", args)
        twins.change(f"tables/:{ingress}.port_roles.port_role/insert", (port,), call)


@pytest.mark.parametrize("name", NAMES)
def test_packets_come_out_as_recorded(name: str) -> None:
    device = NativeDevice(load_program((PROGRAMS / f"{name}.json").read_bytes()))
    assert run_stf(device, parse_stf((PROGRAMS / f"{name}.stf").read_text())) == []


def test_log_messages_are_the_interpreters(caplog: pytest.LogCaptureFixture) -> None:
    path = PROGRAMS / "externs.json"
    texts = []
    for device in (NativeDevice(load_program(path.read_bytes())), Device(load_program(path.read_bytes()))):
        caplog.clear()
        with caplog.at_level("INFO", logger="p4switch.program"):
            for port, frame in seeds(path):
                device.process(port, frame, 5)
        texts.append([record.getMessage() for record in caplog.records if record.levelname == "INFO"])
    assert texts[0] == texts[1]
    assert texts[0]


def test_code_is_the_same_each_time() -> None:
    program = load_program(OURS.read_bytes())
    assert NativeDevice(program).library.text == NativeDevice(program).library.text


def test_a_deparser_may_do_more_than_emit(caplog: pytest.LogCaptureFixture) -> None:
    program = load_program((Path(__file__).parent / "programs" / "deparser.json").read_bytes())
    seen = []
    for device in (NativeDevice(program), Device(program)):
        caplog.clear()
        with caplog.at_level("INFO", logger="p4switch.program"):
            sent = [device.process(1, frame, 5) for frame in (b"\1\2\3\4\5", b"\3\2\3\4\5", b"\7", b"")]
        messages = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
        seen.append((sent, messages, dict(device.state.drops)))
    assert seen[0] == seen[1]
    assert seen[0][1] == ["b is 2", "b is 2", "b is 0", "b is 0"]
    assert seen[0][2] == {Drop.ASSERTION: 1}
