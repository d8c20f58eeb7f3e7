"""What is counted never goes down: not when a replica ends, nor when the orchestrator does."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.errors import JournalError
from orchestrator.journal import Journal
from orchestrator.migration import Options
from orchestrator.migration.steps import Step
from orchestrator.moves.reports import REPORTS, Report, Reports, unpack
from orchestrator.replicas.ended import Ended
from orchestrator.replicas.ended import counted as counted_at_end
from splitmerge import messages as m
from tests.orchestrator.lab import FLOWS, Lab

Make = Callable[..., Lab]


async def drops(lab: Lab) -> dict[str, int]:
    found = (await lab.get("/status"))["drops"]["replicas"]
    assert isinstance(found, dict)
    return found


def told(lab: Lab, replica: int, **dropped: int) -> None:
    """The replica's Stats say so, now and from now on."""
    lab.agent.peers[replica].engine.drops.update(dropped)


@pytest.mark.parametrize("ends", ["removed", "died"])
async def test_what_a_replica_dropped_outlives_it_and_the_orchestrator(make_lab: Make, ends: str) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        for replica, count in ((1, 2), (2, 3)):
            told(lab, replica, middlebox_error=count)
        await lab.until(lambda: all(each.stats and each.stats.drops for each in lab.orchestrator.fleet.live()))
        before = await drops(lab)
        assert before["middlebox_error"] == 5
        if ends == "died":
            lab.agent.kill(2)
            await lab.until(lambda: lab.orchestrator.replicas_died == 1)
        else:
            await lab.post("/scale-in", {"replica": 2})
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)
        assert await drops(lab) == before
        text = (await lab.http.get("/metrics")).text
        assert 'splitmerge_replica_drops_total{reason="middlebox_error",replica="ended"} 3.0' in text
    async with lab.up():
        await lab.until(lambda: all(each.stats for each in lab.orchestrator.fleet.live()))
        assert await drops(lab) == before
        assert (await lab.get("/status"))["replicas_died"] == (1 if ends == "died" else 0)


async def counted(lab: Lab) -> dict[str, float]:
    """What is counted of replicas, over all labels."""
    families = text_string_to_metric_families((await lab.http.get("/metrics")).text)
    names = ("splitmerge_replica_packets", "splitmerge_replica_drops")
    return {each.name: sum(sample.value for sample in each.samples) for each in families if each.name in names}


@pytest.mark.parametrize("ends", ["removed", "died"])
async def test_sums_in_metrics_do_not_fall_when_a_replica_or_the_orchestrator_ends(make_lab: Make, ends: str) -> None:
    lab = make_lab()
    async with lab.up():
        await lab.post("/scale-out", {"rebalance": False})
        for replica, packets in ((1, 20), (2, 30)):
            told(lab, replica, middlebox_error=packets // 10)
            lab.agent.peers[replica].engine._frames += packets
        await lab.until(lambda: all(each.stats and each.stats.drops for each in lab.orchestrator.fleet.live()))
        before = await counted(lab)
        assert before == {"splitmerge_replica_packets": 50, "splitmerge_replica_drops": 5}
        if ends == "died":
            lab.agent.kill(2)
        else:
            await lab.post("/scale-in", {"replica": 2})
        await lab.until(lambda: 2 not in lab.orchestrator.fleet.replicas)
        assert await counted(lab) == before
        assert 'splitmerge_replica_packets_total{replica="ended"} 30.0' in (await lab.http.get("/metrics")).text
    async with lab.up():
        await lab.until(lambda: all(each.stats for each in lab.orchestrator.fleet.live()))
        assert await counted(lab) == before


@given(st.lists(st.floats(0, 1e6), max_size=9))
def test_processor_time_of_ended_replicas_is_rounded_up(used: list[float]) -> None:
    """The journal's totals are whole numbers: rounded down, the sum would fall at each end."""
    ended, journal = Ended(), Counter[str]()
    for seconds in used:
        stats = m.Stats(replica=1, flows=0, packets=2, bytes=9, cpu_seconds=seconds, held=0, drops={"x": 1})
        for each in (ended.take, journal.update):
            each(counted_at_end(stats))
    assert sum(used) - 1e-6 <= ended.cpu_seconds <= sum(used) + 1e-5
    assert ended.packets == 2 * len(used) and ended.drops == ({"x": len(used)} if used else {})
    again = Ended({**journal, "moves.done": 7})
    assert (again.packets, again.cpu_seconds, again.drops) == (ended.packets, ended.cpu_seconds, ended.drops)


async def test_figures_and_numbers_of_moves_outlive_the_orchestrator(make_lab: Make) -> None:
    lab = make_lab(defaults=Options(buffer="cpu"))
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        (move,) = (await lab.post("/moves", {"all": True, "source": 1, "target": 2}))["moves"]
        lab.agent.peers[2].to_orchestrator(m.HoldDropped(epoch=move["epoch"], dropped=4))
        await lab.until(lambda: list(lab.orchestrator.mover.reports)[-1].dropped == 4)
        told_again = m.HoldDropped(epoch=move["epoch"], dropped=4)
        before = [await lab.get("/moves"), (await lab.get("/status"))["moves"]]
        assert before[0][0]["staged"] == len(FLOWS) and before[1] == {"done": 1}
    async with lab.up():
        lab.agent.peers[2].to_orchestrator(told_again)
        await lab.get("/flows?replica=2")  # behind it on the connection
        assert [await lab.get("/moves"), (await lab.get("/status"))["moves"]] == before
        (move,) = (await lab.post("/moves", {"all": True, "source": 2, "target": 1}))["moves"]
        assert (await lab.get("/status"))["moves"] == {"done": 2}


async def test_what_a_replica_dropped_for_a_recovered_move_is_that_moves(make_lab: Make) -> None:
    """A new orchestrator holds under an epoch of its own, by which the replica tells: also after the end, and again."""
    lab = make_lab(defaults=Options(buffer="cpu"))
    async with lab.up():
        lab.give_flows(1, FLOWS)
        await lab.post("/scale-out", {"rebalance": False})
        lab.tables.stuck = "resume"
        (move,) = (await lab.post("/moves", {"all": True, "source": 1, "target": 2, "wait": False}))["moves"]
        await lab.until(lambda: "resume" in lab.tables.calls)
    relays: list[int] = []

    async def dropped() -> int:
        count = (await lab.get(f"/moves/{move['epoch']}"))["dropped"]
        assert isinstance(count, int)
        return count

    async def tell(**counts: int) -> None:
        """As the newest Stats of the target have it: by the epoch of the hold."""
        names = {"own": move["epoch"]} | {f"relay{number}": relay for number, relay in enumerate(relays)}
        held = {names[name]: count for name, count in counts.items()}
        told = m.Stats(
            replica=2, flows=0, packets=0, bytes=0, cpu_seconds=0, held=0, drops={}, hold_dropped=held,
        )  # fmt: skip
        lab.agent.peers[2].to_orchestrator(told)
        await lab.get("/flows?replica=2")  # behind it on the connection

    for process in range(2):
        lab.tables.calls.clear()
        async with lab.up():
            await lab.until(lambda: "resume" in lab.tables.calls)
            (running,) = lab.orchestrator.mover.running()
            relays.append(running.relay)
            if process == 1:  # the hold of the process before is told of, and this one's
                await tell(relay0=2, relay1=3)
                assert await dropped() == 5
                lab.tables.go_on()
                await lab.until(lambda: not lab.orchestrator.mover.running())
                await tell(own=1, relay0=2, relay1=7)
                assert await dropped() == 10
    async with lab.up():
        await tell(own=1, relay0=2, relay1=7)
        assert await dropped() == 10
        await tell(own=1, relay0=2, relay1=8)
        assert await dropped() == 11
        lab.agent.peers[2].to_orchestrator(m.HoldDropped(epoch=relays[0], dropped=3))
        await lab.get("/flows?replica=2")
        assert await dropped() == 12
        assert len({*relays, move["epoch"]}) == 3


def a_report(epoch: int, **more: Any) -> Report:
    return Report(
        epoch=epoch, source=1, target=2, step=Step.UNDONE, reason="why not", keys=1, buckets=0, staged=1,
        stateless=False, pinned=(b"k",), guarantee="none", buffer="", relayed=0, held=0, carried=0, dropped=1,
        suspended=0.5, waited=0.0, steps={"planned": 0.0}, unroomed={1: 2}, **more,
    )  # fmt: skip


def test_a_report_is_the_same_after_it_was_packed() -> None:
    assert unpack(a_report(7).packed) == a_report(7)


@pytest.mark.parametrize(
    ("keys", "buckets", "staged", "said"),
    [
        (0, 1024, 12, "1024 buckets: 12 flows with state"),
        (1, 0, 1, "1 flow: 1 flow with state"),
        (2, 1, 0, "2 flows and 1 bucket: 0 flows with state"),
        (0, 0, 0, "nothing: 0 flows with state"),
    ],
)
def test_a_report_says_what_was_to_move_and_how_much_that_was(keys: int, buckets: int, staged: int, said: str) -> None:
    whole = dataclasses.replace(a_report(1), keys=keys, buckets=buckets, staged=staged)
    assert whole.what == said
    assert dataclasses.replace(whole, source=0).what == said.partition(":")[0]


def test_only_so_many_reports_are_kept_but_all_are_counted() -> None:
    reports = Reports((a_report(1).packed,), {"undone": 1})
    for epoch in range(2, REPORTS + 3):
        reports.ended(a_report(epoch))
    assert len(list(reports)) == REPORTS and reports.get(2) is None and reports.get(3) == a_report(3)
    assert reports.outcomes == {"undone": REPORTS + 2}


def test_totals_add_up_in_the_journal(tmp_path: Path) -> None:
    for _ in range(2):
        journal = Journal(tmp_path / "journal.db")
        journal.add({"drops.a": 2, "drops.b": 1})
        journal.close()
    journal = Journal(tmp_path / "journal.db")
    assert journal.load().totals == {"drops.a": 4, "drops.b": 2}
    journal.close()


def test_figures_that_cannot_be_read_are_said_so() -> None:
    with pytest.raises(JournalError, match="figures"):
        Reports((b"\xff",))
