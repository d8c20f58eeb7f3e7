"""Replicas that die where nobody counts on it: while they come, while they come back, and while they go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import JournalError, ReplicaEnded
from orchestrator.replicas.fleet import ReplicaState
from orchestrator.scaling.scaler import ScaledOut
from p4rt_controller import SwitchUnavailable
from splitmerge.errors import SplitmergeError
from splitmerge.flowkey import BUCKETS
from splitmerge.messages import AddKeys, Hello, SecondKey, SharedElement, SharedPull, SharedPush
from splitmerge.wire import encode
from tests.orchestrator.lab import FLOWS, Lab, Peer

Make = Callable[..., Lab]


def kill(lab: Lab, replica: int) -> None:
    """The agent says so at once."""
    lab.agent.kill(replica)


def vanish(lab: Lab, replica: int) -> None:
    """Its connection ends, and nobody says why."""
    lab.agent.tasks[replica].cancel()


async def a_flow_each(lab: Lab) -> None:
    """Two replicas, assigned in turn; the second one's flow has state."""
    await lab.post("/scale-out")
    for key in FLOWS[:2]:
        lab.orchestrator.assigner.announced(key)
    await lab.until(lambda: set(lab.tables.flows.values()) == {1, 2})
    lab.give_flows(2, [key for key in FLOWS[:2] if lab.tables.flows[key] == 2])


@pytest.mark.parametrize("death", [kill, vanish])
async def test_one_that_dies_before_the_switch_knows_it_never_lives(
    lab: Lab, death: Callable[[Lab, int], None]
) -> None:
    lab.tables.stuck = "register"
    work = lab.orchestrator.scale_out(1)
    await lab.until(lambda: 2 in lab.tables.ports)
    newcomer = lab.orchestrator.fleet.replicas[2]
    death(lab, 2)
    await lab.until(lambda: not newcomer.heard.is_set())
    await lab.until(lambda: newcomer.ended.is_set() or death is vanish)
    lab.tables.go_on()
    await lab.until(lambda: work.done() and 2 not in lab.orchestrator.fleet.replicas)
    assert "before the switch knew it" in str(work.exception())
    assert isinstance(work.exception(), ReplicaEnded) is (death is kill)
    assert lab.tables.ports == {1: 11}
    assert lab.tables.buckets == dict.fromkeys(range(BUCKETS), 1)
    assert (await lab.post("/scale-out", {"rebalance": False}))["added"] == [3], "the slot is free again"


async def cut_off(lab: Lab) -> asyncio.Future[ScaledOut]:
    """A scale-out whose replica, number 2, loses its connection as the switch gets to know it."""
    lab.tables.stuck = "register"
    work = lab.orchestrator.scale_out(1, rebalance=False)
    await lab.until(lambda: 2 in lab.tables.ports)
    vanish(lab, 2)
    await lab.until(lambda: not lab.orchestrator.fleet.replicas[2].heard.is_set())
    lab.tables.go_on()
    await asyncio.sleep(0.1)
    return work


async def test_one_whose_connection_ends_a_moment_before_its_agent_says_how_it_ended_has_ended_by_itself(
    lab: Lab,
) -> None:
    """Else the middlebox is tried once more than it need be, and nobody is told how it ended."""
    work = await cut_off(lab)
    lab.agent.kill(2)
    await lab.until(work.done)
    assert isinstance(work.exception(), ReplicaEnded) and "signal SIGKILL" in str(work.exception())


async def test_one_that_is_cut_off_as_the_switch_gets_to_know_it_may_connect_again(lab: Lab) -> None:
    work = await cut_off(lab)
    lab.agent.tasks[2] = asyncio.create_task(lab.agent.peers[2].run())
    assert (await work).added == [2] and await lab.live() == [1, 2]


async def test_one_that_is_cut_off_at_once_has_not_ended(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = Peer._connect_once

    async def hello_and_goodbye(peer: Peer) -> None:
        monkeypatch.setattr(Peer, "_connect_once", connect)
        _, writer = await asyncio.open_unix_connection(peer.control.removeprefix("unix:"))
        writer.write(encode(Hello(role="replica", replica=peer.number, incarnation=f"incarnation-{peer.number}")))
        writer.close()

    monkeypatch.setattr(Peer, "_connect_once", hello_and_goodbye)
    assert (await lab.post("/scale-out", {"rebalance": False}))["added"] == [2]


async def test_one_that_dies_while_it_is_taken_in_again_stays_dead(make_lab: Make) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
    away = True

    def fail(name: str, what: object) -> SplitmergeError | None:
        return SwitchUnavailable("write", "one moment") if away and (name, what) == ("register", 1) else None

    lab.tables.fail = fail
    async with lab.up(wait=False):
        victim = lab.orchestrator.fleet.replicas[1]
        await lab.until(victim.heard.is_set)
        lab.agent.kill(1)
        await lab.until(lambda: victim.state is ReplicaState.GONE)
        away = False
        await lab.until(lambda: lab.orchestrator.ready.is_set() and 1 not in lab.orchestrator.fleet.replicas)
        assert lab.tables.buckets == dict.fromkeys(range(BUCKETS), 2) and lab.tables.ports == {2: 12}
        assert lab.orchestrator.replicas_died == 1


async def test_a_death_that_cost_flows_is_told_by_the_next_orchestrator_too(make_lab: Make) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        lab.give_flows(1, FLOWS[:2])
        await lab.until(lambda: lab.orchestrator.fleet.replicas[1].flows == 2)
        lab.agent.kill(1)
        await lab.until(lambda: lab.orchestrator.replicas_died == 1)
    async with lab.up():
        problems = (await lab.get("/status"))["problems"]
        assert [" with 2 flows: " in each for each in problems if each.startswith("replica 1 died at ")] == [True]


async def test_one_that_was_asked_to_end_has_not_died_though_its_agent_takes_long(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection ends first, and it does not come back within `Deadlines.reconnect`."""
    await lab.post("/scale-out", {"rebalance": False})
    fleet, delays = lab.orchestrator.fleet, iter([2.0, 0.0])
    end = fleet.end

    async def slow(*arguments: Any, **named: Any) -> None:
        await asyncio.sleep(next(delays))
        await end(*arguments, **named)

    monkeypatch.setattr(fleet, "end", slow)
    await lab.post("/scale-in", {"replica": 2})
    assert lab.orchestrator.replicas_died == 0 and 2 not in fleet.replicas


async def test_one_that_comes_back_when_it_is_taken_for_dead_is_not_let_in(make_lab: Make) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        late, peer = lab.orchestrator.fleet.replicas[2], lab.agent.peers[2]
        here, peer.control, lab.agent.control = peer.control, "unix:/nowhere", "unix:/nowhere"
        assert lab.agent.writer is not None and peer.orchestrator is not None
        lab.agent.writer.close()
        peer.orchestrator.close()
        await lab.until(lambda: 2 in lab.orchestrator.undertaker.ending)
        peer.control = here
        await lab.until(lambda: late.state is ReplicaState.GONE)
        assert late.session is None
        lab.agent.control = here


def counted(origin: str, version: int = 1) -> SharedPush:
    element = SharedElement(origin=origin, version=version, kind="Hits", value=b"\1")
    return SharedPush(request=1, key="hits", element=element)


async def test_what_a_dead_one_had_asked_for_is_not_done(lab: Lab) -> None:
    """It expected a flow whose bucket was on its way to it."""
    await lab.post("/scale-out", {"rebalance": False})
    lab.tables.stuck = "redirect"
    await lab.post("/moves", {"buckets": [FLOWS[0].bucket], "target": 2, "wait": False})
    await lab.until(lambda: "redirect" in lab.tables.calls)
    expected = SecondKey(flow=FLOWS[0], key=FLOWS[0])
    lab.agent.peers[2].to_orchestrator(AddKeys(request=99, keys=(expected,)))
    await lab.until(lambda: lab.orchestrator.registrar._asked)
    lab.agent.kill(2)
    lab.tables.go_on()
    await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas and not lab.orchestrator.registrar._asked)
    assert lab.orchestrator.placement.owners() == {1} and 2 not in lab.tables.flows.values()


async def test_a_death_that_cannot_be_written_down_ends_the_process_and_the_next_one_sees_it(make_lab: Make) -> None:
    lab = make_lab()

    def fail(*arguments: Any, **named: Any) -> Any:
        raise JournalError("journal", "the disk is full")

    async with lab.up(dies=True):
        await lab.post("/scale-out", {"rebalance": False})
        lab.orchestrator.journal.died = fail  # type: ignore[method-assign]
        lab.agent.kill(1)
        await lab.until(lab.life.done)
    async with lab.up():
        await lab.until(lambda: lab.tables.buckets == dict.fromkeys(range(BUCKETS), 2))
        assert lab.orchestrator.replicas_died == 1


async def test_a_count_that_cannot_be_written_down_ends_the_process_and_is_not_confirmed(make_lab: Make) -> None:
    lab = make_lab()

    def fail(*arguments: Any, **named: Any) -> Any:
        raise JournalError("journal", "the disk is full")

    async with lab.up(dies=True):
        lab.orchestrator.journal.keep_final = fail  # type: ignore[method-assign]
        lab.agent.peers[1].to_orchestrator(counted("one"))
        await lab.until(lab.life.done)
    async with lab.up():
        assert lab.orchestrator.shared_state.hub.keys() == ()


async def test_last_words_count_though_the_replica_is_forgotten_already(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    replica = lab.orchestrator.fleet.replicas[2]
    session = replica.session
    assert session is not None
    await lab.post("/scale-in", {"replica": 2})
    assert 2 not in lab.orchestrator.fleet.replicas
    lab.orchestrator.peers.message(session, counted(replica.incarnation))
    hub = lab.orchestrator.shared_state.hub
    assert hub.keys() == ("hits",) and hub.late == 0
    hub._ended.clear()  # as after `LAST_WORDS`
    lab.orchestrator.peers.message(session, counted(replica.incarnation, 2))
    assert hub.elements("hits")[0].version == 1 and hub.late == 1
    lab.orchestrator.peers.message(session, SharedPull(request=1, key="hits"))
    text = (await lab.http.get("/metrics")).text
    assert "splitmerge_shared_late_total 1.0" in text and "splitmerge_shared_folded_total 0.0" in text


async def test_one_that_hangs_while_it_is_drained_is_ended(make_lab: Make) -> None:
    lab = make_lab(assignment="round-robin", silent=0.5)
    async with lab.up():
        await a_flow_each(lab)
        victim = lab.orchestrator.fleet.replicas[2]
        await lab.until(lambda: victim.flows == 1)
        work = lab.orchestrator.scale_in(2, drain=True)
        await lab.until(lambda: victim.state is ReplicaState.FINISHING)
        lab.agent.peers[2].stopped = True
        await lab.until(lambda: set(lab.tables.flows.values()) == {1} and 2 not in lab.orchestrator.fleet.replicas)
        await lab.until(work.done)
        assert "it died while its flows ended" in str(work.exception())


async def test_who_was_to_go_takes_over_when_the_last_other_one_dies(lab: Lab) -> None:
    """Nobody comes in the place of the dead one here: nothing else would give its flows to anybody."""
    await lab.post("/scale-out")
    used = next(key for key in FLOWS if lab.orchestrator.placement.owner(key) == 2)
    lab.give_flows(2, [used])
    lab.agent.peers[2].guest.get_flow(used)
    ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2}, status=409))
    await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state is ReplicaState.FINISHING)
    kill(lab, 1)
    assert (await ending)["error"] == "no other replica lives any more"
    await lab.until(lambda: len(lab.orchestrator.placement.buckets_of(2)) == BUCKETS)
    assert lab.tables.buckets == dict.fromkeys(range(BUCKETS), 2) and await lab.live() == [2]


async def test_who_drains_takes_new_flows_again_when_the_last_other_one_dies(make_lab: Make) -> None:
    """For as long as its own flows last nobody else would: an hour, by default."""
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await a_flow_each(lab)
        draining = asyncio.create_task(lab.post("/scale-in", {"replica": 2, "drain": True}, status=409))
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state is ReplicaState.FINISHING)
        kill(lab, 1)
        assert (await draining)["error"] == "no other replica lives any more"
        lab.orchestrator.assigner.announced(FLOWS[2])
        await lab.until(lambda: lab.tables.flows.get(FLOWS[2]) == 2)
