"""Counters, registers, meters, groups, sessions, digests and value sets as the control plane sees them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from p4switch.device import Device
from p4switch.errors import BadEntry, DuplicateEntry, NoSuchEntry, StateError
from p4switch.load import load_program
from p4switch.runtime import (
    CloneSession,
    Colour,
    Count,
    Digest,
    DigestQueue,
    Meter,
    MeterConfig,
    MulticastGroup,
    Replica,
    State,
)

EXTERNS = Path(__file__).parent.parent / "programs" / "externs.json"


@pytest.fixture
def state() -> State:
    return Device(load_program(EXTERNS.read_bytes())).state


GROUP = MulticastGroup((Replica(1, 1), Replica(1, 2)))
REFUSED: list[tuple[str, Callable[[State], object], type[StateError]]] = [
    ("counter index", lambda s: s.counters["MyIngress.packets"].read(4), BadEntry),
    ("counter below 0", lambda s: s.counters["MyIngress.packets"].write(0, Count(-1, 0)), BadEntry),
    ("register index", lambda s: s.registers["MyIngress.totals"].read(-1), BadEntry),
    ("register width", lambda s: s.registers["MyIngress.totals"].write(0, 1 << 32), BadEntry),
    ("meter index", lambda s: s.meters["MyIngress.limits"].configure(4, None, 0), BadEntry),
    ("meter rate", lambda s: s.meters["MyIngress.limits"].configure(0, MeterConfig(-1, 1, 1, 1), 0), BadEntry),
    ("group 0", lambda s: s.multicast.insert(0, GROUP), BadEntry),
    ("same replica twice", lambda s: s.multicast.insert(1, MulticastGroup((Replica(1), Replica(1)))), BadEntry),
    ("port", lambda s: s.clone_sessions.insert(1, CloneSession((Replica(-1),))), BadEntry),
    ("no such group", lambda s: s.multicast.modify(1, GROUP), NoSuchEntry),
    ("no such session", lambda s: s.clone_sessions.delete(1), NoSuchEntry),
    ("value set too full", lambda s: next(iter(s.value_sets.values())).replace(((1, 1),) * 5), BadEntry),
    ("value set too wide", lambda s: next(iter(s.value_sets.values())).replace(((256, 255),)), BadEntry),
]


@pytest.mark.parametrize(("change", "error"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused(state: State, change: Callable[[State], object], error: type[StateError]) -> None:
    with pytest.raises(error):
        change(state)


def test_what_is_written_is_read(state: State) -> None:
    state.counters["MyIngress.packets"].write(1, Count(5, 6))
    assert state.counters["MyIngress.packets"].read(1) == Count(5, 6)
    state.registers["MyIngress.totals"].write(3, 9)
    assert [state.registers["MyIngress.totals"].read(i) for i in range(4)] == [0, 0, 0, 9]
    state.multicast.insert(4, GROUP)
    with pytest.raises(DuplicateEntry):
        state.multicast.insert(4, GROUP)
    assert dict(state.multicast) == {4: GROUP}
    state.multicast.delete(4)
    state.clone_sessions.insert(1, CloneSession((Replica(1),)))
    state.clone_sessions.modify(1, CloneSession((Replica(2),)))
    assert state.clone_sessions[1].replicas == (Replica(2),)
    state.clone_sessions.clear()
    assert len(state.clone_sessions) == 0


def test_meter_refills_by_time_and_forgets_its_configuration() -> None:
    meter = Meter()
    meter.configure(MeterConfig(1000, 100, 2000, 300), "m", 0)
    assert [meter.execute(100, 0) for _ in range(4)] == [Colour.GREEN, Colour.YELLOW, Colour.YELLOW, Colour.RED]
    assert meter.execute(100, 100_000) == Colour.GREEN  # 100 committed, 200 peak came back
    assert meter.execute(100, 50_000) == Colour.YELLOW  # time never runs back
    meter.configure(None, "m", 0)
    assert meter.execute(10**9, 0) == Colour.GREEN


def test_digests_beyond_the_limit_are_counted() -> None:
    queue = DigestQueue(2)
    for i in range(3):
        queue.put(Digest("d", (i,)))
    assert (len(queue), queue.dropped) == (2, 1)
    assert [digest.values for digest in queue.take()] == [(0,), (1,)]
