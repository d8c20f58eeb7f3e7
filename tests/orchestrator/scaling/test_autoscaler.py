"""Policies at work, and what operators ask for: the orchestrator with replicas that are guestlib's engine."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.config import ReplacementConfig
from orchestrator.elasticity import ElasticityConfig
from orchestrator.scaling import asking
from p4rt_controller import NewFlow
from splitmerge import messages as m
from splitmerge.flowkey import FlowKey
from tests.orchestrator.lab import FLOWS, Lab
from tests.orchestrator.own_policies import Slow

POLICIES = Slow.__module__
LATER = FlowKey.of(17, bytes((10, 0, 1, 2)), 4000, bytes((10, 0, 2, 2)), 9)
QUICK = {"interval": 0.05, "consecutive": 2, "cool_down": 0.5, "window": 0.5}


def policy(name: str, rest: dict[str, Any] | None = None, **settings: Any) -> ElasticityConfig:
    return ElasticityConfig(policy=name, settings=settings, **(QUICK | (rest or {})))


def counts(lab: Lab) -> list[int]:
    """Flows in each replica."""
    return [len(peer.guest.table.active) for _, peer in sorted(lab.agent.peers.items())]


async def end_flows(lab: Lab, number: int) -> None:
    for key in FLOWS[:number]:
        await lab.until(lambda key=key: len(lab.holders(key)) == 1)  # type: ignore[misc]
        lab.agent.peers[lab.holders(key)[0]].guest.delete_flow(key)


async def assign(lab: Lab) -> None:
    """New flows, that the controller assigns and their first packets begin."""
    for key in FLOWS:
        lab.orchestrator.network_event(NewFlow(key))
    await lab.until(lambda: len(lab.tables.flows) == len(FLOWS) and not lab.orchestrator.mover.running())
    for key, replica in lab.tables.flows.items():
        lab.give_flows(replica, [FlowKey(key)])


async def test_the_flow_count_policy_splits_and_merges(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(elasticity=policy("flow-count", split_above=30, merge_below=20))
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.until(lambda: len(lab.tables.ports) == 2)
        await end_flows(lab, len(FLOWS))
        await lab.until(lambda: len(lab.tables.ports) == 1)
        told = await lab.get("/elasticity")
        assert [(each["action"], each["outcome"]) for each in told["actions"]] == [("split", "done"), ("merge", "done")]
        assert told["actions"][0]["why"] == "replica 1 has 40 flows, above 30" and told["start_up"] > 0


async def test_the_average_decides_when_it_is_asked_to(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(elasticity=policy("average-flows", {"min_replicas": 2}, split_above=100, merge_below=18))
    async with lab.up():
        await lab.until(lambda: len(lab.tables.ports) == 2)
        lab.give_flows(1, [key for key in FLOWS if lab.tables.buckets[key.bucket] == 1])
        lab.give_flows(2, [key for key in FLOWS if lab.tables.buckets[key.bucket] == 2])
        await lab.until(lambda: lab.orchestrator.autoscaler.seen.total("flows") == len(FLOWS))
        await lab.patch("/elasticity", {"min_replicas": 1})
        await asyncio.sleep(0.5)  # 20 on average, though one of them may have less than 18
        assert len(lab.tables.ports) == 2
        await end_flows(lab, 6)
        await lab.until(lambda: len(lab.tables.ports) == 1)


async def test_a_static_number_is_kept_also_when_one_dies(make_lab: Callable[..., Lab]) -> None:
    elasticity = policy("static", {"max_replicas": 4}, replicas=3)
    lab = make_lab(elasticity=elasticity, replacement=ReplacementConfig(first_wait=0.02))
    async with lab.up():
        await lab.until(lambda: len(lab.orchestrator.autoscaler.actions) == 1)
        assert len(lab.agent.peers) == 3
        lab.agent.kill(2)
        await lab.until(lambda: sorted(lab.tables.ports) == [1, 3, 4])
        assert len(lab.orchestrator.autoscaler.actions) == 1, "it is the replacer's to make"


async def test_a_replica_that_its_agent_does_not_end_keeps_no_policy_from_acting(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(elasticity=policy("static", {"max_replicas": 3}, replicas=2))
    async with lab.up():
        await lab.until(lambda: len(lab.orchestrator.autoscaler.actions) == 1)
        lab.agent.clings = "error"
        await lab.patch("/elasticity", {"settings": {"replicas": 1}})
        await lab.until(lambda: not lab.orchestrator.placement.buckets_of(2))
        await lab.patch("/elasticity", {"settings": {"replicas": 2}})
        await lab.until(lambda: set(lab.tables.buckets.values()) == {1, 3})
        assert 2 in lab.orchestrator.fleet.replicas
        lab.agent.clings = ""
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)


async def test_without_rebalancing_a_new_replica_gets_only_new_flows(make_lab: Callable[..., Lab]) -> None:
    settings = policy("flow-count", {"rebalance": False, "max_replicas": 2}, split_above=30, merge_below=0)
    lab = make_lab(assignment="least-loaded", elasticity=settings)
    async with lab.up():
        await assign(lab)
        await lab.until(lambda: len(lab.tables.ports) == 2)
        await lab.until(lambda: len(lab.orchestrator.autoscaler.actions) == 1)
        assert counts(lab) == [len(FLOWS), 0]
        lab.orchestrator.network_event(NewFlow(LATER))
        await lab.until(lambda: lab.tables.flows.get(LATER) == 2)
        assert (await lab.get("/status"))["elasticity"] == "flow-count"


async def test_a_drained_replica_gets_nothing_new_and_ends_with_its_flows(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out")
        await assign(lab)
        moved = dict(lab.orchestrator.mover.reports.outcomes)
        answer = await lab.post("/scale-in", {"replica": 2, "drain": True, "wait": False})
        assert answer["removed"] is None
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "finishing")
        again = await lab.post("/scale-in", {"replica": 2}, status=409)
        assert "drains already" in again["error"] and "migrate --all --source 2" in again["remedy"]
        mine = [key for key in FLOWS if lab.holders(key) == [2]]
        told = await lab.get("/flows?limit=100")
        assert {each["flow"] for each in told if each["replica"] == 2} == {str(key) for key in mine}, "still shown"
        lab.orchestrator.fleet.replicas[2].stats = m.Stats(
            replica=2, flows=len(mine), packets=0, bytes=0, cpu_seconds=0, held=0, drops={}
        )
        assert (await lab.get("/status"))["flows"] >= len(mine)
        assert 'splitmerge_replica_flows{replica="2"}' in (await lab.http.get("/metrics")).text
        assert len(mine) == len(FLOWS) // 2 and (await lab.post("/scale-out", {"rebalance": False}))["added"] == [3]
        drained = lab.agent.peers[2]
        for key in mine:
            assert lab.tables.flows[key] == 2
            drained.guest.delete_flow(key)
        drained.engine._next_gone = 0.0  # before Stats: who heard only these would find entries to move
        drained.engine.tick(asyncio.get_running_loop().time())
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)
        assert lab.orchestrator.mover.reports.outcomes == moved, "nothing was moved"
        assert set(lab.tables.flows.values()) == {1}


async def test_a_drain_goes_on_when_the_orchestrator_was_killed(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin")
    async with lab.up():
        await lab.post("/scale-out")
        await assign(lab)
        await lab.post("/scale-in", {"replica": 2, "drain": True, "wait": False})
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "finishing")
    mine = [key for key in FLOWS if lab.holders(key) == [2]]
    async with lab.up():
        assert {each["replica"]: each["state"] for each in await lab.get("/replicas")} == {1: "live", 2: "finishing"}
        lab.orchestrator.network_event(NewFlow(LATER))
        await lab.until(lambda: lab.tables.flows.get(LATER) == 1)
        assert mine and [lab.holders(key) for key in mine] == [[2]] * len(mine)
        for key in mine:
            lab.agent.peers[2].guest.delete_flow(key)
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)
        assert set(lab.tables.flows.values()) == {1} and lab.orchestrator.replicas_died == 0


async def test_a_scale_in_that_was_under_way_is_off_when_the_orchestrator_was_killed(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out")
        lab.tables.stuck = "redirect"
        await lab.post("/scale-in", {"replica": 2, "wait": False})
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "finishing")
    lab.tables.go_on()
    async with lab.up():
        assert {each["replica"]: each["state"] for each in await lab.get("/replicas")} == {1: "live", 2: "live"}
    assert "replica 2 was to be scaled in when the orchestrator ended: it lives on" in caplog.text


async def test_a_drain_that_takes_too_long_leaves_the_replica_at_work(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin", drain=1.0)
    async with lab.up():
        await lab.post("/scale-out")
        await assign(lab)
        error = await lab.post("/scale-in", {"replica": 2, "drain": True}, status=409)
        assert error["error"] == "20 flows have not ended within 1 s"
        assert lab.orchestrator.fleet.replicas[2].state.value == "live"


async def test_a_drain_that_a_new_process_went_on_with_is_a_problem_if_it_fails(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(assignment="round-robin", drain=1.0)
    async with lab.up():
        await lab.post("/scale-out")
        await assign(lab)
        await lab.post("/scale-in", {"replica": 2, "drain": True, "wait": False})
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "finishing")
    async with lab.up():
        await lab.until(lambda: lab.orchestrator.fleet.replicas[2].state.value == "live")
        await lab.until(lambda: list(lab.orchestrator.failures.told(time.time())))  # in a later turn of the event loop
        (problem,) = (await lab.get("/status"))["problems"]
        assert problem.startswith("drain failed: replica 2: 20 flows have not ended within 1 s"), problem


async def test_by_hash_nothing_can_be_drained(lab: Lab) -> None:
    await lab.post("/scale-out")
    assert "assignment least-loaded" in (await lab.post("/scale-in", {"drain": True}, status=409))["remedy"]


async def test_rebalancing_evens_the_load_and_adds_nobody(lab: Lab) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    lab.give_flows(1, FLOWS)
    answer = await lab.post("/rebalance", {"most": 5})
    assert sum(move["staged"] for move in answer["moves"]) >= 5 and counts(lab)[1] >= 5
    await lab.post("/rebalance", {"by": "flows"})
    assert max(counts(lab)) - min(counts(lab)) <= 1 and len(lab.tables.ports) == 2
    assert (await lab.post("/rebalance"))["moves"] == []
    assert (await lab.post("/rebalance", {"most": 0}, status=400))["where"] == "most"


async def test_flows_that_send_more_weigh_more(make_lab: Callable[..., Lab]) -> None:
    """Flow n sends n packets: by count they are even already, by packets they are when the heavy ones are apart."""
    lab = make_lab(assignment="least-loaded")
    async with lab.up():
        await assign(lab)
        await lab.post("/scale-out")
        await lab.post("/moves", {"keys": [str(key) for key in FLOWS[20:]], "target": 2})
        await lab.post("/moves", {"keys": [str(key) for key in FLOWS[:20]], "target": 1})
        assert (await lab.post("/rebalance", {"by": "flows"}))["moves"] == []
        assert (await lab.post("/rebalance", {"by": "packets"}))["moves"]
        sent = [sum(n for n, key in enumerate(FLOWS) if lab.tables.flows[key] == replica) for replica in (1, 2)]
        assert sum(sent) == sum(range(40)) and abs(sent[0] - sent[1]) <= 1


async def test_buckets_with_more_packets_weigh_more(lab: Lab) -> None:
    """By hash: the replicas count. Of 40 flows that are even by number, four at one replica send ten times as much."""
    await lab.post("/scale-out")
    frames: dict[int, list[bytes]] = {}
    for replica in (1, 2):
        lab.give_flows(replica, [key for key in FLOWS if lab.tables.buckets[key.bucket] == replica])
    heavy = [key for key in FLOWS if lab.holders(key) == [1]][:4]
    for key in FLOWS:
        frames.setdefault(lab.holders(key)[0], []).extend([packet(key)] * (10 if key in heavy else 1))
    for peer in lab.agent.peers.values():
        peer.engine._on_packet = lambda guest, packet: None  # it counts, whatever the middlebox does

    async def send() -> None:
        while True:
            for replica, mine in frames.items():
                lab.agent.peers[replica].engine.frames(mine, asyncio.get_running_loop().time())
            await asyncio.sleep(0.02)  # often: one round more or less in the second that is measured does not count

    sending = asyncio.create_task(send())
    try:
        moves = (await lab.post("/rebalance", {"by": "packets"}))["moves"]
    finally:
        sending.cancel()
    assert (1, 2) in {(move["source"], move["target"]) for move in moves}
    weight = {1: 0, 2: 0}
    for key in FLOWS:
        weight[lab.tables.buckets[key.bucket]] += 10 if key in heavy else 1  # type: ignore[index]
    assert abs(weight[1] - weight[2]) <= 6, weight


def packet(key: FlowKey) -> bytes:
    """A datagram of this flow."""
    _, src, dst = str(key).split(",")
    ends = [(socket.inet_aton(host), int(port)) for host, port in (each.rsplit(":", 1) for each in (src, dst))]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, 17, 0) + ends[0][0] + ends[1][0]
    return bytes(12) + b"\x08\x00" + header + struct.pack("!HHHH", ends[0][1], ends[1][1], 8, 0)


async def test_uneven_load_is_evened_by_itself(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(elasticity=policy("explicit", {"even_above": 1.5}))
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        lab.give_flows(1, FLOWS)
        await lab.until(lambda: lab.orchestrator.autoscaler.actions)
        assert max(counts(lab)) - min(counts(lab)) <= 1
        (action,) = (await lab.get("/elasticity"))["actions"]
        assert action["action"] == "rebalance" and "more than 1.5 times" in action["why"]


async def test_a_policy_is_changed_while_it_runs(lab: Lab) -> None:
    assert (await lab.get("/elasticity"))["config"]["policy"] == "explicit"
    body = {"policy": "static", "settings": {"replicas": 2}, "interval": 0.05, "consecutive": 1, "cool_down": 0}
    await lab.patch("/elasticity", body)
    await lab.until(lambda: len(lab.tables.ports) == 2)
    await lab.patch("/elasticity", {"policy": "explicit"})
    assert (await lab.get("/elasticity"))["config"]["settings"] == {}


async def test_a_slow_policy_holds_nothing_up_and_is_not_asked_again_before_it_returns(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(asking, "BOUND", 0.1)
    rest = {"interval": 0.02, "consecutive": 1, "cool_down": 60}
    try:
        await lab.patch("/elasticity", {"policy": f"{POLICIES}:Slow", **rest})
        await lab.until(lambda: "Slow.recommend" in lab.orchestrator.autoscaler.problem)
        await asyncio.sleep(0.3)
        assert Slow.asked == 1 and len(lab.tables.ports) == 1
        assert caplog.text.count("has not answered within 0.1 s") == 1
    finally:
        monkeypatch.setattr(asking, "BOUND", 30.0)  # from now on it answers, however busy the machine
        Slow.let_go.set()
    await lab.until(lambda: len(lab.tables.ports) == 2)
    assert (await lab.get("/elasticity"))["problem"] == ""


@pytest.mark.parametrize(
    "config",
    [
        policy("static", {"max_replicas": 50}, replicas=50),
        policy("static", {"max_replicas": 4}, replicas=99),
        policy("explicit", {"min_replicas": 20, "max_replicas": 99}),
    ],
    ids=["static", "static, as a lab limits it to its slots", "the minimum"],
)
async def test_as_many_are_added_as_there_are_slots_and_the_rest_is_told_once(
    make_lab: Callable[..., Lab], config: ElasticityConfig, caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab(elasticity=config)
    async with lab.up():
        await lab.until(lambda: len(lab.orchestrator.autoscaler.actions) == 1)
        assert len(lab.tables.ports) == 4
        await lab.until(lambda: "there are slots for 4" in lab.orchestrator.autoscaler.problem)
        await asyncio.sleep(1.2)  # two cool-downs
        assert caplog.text.count("there are slots for 4") == 1
        assert [each.outcome for each in lab.orchestrator.autoscaler.actions] == ["done"]


async def test_a_number_beyond_the_maximum_is_told_until_less_is_wanted(
    make_lab: Callable[..., Lab], caplog: pytest.LogCaptureFixture
) -> None:
    lab = make_lab(elasticity=policy("static", {"max_replicas": 2}, replicas=9))
    async with lab.up():
        told = "elasticity: 9 replicas wanted, max_replicas allows 2; raise it, or want fewer"
        await lab.until(lambda: len(lab.tables.ports) == 2 and lab.orchestrator.autoscaler.problem == told)
        assert (await lab.get("/status"))["problems"] == [told]
        await asyncio.sleep(0.7)  # more than a cool-down
        assert caplog.text.count(told) == 1
        await lab.patch("/elasticity", {"settings": {"replicas": 2}})
        await lab.until(lambda: lab.orchestrator.autoscaler.problem == "")
        assert (await lab.get("/status"))["problems"] == []


async def test_a_policy_that_fails_changes_nothing_and_is_told_about(lab: Lab) -> None:
    for name, problem in (("Broken", "ZeroDivisionError: integer division"), ("Confused", "no such replica")):
        await lab.patch("/elasticity", {"policy": f"{POLICIES}:{name}", "interval": 0.02})
        await lab.until(lambda problem=problem: problem in lab.orchestrator.autoscaler.problem)  # type: ignore[misc]
        told = await lab.get("/elasticity")
        assert f"{name}.recommend" in told["problem"] and told["actions"] == []
    assert (await lab.patch("/elasticity", {"policy": "explicit"}))["problem"] == ""


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"policy": "luck"}, "luck"),
        ({"polcy": "static"}, "elasticity"),
        ({"policy": "static", "settings": {"replicas": "two"}}, "elasticity: static.replicas"),
        ({"scale_in": "drain"}, "scale_in = drain"),
        ({"min_replicas": 9}, "elasticity"),
        ({"policy": f"{POLICIES}:Stillborn"}, f"elasticity: {POLICIES}:Stillborn"),
    ],
)
async def test_a_policy_that_makes_no_sense_changes_nothing(lab: Lab, body: Any, where: str) -> None:
    before = (await lab.get("/elasticity"))["config"]
    assert where in (await lab.patch("/elasticity", body, status=400))["where"]
    assert (await lab.get("/elasticity"))["config"] == before
