"""Replicas come and go: scaling, deaths, new flows, policies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from guestlib import PUSH, SYNCH, SynchUnavailable
from guestlib.moves import exports
from orchestrator.config import ElasticityConfig, LocksConfig, ReplacementConfig
from orchestrator.errors import JournalError, NoSuchReplica
from orchestrator.migration import Options
from orchestrator.replicas.fleet import ReplicaState
from p4rt_controller import NewFlow
from splitmerge.flowkey import BUCKETS
from tests.orchestrator.lab import FLOWS, Lab, Peer, State

CPU, REPLICA = Options(buffer="cpu"), Options(buffer="replica")


async def test_the_first_replica_gets_all_buckets(lab: Lab) -> None:
    assert lab.tables.ports == {1: 11} and lab.tables.buckets == dict.fromkeys(range(BUCKETS), 1)
    status = await lab.get("/status")
    assert status["ready"] and status["agent"] and status["replicas"] == 1


async def test_a_replica_that_hangs_is_ended_and_its_buckets_go_to_others(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": True})
    replica = lab.orchestrator.fleet.get(2)

    def mute() -> bool:
        replica.told = asyncio.get_running_loop().time() - 3600  # as if it had not spoken, whatever it says
        return set(lab.tables.buckets.values()) == {1}

    await lab.until(mute)
    assert (await lab.get("/status"))["replicas_died"] == 1


async def test_more_replicas_than_slots_are_refused_at_once(lab: Lab) -> None:
    refusal = await lab.post("/scale-out", {"count": 99}, status=409)
    assert "99 replicas wanted" in refusal["error"] and set(lab.agent.peers) == {1}


async def test_split_and_merge_keep_every_flow(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    answer = await lab.post("/scale-out", {"count": 1})
    assert (answer["added"], answer["replicas"]) == ([2], [1, 2])
    assert [(move["source"], move["target"], move["step"]) for move in answer["moves"]] == [(1, 2, "done")]
    assert 10 <= lab.agent.peers[2].guest.table.count <= 20, "about half"
    for key in FLOWS:
        assert lab.holders(key) == [lab.tables.buckets[key.bucket]]
    assert await lab.post("/scale-in", {"replica": 1}) == {"removed": 1, "replicas": [2]}
    assert lab.tables.ports == {2: 12} and lab.tables.buckets == dict.fromkeys(range(BUCKETS), 2)
    assert all(lab.holders(key) == [2] for key in FLOWS)
    await lab.post("/scale-out", {"rebalance": False})
    assert set(lab.agent.peers) == {2, 3}, "ids are never used twice, slots are"
    assert lab.tables.ports[3] == 11


async def test_a_replica_that_the_switch_could_not_be_told_of_leaves_nothing(lab: Lab) -> None:
    lab.tables.away = True
    assert "away" in (await lab.post("/scale-out", {}, status=503))["error"]
    assert lab.tables.ports == {1: 11} and set(lab.agent.peers) == {1}
    lab.tables.away = False
    assert (await lab.post("/scale-out", {}))["added"] == [3]
    assert lab.tables.ports == {1: 11, 3: 12}


async def test_a_dead_replicas_buckets_go_to_the_others(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": True})
    lab.agent.kill(1)
    await lab.until(lambda: set(lab.tables.buckets.values()) == {2} and lab.tables.ports == {2: 12})
    # Packets of the dead one's flows may be with the controller, from a move that its death ended.
    move = (await lab.get("/moves?limit=1"))[0]
    assert (move["source"], move["buffer"], move["step"]) == (1, "cpu", "done")


@pytest.mark.parametrize("clings", ["error", "silent"])
async def test_nobody_takes_over_from_a_replica_that_its_agent_has_not_ended(lab: Lab, clings: str) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.give_flows(1, FLOWS)
    lab.agent.clings = clings
    lab.agent.peers[1].control = "unix:/nowhere"  # it lives, and does not come back
    session = lab.orchestrator.fleet.replicas[1].session
    assert session is not None
    session.close("test")
    deadlines = lab.config().deadlines
    await asyncio.sleep(deadlines.reconnect + 2 * deadlines.destroy + 0.5)
    assert set(lab.tables.buckets.values()) == {1} and all(lab.holders(key) == [1] for key in FLOWS)
    assert lab.orchestrator.fleet.replicas[1].state is ReplicaState.LIVE
    lab.agent.clings = ""
    await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_a_replica_comes_back_to_an_orchestrator_that_did_not_get_its_turns(lab: Lab) -> None:
    replica = lab.orchestrator.fleet.replicas[1]
    assert replica.session is not None
    replica.session.close("test")
    await lab.until(lambda: replica.session is None)
    time.sleep(lab.config().deadlines.reconnect + 0.2)  # noqa: ASYNC251 - the whole process: nobody is heard
    await lab.until(lambda: replica.session is not None)
    assert replica.state is ReplicaState.LIVE and lab.orchestrator.replicas_died == 0


async def test_an_agent_that_is_away_for_long_has_taken_its_replicas_along(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.agent.control = "unix:/nowhere"
    for session in lab.orchestrator.fleet.agents.connected:
        session.close("test")
    lab.agent.peers[1].control = "unix:/nowhere"
    replica = lab.orchestrator.fleet.replicas[1]
    assert replica.session is not None
    replica.session.close("test")
    await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_a_slot_is_not_free_before_its_replica_has_ended(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.agent.clings = "error"
    ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2}))
    done, _ = await asyncio.wait([ending], timeout=1.5)
    assert not done and lab.tables.ports == {1: 11, 2: 12}
    assert (await lab.post("/scale-out", {}))["added"] == [3], "which keeps nobody from scaling out"
    lab.agent.clings = ""
    assert (await ending)["removed"] == 2


async def test_a_new_process_does_not_wait_for_one_replica_that_does_not_end(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
    lab.agent.clings = "error"
    lab.agent.peers[2].control = "unix:/nowhere"
    async with lab.up():
        assert lab.orchestrator.fleet.replicas[2].state is ReplicaState.LIVE
        lab.agent.clings = ""
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)


async def test_when_the_last_replica_dies_a_new_one_takes_over(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(replacement=ReplacementConfig())
    async with lab.up():
        lab.agent.kill(1)
        await lab.until(lambda: set(lab.tables.buckets.values()) == {2})


async def test_a_target_that_dies_as_a_policys_move_begins_ends_nothing_else(make_lab: Callable[..., Lab]) -> None:
    """The move fails in a task group of its own: what comes out of it must not end the orchestrator."""
    settings = ElasticityConfig(
        policy="flow-count", settings={"split_above": 30, "merge_below": 0}, interval=0.05, consecutive=2, cool_down=60
    )
    lab = make_lab(elasticity=settings)
    async with lab.up():
        scaler = lab.orchestrator.scaler
        loads = scaler.loads

        async def late(replica: int) -> Any:
            found = await loads(replica)
            lab.agent.kill(2)
            await lab.until(lambda: 2 not in [each.number for each in lab.orchestrator.fleet.live()])
            return found

        scaler.loads = late  # type: ignore[method-assign]  # the moment that matters is inside
        lab.give_flows(1, FLOWS)
        await lab.until(lambda: lab.orchestrator.replicas_died == 1 and not scaler.scaling.locked())
        assert (await lab.get("/status"))["replicas"] == 1


async def test_a_scale_in_whose_moves_fail_can_be_asked_for_again(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": True})
    journal = lab.orchestrator.journal
    plan = journal.plan

    def fail(*arguments: Any, **named: Any) -> Any:
        raise JournalError("journal", "the disk is full")

    journal.plan = fail  # type: ignore[method-assign]
    assert "disk is full" in (await lab.post("/scale-in", {"replica": 2}, status=503))["error"]
    assert [each["state"] for each in await lab.get("/replicas")] == ["live", "live"]
    journal.plan = plan  # type: ignore[method-assign]
    assert (await lab.post("/scale-in", {"replica": 2}))["removed"] == 2


async def test_a_replica_is_not_ended_while_new_flows_are_on_their_way_to_it(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out")
        lab.tables.stuck = "resume"
        for key in FLOWS[:2]:
            lab.orchestrator.network_event(NewFlow(key))
        await lab.until(lambda: lab.tables.calls.count("resume") == 2)
        ending = asyncio.create_task(lab.post("/scale-in", {"replica": 2}))
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "finishing")
        done, _ = await asyncio.wait([ending], timeout=0.3)
        assert not done and 2 in lab.agent.peers
        lab.tables.go_on()
        assert (await ending)["removed"] == 2
        assert lab.tables.flows == {bytes(key): 1 for key in FLOWS[:2]}


async def test_new_flows_chosen_for_a_replica_that_is_ending_go_to_another(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out")
        fleet = lab.orchestrator.fleet
        fleet.set_state(fleet.replicas[2], ReplicaState.FINISHING)
        with pytest.raises(NoSuchReplica):
            await lab.orchestrator.scaler.adopt_new(2, FLOWS[:1])
        assert not lab.orchestrator.mover.running()


async def test_a_replica_that_only_lost_its_connection_keeps_its_flows(lab: Lab) -> None:
    lab.give_flows(1, FLOWS)
    session = lab.orchestrator.fleet.replicas[1].session
    assert session is not None
    session.close("test")
    await lab.until(lambda: lab.orchestrator.fleet.replicas[1].session not in (None, session))
    await lab.post("/scale-out")
    assert all(len(lab.holders(key)) == 1 for key in FLOWS)


async def test_new_flows_are_assigned_by_the_controller(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        assert set(lab.tables.buckets.values()) == {None}
        await lab.post("/scale-out")
        for key in FLOWS[:6]:
            lab.orchestrator.network_event(NewFlow(key))
        await lab.until(lambda: len(lab.tables.flows) == 6)
        assert sorted(lab.tables.flows.values()) == [1, 1, 1, 2, 2, 2]


async def test_a_new_flow_that_ends_at_once_leaves_no_entry(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        lab.tables.stuck = "resume"
        lab.orchestrator.network_event(NewFlow(FLOWS[0]))
        await lab.until(lambda: "resume" in lab.tables.calls)
        lab.give_flows(1, FLOWS[:1])
        lab.agent.peers[1].guest.delete_flow(FLOWS[0])
        await asyncio.sleep(0.2)  # FlowsGone comes meanwhile
        lab.tables.go_on()
        await lab.until(lambda: "resume" in lab.tables.calls and not lab.orchestrator.mover.running())
        await lab.until(lambda: not lab.tables.flows and lab.orchestrator.placement.entry(FLOWS[0]) is None)


async def test_what_a_replica_pushed_outlives_it_and_the_orchestrator(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out")
        guest = lab.agent.peers[1].guest
        guest.create_shared("hits", State(5), combiner=lambda elements: elements[0])
        with guest.shared("hits", PUSH):
            assert not lab.orchestrator.shared_state.hub.keys()
        await lab.until(lambda: lab.orchestrator.shared_state.hub.keys() and not guest.coherent.unconfirmed)
        lab.agent.kill(1)
    async with lab.up():
        found = await lab.get("/shared/hits")
    assert [(each["origin"], each["value"]) for each in found["elements"]] == [("incarnation-1", {"number": 5})]


async def test_a_pull_waits_for_replicas_that_have_not_come_back_yet(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    async with lab.up():
        guest = lab.agent.peers[1].guest
        guest.create_shared("hits", State(5), combiner=lambda elements: elements[0])
        with guest.shared("hits"):
            assert guest.replica == 1
    async with lab.up(wait=False):
        await lab.until(lambda: lab.orchestrator.started)
        found = await lab.orchestrator.shared("hits")  # which nobody has connected to yet
    assert [each.origin for each in found.elements] == ["incarnation-1"] and not found.missing


async def test_the_lock_of_a_replica_that_ends_is_free_and_its_value_stays(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()

    async def locked(peer: Peer) -> State:
        sequence = peer.guest.coherent.get("limit", SYNCH, 0.0, 5.0)
        peer.engine.carry_out(next(sequence).steps)
        await lab.until(lambda: peer.guest.coherent.locks.find("limit").settled)
        with pytest.raises(StopIteration) as stop:
            sequence.send(0.0)
        return stop.value.value

    async with lab.up():
        await lab.post("/scale-out")
        first, second = lab.agent.peers[1], lab.agent.peers[2]
        for peer in (first, second):
            peer.guest.create_shared("limit", State(5))
        await locked(first)
        shown = await lab.get("/shared/limit")
        assert shown == {"key": "limit", "value": None, "token": 1, "holder": 1}
        lab.agent.kill(1)
        (await locked(second)).number = 7
        write = second.guest.coherent.write("limit", 0.0)  # a sequence that nobody holds gives up
        second.engine.carry_out(next(write).steps)
        await lab.until(lambda: second.guest.coherent.locks.find("limit").settled)
    async with lab.up():
        shown = await lab.get("/shared/limit")
    write.close()
    assert (shown["value"]["value"], shown["token"], shown["holder"]) == ({"number": 7}, 2, None)


async def test_there_are_never_two_lock_services(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(locks=LocksConfig(service="etcd://h:1"))
    async with lab.up():
        peer = lab.agent.peers[1]
        peer.guest.create_shared("limit", State(5))
        sequence = peer.guest.coherent.get("limit", SYNCH, 0.0, 5.0)
        peer.engine.carry_out(next(sequence).steps)  # this replica has not listened to its Welcome
        await lab.until(lambda: peer.guest.coherent.locks.find("limit").settled)
        with pytest.raises(SynchUnavailable, match="the lock service is etcd://h:1"):
            sequence.send(0.0)


async def test_flows_in_use_are_tried_again_after_growing_pauses(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:2])
    await lab.post("/scale-out", {"rebalance": False})
    flow = lab.agent.peers[1].guest.get_flow(FLOWS[0])
    assert flow is not None
    answer = await lab.post("/scale-in", {"replica": 1}, status=409)
    assert "1 bucket could not be moved within 3 s; the last move, " in answer["error"]
    assert (
        answer["error"].endswith(": 1 of its flows is in use at the source") and "splitmerge moves" in answer["remedy"]
    )
    tries = [each for each in await lab.get("/moves") if each["step"] == "undone"]
    assert [each["pinned"] for each in tries] == [[str(FLOWS[0])]] * 3, "in 3 s; pauses of 0.5, 1 and 2 s"
    assert (await lab.get("/replicas"))[0]["state"] == "live"


async def test_a_scale_in_that_fails_when_nobody_waits_for_it_is_a_problem(lab: Lab) -> None:
    lab.give_flows(1, FLOWS[:1])
    await lab.post("/scale-out", {"rebalance": False})
    assert lab.agent.peers[1].guest.get_flow(FLOWS[0]) is not None
    await lab.post("/scale-in", {"replica": 1, "wait": False})
    assert (await lab.get("/status"))["problems"] == []
    await lab.until(lambda: list(lab.orchestrator.failures.told(time.time())))
    (problem,) = (await lab.get("/status"))["problems"]
    assert problem.startswith("scale-in failed: replica 1: 1 bucket could not be moved"), problem


async def test_what_can_never_be_moved_ends_a_scale_in_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "LARGEST_STATE", 1)
    lab.give_flows(1, FLOWS[:1])
    await lab.post("/scale-out", {"rebalance": False})
    answer = await lab.post("/scale-in", {"replica": 1}, status=409)
    assert f"a flow of it cannot be moved: replica 1 refused Export: {FLOWS[0]}: state of" in str(answer)
    assert [each["step"] for each in await lab.get("/moves")] == ["undone"]
    assert (await lab.get("/replicas"))[0]["state"] == "live" and lab.holders(FLOWS[0]) == [1]
