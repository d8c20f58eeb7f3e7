"""What a replica keeps by the hundred thousand goes without the cyclic garbage collector, which hardly runs there."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from guestlib import Guest
from guestlib.partitioned.flows import Flow
from splitmerge import collector
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Export, Message, Release, Scope, Stage, Staged

KEYS = [FlowKey.of(17, bytes((10, 0, 0, 1)), port, bytes((10, 0, 0, 2)), 9) for port in range(3000, 3100)]


class Count(msgspec.Struct):
    number: int = 0


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def guest() -> Guest:
    made = Guest()
    made.register_state(Count)
    made.on_timer("idle", lambda guest, key: None)
    made.begin(1, "i1")
    for key in KEYS:
        made.create_flow(key, Count())
        made.flow_timer(key, 60.0, "idle")
    return made


def flows() -> int:
    return sum(isinstance(each, Flow) for each in gc.get_objects())


def test_deleted_flows_are_freed_at_once(guest: Guest, uncollected: None) -> None:
    before = flows()
    for key in KEYS:
        guest.delete_flow(key)
    guest.fire_timers(1e9)  # the heap's entries go when they come up
    assert flows() == before - len(KEYS)


def test_flows_that_moved_away_are_freed_at_once(guest: Guest, uncollected: None) -> None:
    before = flows()
    scope = Scope(keys=tuple(map(bytes, KEYS)))
    steps = guest.handle(Export(epoch=1, scope=scope, target=2, address="x", deadline=1.0), 0.0)
    for stage in [step.message for step in steps if isinstance(getattr(step, "message", None), Stage)]:
        answer: Message = Staged(epoch=1, part=stage.part)
        guest.handle(answer, 0.0)
    guest.handle(Release(epoch=1, scope=scope), 0.0)
    while guest.moves.next_due() == 0.0:
        guest.moves.poll(0.0)
    guest.fire_timers(1e9)
    del steps
    assert flows() == before - len(KEYS)


def test_a_process_that_has_settled_collects_seldom() -> None:
    text = "import gc; from splitmerge import collector; collector.settle(); print(*gc.get_threshold(), gc.isenabled())"
    out = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=20).stdout
    assert out.split() == [str(collector.YOUNG), str(collector.MIDDLE), str(collector.OLD), "True"]
