"""Priority queues and what the program sees of them; class of service and truncation of clones; the deparser's own."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4switch import ir
from p4switch.backend import BackendChoice, Variant, device_maker
from p4switch.check import check_program
from p4switch.device import Device, Transmit
from p4switch.engine import Engine, EngineOptions
from p4switch.errors import LoadError, UnsupportedError
from p4switch.interpreter import Interpreter
from p4switch.interpreter.traced import TracedInterpreter
from p4switch.ir.walk import looked_at
from p4switch.load import load_program
from p4switch.native.check import check_native
from p4switch.ports import DropReason, Drops, PriorityQueues, Received, Sent
from p4switch.runtime import DROP_PORT, CloneSession, Drop, Replica

PROGRAM = Path(__file__).parent / "queues.json"
TABLES = Path(__file__).parent.parent / "programs" / "tables.json"


@dataclass
class Report:
    """The header of queues.p4."""

    priority: int
    session: int
    qid: int
    enqueued: int
    waited: int
    depth_in: int
    depth_out: int


def report(frame: bytes) -> Report:
    priority, session, qid, enqueued, waited, depths = struct.unpack("!BBBII6s", frame[:17])
    return Report(
        priority, session, qid, enqueued, waited, int.from_bytes(depths[:3], "big"), int.from_bytes(depths[3:], "big")
    )


def frame_of(priority: int, session: int = 0) -> bytes:
    return bytes([priority, session]) + bytes(15)


def load(path: Path = PROGRAM) -> ir.Program:
    program = load_program(path.read_bytes())
    if path == PROGRAM:
        qid = ir.FieldRef("scalars", "metadata_t.qid")
        program = replace(program, aliases={**program.aliases, "queueing_metadata.qid": qid})
    check_program(program)
    return program


@pytest.fixture(params=["plain", "traced"])
def make(request: pytest.FixtureRequest) -> Callable[..., Device]:
    return partial(Device, load(), backend=TracedInterpreter) if request.param == "traced" else partial(Device, load())


class Port:
    """Port 1, which takes ``room`` frames."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent: list[bytes] = []

    def fileno(self) -> int:
        return -1

    def ports(self) -> Mapping[int, str]:
        return {1: "one"}

    def receive(self, limit: int) -> list[Received]:
        return []

    def send(self, port: int, frame: bytes) -> Sent:
        if not self.room:
            return Sent.LATER
        self.room -= 1
        self.sent.append(frame)
        return Sent.YES

    def drops(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass


def queues_of(port: Port, drops: Drops, limit: int = 100, queues: int = 3) -> PriorityQueues:
    return PriorityQueues(1, port, drops, limit=limit, patience=1.0, queues=queues)


# -- ports -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 255))))
def test_larger_goes_first_and_each_queue_keeps_its_order(frames: list[tuple[int, int]]) -> None:
    port = Port(1000)
    queues = queues_of(port, Drops())
    for queue, value in frames:
        queues.put(bytes([value]), queue)
    assert len(queues) == len(frames)
    assert queues.flush(0.0)
    assert port.sent == [bytes([value]) for queue, value in sorted(frames, key=lambda item: -item[0])]


def test_a_full_queue_drops_only_its_own() -> None:
    drops = Drops()
    queues = queues_of(Port(0), drops, limit=2)
    for queue in (0, 0, 0, 1):
        queues.put(b"x", queue)
    assert drops.by_reason_and_port() == {(DropReason.OUTPUT_QUEUE_FULL, 1): 1}
    assert len(queues) == 3


def test_depth_is_what_the_port_has_refused() -> None:
    port = Port(0)
    queues = queues_of(port, Drops())
    for queue in (0, 2, 2):
        queues.put(b"x", queue)
    assert [queues.depth(queue) for queue in range(3)] == [0, 0, 0], "not offered to the port yet"
    assert not queues.flush(0.0)
    assert [queues.depth(queue) for queue in range(3)] == [1, 0, 2]
    port.room = 3
    assert queues.flush(0.1)
    assert [queues.depth(queue) for queue in range(3)] == [0, 0, 0]


def test_the_engine_puts_frames_where_the_program_says() -> None:
    port = Port(0)
    engine = Engine([port], EngineOptions(queues=4))
    device = Device(load(), queues=4)
    engine.set_device(device)
    punted: list[bytes] = []
    for priority in (0, 1, 3, 1):
        engine._output(device.process(0, frame_of(priority), 0), punted)
    engine._flush()
    (sent,) = device.process(0, frame_of(1), 0)
    assert (report(sent.frame).depth_in, report(sent.frame).depth_out) == (2, 2)
    port.room = 10
    engine._flush()
    assert [frame[0] for frame in port.sent] == [3, 1, 1, 0]
    engine.stop()


# -- the program's view ----------------------------------------------------------------------------------------------


def test_the_program_reads_its_queue(make: Callable[..., Device]) -> None:
    device = make(queues=8)
    device.state.queue_depth = lambda port, queue: 100 * port + queue
    (sent,) = device.process(0, frame_of(5), 77)
    assert sent.queue == 5
    assert report(sent.frame) == Report(5, 0, 5, 77, 0, 105, 105)


def test_a_priority_without_a_queue_is_dropped_and_counted(make: Callable[..., Device]) -> None:
    device = make(queues=2)
    assert len(device.process(0, frame_of(1), 0)) == 1
    assert device.process(0, frame_of(2), 0) == []
    assert device.state.drops == {Drop.NO_SUCH_QUEUE: 1}


def test_one_queue_is_the_default() -> None:
    device = Device(load())
    assert [len(device.process(0, frame_of(priority), 0)) for priority in (0, 1)] == [1, 0]


def test_a_clone_waits_in_its_class_of_service_and_is_cut(make: Callable[..., Device]) -> None:
    device = make(queues=4)
    device.state.clone_sessions.insert(7, CloneSession((Replica(9), Replica(8)), class_of_service=3, packet_length=10))
    sent = device.process(0, frame_of(1, 7), 0)
    assert [(item.port, item.queue, len(item.frame), item.frame[2]) for item in sent] == [
        (9, 3, 10, 3),
        (8, 3, 10, 3),
        (1, 1, 17, 1),
    ]


def test_a_program_that_does_not_look_pays_nothing() -> None:
    assert Device(load(TABLES)).backend._queueing is None  # type: ignore[attr-defined]  # the interpreter's own


# -- back ends -------------------------------------------------------------------------------------------------------


def test_native_refuses_by_name() -> None:
    with pytest.raises(UnsupportedError, match="queue"):
        device_maker(BackendChoice.NATIVE, Variant(queues=2))(load(TABLES), drop_port=DROP_PORT)


def test_native_has_one_queue() -> None:
    program = load()
    plain = {"deparser": replace(program.deparsers["deparser"], primitives=())}
    device = device_maker(BackendChoice.NATIVE)(replace(program, deparsers=plain), drop_port=DROP_PORT)
    sent = [device.process(0, frame_of(priority), 0) for priority in (0, 1)]
    assert [len(item) for item in sent] == [1, 0]
    assert device.state.drops[Drop.NO_SUCH_QUEUE] == 1


def test_a_program_that_looks_at_depths_goes_to_the_interpreter(caplog: pytest.LogCaptureFixture) -> None:
    device = device_maker(BackendChoice.AUTO)(load(), drop_port=DROP_PORT)
    assert isinstance(device.backend, Interpreter)
    assert "qdepth" in caplog.text


def test_copies_of_all_standard_metadata_are_no_looks() -> None:
    """p4c's copies in and out of an action that takes it ``inout``."""
    program = load(TABLES)
    depth, copy = ir.FieldRef("standard_metadata", "enq_qdepth"), ir.FieldRef("scalars", "copy")
    there = ir.Primitive("assign", (copy, depth), None)
    back = ir.Primitive("assign", (depth, copy), None)
    use = ir.Primitive("assign", (ir.FieldRef("key", "y"), copy), None)
    copying = replace(program, actions={**program.actions, 9000: ir.Action(9000, "copies", (), (there, back), None)})
    using = replace(program, actions={**program.actions, 9000: ir.Action(9000, "uses", (), (there, use), None)})
    assert depth not in looked_at(copying)
    assert depth in looked_at(using)


def test_a_class_of_service_beyond_the_queues_is_the_last_one(make: Callable[..., Device]) -> None:
    device = make(queues=1)
    device.state.clone_sessions.insert(7, CloneSession((Replica(9),), class_of_service=3))
    assert [(item.port, item.queue) for item in device.process(0, frame_of(0, 7), 0)] == [(9, 0), (1, 0)]


def test_what_native_cannot_the_interpreter_runs(caplog: pytest.LogCaptureFixture) -> None:
    device = device_maker(BackendChoice.AUTO, Variant(queues=2))(load(), drop_port=DROP_PORT)
    assert [item.queue for item in device.process(0, frame_of(1), 0)] == [1]
    assert "native" in caplog.text


# -- the deparser and saturating fields ------------------------------------------------------------------------------


def test_the_deparser_runs_its_primitives(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "p4switch.program"):
        Device(load(), queues=8).process(0, frame_of(6), 0)
    assert caplog.messages == ["left queue 6"]


def test_a_deparser_cannot_change_which_headers_leave() -> None:
    blob = PROGRAM.read_bytes()
    at = blob.index(b'"deparsers"')
    changed = blob[:at] + blob[at:].replace(b'"log_msg"', b'"remove_header"', 1)
    with pytest.raises(UnsupportedError, match="remove_header in a deparser"):
        check_program(load_program(changed))


def saturating(signed: bytes) -> Device:
    """tables.p4 with a ``y`` that saturates, and that ingress adds 1 to without p4c's mask around the sum."""
    program = load_program(TABLES.read_bytes().replace(b'["y", 16, false]', b'["y", 16, ' + signed + b", true]"))
    y = ir.FieldRef("key", "y")
    add = ir.Primitive("add", (y, y, ir.Const(1)), None)
    last = next(action for action in program.actions.values() if action.name == "tables144")
    program = replace(program, actions={**program.actions, last.id: replace(last, primitives=(add,))})
    check_program(program)
    with pytest.raises(UnsupportedError, match="saturating"):
        check_native(program)
    return Device(program)


@pytest.mark.parametrize(
    ("signed", "before", "after"),
    [(b"false", 0xFFFF, 0xFFFF), (b"false", 7, 8), (b"true", 0x7FFF, 0x7FFF), (b"true", 0xFFFE, 0xFFFF)],
)
def test_saturating_fields_stop_at_their_bounds(signed: bytes, before: int, after: int) -> None:
    (sent,) = saturating(signed).process(0, bytes([0, 0]) + before.to_bytes(2, "big") + bytes(2), 0)
    assert isinstance(sent, Transmit)
    assert int.from_bytes(sent.frame[2:4], "big") == after


def test_flags_of_fields_are_booleans() -> None:
    blob = TABLES.read_bytes().replace(b'["y", 16, false]', b'["y", 16, false, 7]')
    with pytest.raises(LoadError, match="booleans"):
        load_program(blob)
