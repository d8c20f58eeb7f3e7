"""New flows that somebody has got before their turn: what waits at the controller comes to whoever has them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from orchestrator.ownership import assigning
from p4rt_controller import NewFlow
from p4rt_controller.moves import MoveBook
from p4rt_controller.packets import Punted
from splitmerge.flowkey import UDP, FlowKey
from tests.orchestrator.lab import Lab, State

CLIENT, SERVER, OUTSIDE = bytes((10, 0, 1, 2)), bytes((10, 0, 2, 2)), bytes((10, 0, 2, 1))
INNER = FlowKey.of(UDP, CLIENT, 3000, SERVER, 9)
OUTER = FlowKey.of(UDP, OUTSIDE, 40_000, SERVER, 9)
"""Its second key, of which packets come unasked."""


def frame(number: int) -> bytes:
    """A packet with the second key."""
    udp = struct.pack("!HHHH", 9, 40_000, 12, 0) + number.to_bytes(4, "big")
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 32, 0, 0, 64, UDP, 0) + SERVER + OUTSIDE
    return bytes(12) + b"\x08\x00" + ip + udp


@pytest.fixture
async def lab(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """Three replicas; the next new flow is the third one's, by its turn. Two packets wait."""
    monkeypatch.setattr(assigning, "RETRY", 0.05)
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out", {"count": 2})
        for key in (FlowKey.of(UDP, CLIENT, 1, SERVER, 9), INNER):
            announce(lab, key)
        await lab.until(lambda: len(lab.tables.flows) == 2 and not lab.orchestrator.mover.running())
        assert lab.tables.flows[INNER] == 2
        for peer in lab.agent.peers.values():
            peer.middlebox.got = []
        lab.tables.waits[OUTER] = [frame(0), frame(1)]
        yield lab


def announce(lab: Lab, key: FlowKey) -> None:
    lab.orchestrator.network_event(NewFlow(key))


def ask(lab: Lab) -> None:
    """The second replica makes the flow that is its, and asks for its second key."""
    lab.agent.peers[2].guest.create_flow(INNER, State(), aliases=[OUTER])


async def delivered(lab: Lab, replica: int) -> None:
    await lab.until(lambda: not lab.tables.waits and not lab.orchestrator.mover.running())
    got = {number: peer.middlebox.got for number, peer in lab.agent.peers.items()}
    assert got == {number: [frame(0), frame(1)] if number == replica else [] for number in got}
    assert lab.tables.flows[OUTER] == lab.orchestrator.placement.entry(OUTER) == replica


async def test_a_key_is_asked_for_when_packets_of_it_wait(lab: Lab) -> None:
    """The move holds what comes directly: were the entry written alone, that would overtake them."""
    ask(lab)
    await delivered(lab, 2)
    assert lab.tables.calls[:3] == ["resume"] * 3, "what is asked again is steered, later"
    await lab.until(lambda: lab.agent.peers[2].guest.table.find(OUTER).pending is None)
    assert lab.orchestrator.placement.is_second(OUTER)
    await lab.until(lambda: OUTER in lab.tables.second)
    announce(lab, OUTER)  # it may come later than all this: nothing is left to do
    await lab.until(lambda: not lab.orchestrator.mover.running())
    assert lab.tables.flows[OUTER] == 2


async def test_packets_were_on_their_way_to_the_controller_when_their_key_was_asked_for(lab: Lab) -> None:
    waits, lab.tables.waits = lab.tables.waits, {}
    ask(lab)
    await lab.until(lambda: lab.tables.flows.get(OUTER) == 2)
    lab.tables.waits = waits
    announce(lab, OUTER)
    await delivered(lab, 2)


async def test_a_key_is_asked_for_while_its_flow_waits_to_be_assigned(lab: Lab) -> None:
    """The one of two new flows that is nobody's is assigned; the other one's packets go where it is."""
    other = FlowKey.of(UDP, CLIENT, 4000, SERVER, 9)
    orchestrator = lab.orchestrator
    plan = orchestrator.scaler.turns.plan

    def planned(source: int, target: int, scope: object, *rest: object) -> object:
        running = plan(source, target, scope, *rest)  # type: ignore[arg-type]
        if target == 3:  # between the move's number and its turn
            orchestrator.journal.place_second({OUTER: 2}, [OUTER])
            orchestrator.placement.place_second({OUTER: 2}, [OUTER])
            lab.tables.flows[OUTER] = 2
        return running

    object.__setattr__(orchestrator.scaler, "turns", Turned(orchestrator.scaler.turns, planned))
    await orchestrator.assigner._adopt(3, [OUTER, other])
    await delivered(lab, 2)
    assert lab.tables.flows[other] == 3


class Turned:
    """Turns with another `plan`."""

    def __init__(self, turns: object, plan: Callable[..., object]) -> None:
        self._turns = turns
        self.plan = plan

    def __getattr__(self, name: str) -> object:
        return getattr(self._turns, name)


@pytest.mark.parametrize("died", [False, True], ids=["is to end", "has ended"])
async def test_who_asked_takes_no_flows_any_more(lab: Lab, died: bool) -> None:
    """The packets go to whoever gets the key; what is asked is answered meanwhile."""
    peers = dict(lab.agent.peers)
    ask(lab)
    if died:
        lab.agent.kill(2)
    else:
        ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2}))
    announce(lab, OUTER)
    await lab.until(lambda: not lab.tables.waits and not lab.orchestrator.mover.running())
    if not died:
        await ending
    assert [peer.middlebox.got for peer in peers.values() if peer.middlebox.got] == [[frame(0), frame(1)]]


async def test_what_waits_for_a_key_does_not_expire_while_a_move_of_its_flow_is_ahead(lab: Lab) -> None:
    """The move that is to bring it is behind one that was planned when the key had its entry: that may take long."""
    guest, mover = lab.agent.peers[2].guest, lab.orchestrator.mover
    waits, lab.tables.waits = lab.tables.waits, {}
    ask(lab)
    await lab.until(lambda: lab.tables.flows.get(OUTER) == 2)
    guest.get_flow(INNER)  # its transaction does not end
    ahead = {"all": True, "source": 2, "target": 1, "references": 60, "wait": False}
    await lab.post("/moves", ahead)
    await lab.until(lambda: any("in use" in move.reason for move in mover.running()))
    book = MoveBook((9, 9999), (9, 9999), (9, 9999))
    book.awaited = lab.tables.awaited
    for packet in waits[OUTER]:
        book.punted(Punted(OUTER, packet, new=True), 0.0)
    lab.tables.waits = waits
    announce(lab, OUTER)
    await lab.until(lambda: mover.awaited([OUTER]))
    assert [(move.plan.source, move.step.value) for move in mover.running()] == [(2, "planned"), (0, "planned")]
    for now in (15.5, 31.0, 46.5):
        book.renew(now - 15, now)
        assert book.expire(now - 30) == []
    guest.put_flow(INNER)
    await delivered(lab, 1)
    assert mover.awaited([OUTER]) == []
    book.renew(80.0 - 15, 80.0)
    assert book.expire(80.0 - 30) == [OUTER]
