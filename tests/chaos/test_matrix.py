"""The matrix is whole, its verdicts are strict, and its table says what happened."""

from __future__ import annotations

import multiprocessing
import multiprocessing.queues
import queue
from pathlib import Path

import msgspec
import pytest

from chaos import table
from chaos.__main__ import left, main
from chaos.cells import COMPONENTS, KINDS, RING_SAMPLE, SAMPLE, Cell, Kind, cells
from chaos.lanes import Conditions, Name, _empty, strikes, until_struck
from chaos.strike import Outcome
from chaos.table import merged
from chaos.verdict import ends, judge
from orchestrator.migration.paths import TRANSITIONS
from orchestrator.migration.steps import DECIDED as DECIDED_STEPS
from orchestrator.migration.steps import Path as Way
from orchestrator.migration.steps import Step
from splitmerge.errors import SplitmergeError

CPU = KINDS["cpu/order-preserving"]
GOOD = Outcome(
    kind=CPU.name, component="control", step="draining", end="done", seconds=1.0, sent=100, flows=4, silence=64.0
)
DECIDED = {step.value for step in DECIDED_STEPS}
MAIN = ("orchestrator", "switch", "source", "target", "agent", "control")
"""Components that are struck in every step."""


def cell(component: str, step: str) -> Cell:
    return Cell(CPU, component, step)


def test_every_component_is_struck_in_every_step_of_every_kind() -> None:
    found = {(each.kind.name, each.component, each.step) for each in cells()}
    whole = {name: kind for name, kind in KINDS.items() if not kind.by_key}
    assert found >= {
        (name, component, step)
        for name, kind in whole.items()
        for component in MAIN
        for step in kind.steps
        if (name, component) != ("cpu/loss-free", "agent")
    }
    assert len(found) == len(cells())
    for name, kind in whole.items():
        for component in ("link", "apart"):
            steps = {step for one, other, step in found if (one, other) == (name, component)} & set(kind.forward)
            assert steps & DECIDED
            assert steps - DECIDED or (component == "link" and not kind.buffers), "nobody needs it before"
    several = {(each.kind.name, each.component, each.step) for each in cells(several=True)}
    assert {component for _, component, _ in several - found} == {"far"} and set(RING_SAMPLE) <= several


def test_every_kind_is_struck_by_key_too_before_and_after_the_decision() -> None:
    for kind in KINDS.values():
        if kind.by_key:
            struck = [(component, step) for component in COMPONENTS for step in kind.strikes(component)]
            assert {"orchestrator", "source", "target", "control"} <= {component for component, _ in struck}
            steps = {step for _, step in struck}
            assert steps - DECIDED and steps & DECIDED and steps <= set(kind.steps)
            assert {component for component, steps in kind.chosen.items() for _ in steps} <= set(COMPONENTS)


def test_every_component_is_struck_while_the_switch_makes_room_where_moves_need_it() -> None:
    struck = {(each.kind.name, each.component) for each in cells(steps=["reserving"])}
    needs = {name for name, kind in KINDS.items() if kind.by_key and kind.buffer == "none"}
    assert struck == {(kind, component) for kind in needs for component in COMPONENTS} and len(needs) == 2
    assert all(Step.RESERVING in TRANSITIONS[path] for path in (Way.FORWARD, Way.NONE))


@pytest.mark.parametrize(
    ("component", "changes", "fault"),
    [
        ("switch", {"end": "undone", "lost": 9}, ""),
        ("switch", {"lost": 9}, "ended in done, and not in undone"),
        ("link", {"end": "undone"}, ""),
        ("link", {"end": "undone", "lost": 1}, "nobody who died can have held them"),
        ("orchestrator", {"end": "undone"}, ""),
        ("orchestrator", {"end": "undone", "lost": 1}, "nobody who died can have held them"),
        ("source", {"died": 1, "lost": 3}, ""),
        ("target", {"died": 1, "end": "undone"}, ""),
        ("target", {"died": 1, "end": "undone", "lost": 1}, "nobody who died can have held them"),
        ("control", {}, ""),
    ],
)
def test_a_move_that_waits_for_room_is_not_decided(component: str, changes: dict[str, object], fault: str) -> None:
    one = Cell(KINDS["none/no-buffer/keys"], component, "reserving")
    outcome = msgspec.structs.replace(GOOD, kind=one.kind.name, component=component, step="reserving")
    judged = judge(one, msgspec.structs.replace(outcome, **changes))
    assert bool(judged.faults) == bool(fault), judged.faults
    assert fault in "; ".join(judged.faults)


def test_steps_that_the_verdict_speaks_of_are_steps_of_the_kind() -> None:
    for kind in KINDS.values():
        named = kind.buffers | kind.source_has | kind.target_has | kind.network | kind.apart | {kind.cancel_in}
        assert named.union(*kind.chosen.values()) <= set(kind.steps)


def test_the_sample_strikes_nearly_every_component_with_every_buffer_before_and_after_the_decision() -> None:
    assert {component for _, component, _ in SAMPLE} == set(COMPONENTS) - {"apart"}
    assert {kind for kind, _, _ in SAMPLE} == {
        "cpu/order-preserving", "cpu/loss-free", "replica/order-preserving", "none/no-buffer"
    }  # fmt: skip
    assert {step for _, component, step in SAMPLE if component == "orchestrator"} >= {"draining", "resuming"}
    assert ("replica/order-preserving", "switch") in {(kind, component) for kind, component, _ in SAMPLE}
    for sample in (SAMPLE, RING_SAMPLE):
        assert {Cell(KINDS[kind], component, step) for kind, component, step in sample} <= set(cells(several=True))


@pytest.mark.parametrize(
    ("component", "step", "changes", "fault"),
    [
        ("control", "draining", {}, ""),
        ("control", "draining", {"lost": 1}, "nobody who died can have held them"),
        ("orchestrator", "draining", {"lost": 9, "end": "undone"}, ""),
        ("orchestrator", "draining", {}, "ended in done, and not in undone"),
        ("orchestrator", "committing", {"end": "undone"}, "ended in undone, and not in done"),
        ("orchestrator", "planned", {"lost": 9, "end": "undone"}, "nobody who died can have held them"),
        ("link", "resuming", {"lost": 9}, ""),
        ("link", "suspending", {}, "ended in done, and not in undone"),
        ("link", "draining", {"end": "undone"}, ""),
        ("link", "draining", {}, ""),
        ("switch", "planned", {"lost": 9}, ""),
        ("switch", "planned", {"lost": 9, "end": "undone"}, ""),
        ("far", "planned", {"lost": 9}, ""),
        ("far", "draining", {"end": "undone"}, ""),
        ("far", "committing", {"end": "undone"}, "ended in undone, and not in done"),
        ("switch", "planned", {"lost": 1793}, "only 1792 came until everything was well"),
        ("switch", "planned", {"lost": 115, "silence": 1.0}, "only 114 came until everything was well"),
        ("switch", "planned", {"lost": 114, "silence": 1.0}, ""),
        ("switch", "planned", {"duplicated": 1}, "1 duplicated"),
        ("switch", "planned", {"reordered": 2}, "2 reordered"),
        ("switch", "planned", {"reordered": 2, "expired": 2}, ""),
        ("control", "planned", {"reordered": 2, "expired": 2}, "2 reordered"),
        ("switch", "planned", {"suspended": 1}, "1 suspended"),
        ("switch", "planned", {"owned_twice": 1}, "1 owned twice"),
        ("switch", "planned", {"owned_by_none": 1}, "1 owned by none"),
        ("switch", "planned", {"misplaced": 1}, "1 misplaced"),
        ("switch", "planned", {"torn": 1}, "1 torn"),
        ("switch", "planned", {"waiting": 1}, "1 waiting"),
        ("switch", "planned", {"died": 1}, "said to have died"),
        ("source", "draining", {"died": 1, "lost": 3}, ""),
        ("source", "draining", {"died": 1, "end": "undone"}, "ended in undone, and not in done"),
        ("source", "exporting", {"died": 1, "lost": 3}, "nobody who died can have held them"),
        ("source", "exporting", {}, "not reported"),
        ("target", "exporting", {"died": 1, "end": "undone"}, ""),
        ("target", "exporting", {"died": 1, "end": "undone", "lost": 1}, "nobody who died can have held them"),
        ("target", "exporting", {"died": 1, "end": "undone", "lost": 1, "elsewhere": 1}, ""),
        ("target", "resuming", {"died": 1, "lost": 1}, ""),
        ("agent", "exporting", {}, "not reported"),
        ("apart", "committing", {"died": 2, "lost": 99, "end": "undone"}, ""),
        ("apart", "committing", {}, "not reported"),
        ("control", "draining", {"broken": 1}, "TCP"),
        ("control", "draining", {"state_lost": 1}, "state of 1"),
        ("control", "draining", {"end": "none"}, "ended in none"),
        ("control", "draining", {"sent": 0}, "no sense"),
        ("control", "draining", {"problem": "the lab is gone"}, "the lab is gone"),
        ("control", "exporting", {"passed": True}, ""),
        ("control", "draining", {"passed": True}, "did not enter the step"),
        ("source", "exporting", {"passed": True}, ""),
        ("source", "exporting", {"passed": True, "died": 1}, "1 replicas are said to have died"),
        ("source", "exporting", {"passed": True, "lost": 1}, "nobody who died can have held them"),
        ("switch", "exporting", {"passed": True, "lost": 1}, "nobody who died can have held them"),
        ("switch", "exporting", {"passed": True, "reordered": 2, "expired": 2}, "2 reordered"),
        ("switch", "exporting", {"passed": True, "duplicated": 1}, "1 duplicated"),
        ("switch", "exporting", {"passed": True, "owned_twice": 1}, "1 owned twice"),
        ("switch", "exporting", {"passed": True, "suspended": 1}, "1 suspended"),
        ("switch", "exporting", {"passed": True, "broken": 1}, "TCP"),
        ("switch", "exporting", {"passed": True, "end": "none"}, "ended in none"),
    ],
)
def test_verdicts(component: str, step: str, changes: dict[str, object], fault: str) -> None:
    judged = judge(cell(component, step), msgspec.structs.replace(GOOD, **changes))
    assert bool(judged.faults) == bool(fault)
    assert fault in "; ".join(judged.faults)


@pytest.mark.parametrize(
    ("component", "step", "changes", "fault"),
    [
        ("control", "settling", {"lost": 5, "drops": {"replicas late_dropped": 6}}, ""),
        ("control", "settling", {"lost": 7, "drops": {"replicas late_dropped": 6}}, "nobody who died can have held"),
        ("control", "settling", {"lost": 5, "drops": {"controller expired": 6}}, "nobody who died can have held them"),
        ("orchestrator", "switching", {"lost": 5}, "nobody who died can have held them"),
        ("target", "exporting", {"lost": 5, "died": 1, "end": "undone", "drops": {"replicas late_dropped": 5}}, ""),
        ("target", "exporting", {"lost": 5, "died": 1, "end": "undone"}, "nobody who died can have held them"),
        ("target", "switching", {"lost": 5, "died": 1}, ""),
        ("target", "switching", {"lost": 5, "died": 1, "end": "undone"}, ""),
        ("source", "exporting", {"lost": 5, "died": 1}, ""),
        ("switch", "planned", {"end": "undone"}, "ended in undone, and not in done"),
    ],
)
def test_a_guarantee_that_gives_packets_up_counts_them(
    component: str, step: str, changes: dict[str, object], fault: str
) -> None:
    """Guarantee ``none``."""
    one = Cell(KINDS["none/none"], component, step)
    outcome = msgspec.structs.replace(GOOD, kind=one.kind.name, component=component, step=step)
    judged = judge(one, msgspec.structs.replace(outcome, **changes))
    assert bool(judged.faults) == bool(fault), judged.faults
    assert fault in "; ".join(judged.faults)


@pytest.mark.parametrize("cell", cells(several=True), ids=lambda cell: cell.name)
def test_a_move_ends_as_decided_wherever_it_is_struck(cell: Cell) -> None:
    """But where several endings are possible, one that is over stays, and one that nobody dies in is completed."""
    possible = ends(cell, msgspec.structs.replace(GOOD, died=2))
    assert possible <= {"done", "undone"} and possible
    if cell.step in ("done", "undone"):
        assert possible == {cell.step}
    if cell.component in ("orchestrator", "control"):
        assert len(possible) == 1
    if cell.component == "orchestrator":
        assert possible == ({"done"} if cell.step in DECIDED else {"undone"})


def test_the_table_has_a_row_a_step_struck_and_says_what_does_not_hold(tmp_path: Path) -> None:
    bad = msgspec.structs.replace(GOOD, step="resuming", faults=("2 reordered",))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table._BEGIN}\nbefore now\n{table._END}\nafter\n")
    table.write([GOOD, bad], page)
    text = page.read_text()
    assert "before now" not in text and text.startswith("before\n") and text.endswith("after\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2
    assert "| DRAINING | – | – | – | – | – | done, 0, 1.0 s | – | – |" in text
    assert "**2 reordered**" in text and "1 of 2 cells hold" in text
    table.write([GOOD], page)
    assert "reordered**" not in page.read_text()


def test_a_cell_that_was_struck_again_has_its_last_outcome() -> None:
    again = msgspec.structs.replace(GOOD, seconds=2.0)
    other = msgspec.structs.replace(GOOD, step="resuming")
    assert merged([GOOD, other, again]) == [again, other]


def test_a_cell_that_holds_now_still_says_that_it_failed_before(tmp_path: Path) -> None:
    bad = msgspec.structs.replace(GOOD, faults=("2 reordered",))
    worse = msgspec.structs.replace(bad, seconds=3.0)
    now = msgspec.structs.replace(GOOD, failures=2)
    assert merged([bad, worse, GOOD]) == [now]
    assert merged([now, GOOD]) == merged([GOOD, now]) == [now], "the same strike, from a copy of the file"
    assert merged([now, worse, msgspec.structs.replace(GOOD, seconds=4.0)])[0].failures == 3
    for outcomes in ([now], [bad, worse, GOOD]):
        (text,) = table.sections(outcomes).values()
        assert "done, 0, 1.0 s (failed before: 2)" in text
        assert f"1 of 1 cells hold; 2 earlier strikes at them did not, of {len(cells())}" in text
    assert table.line(now).endswith("holds (failed before: 2)")
    assert table.text([now]).endswith("1 of 1 cells hold; 2 earlier strikes at them did not\n")


def test_outcomes_of_other_switches_and_topologies_have_tables_of_their_own(tmp_path: Path) -> None:
    far = msgspec.structs.replace(GOOD, topology="three-switches", component="far", lost=7)
    bmv2 = msgspec.structs.replace(GOOD, target="bmv2")
    assert merged([GOOD, far, bmv2]) == [GOOD, far, bmv2]
    text = table.markdown(table.sections([GOOD, far, bmv2]))
    assert text.count("### ") == 3 and "### simple_switch_grpc, one switch" in text
    assert "### Embedded switch, three switches" in text and "| agent | control | apart | link | far |" in text
    assert "| DRAINING | – | – | – | – | – | – | – | – | done, 7 lost, 1.0 s |" in text


def test_writing_the_tables_of_one_lab_leaves_those_of_others(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table._BEGIN}\n{table._END}\nafter\n")
    bmv2 = msgspec.structs.replace(GOOD, target="bmv2", lost=5)
    table.write([GOOD, bmv2], page)
    both = page.read_text()
    table.write([GOOD], page)
    assert page.read_text() == both
    table.write([msgspec.structs.replace(bmv2, lost=6)], page)
    assert page.read_text() == both.replace("5 lost", "6 lost")


def test_a_step_that_was_passed_is_no_blank_and_the_table_says_why() -> None:
    passed = judge(cell("control", "exporting"), msgspec.structs.replace(GOOD, step="exporting", passed=True))
    (text,) = table.sections([GOOD, passed]).values()
    assert "| EXPORTING | – | – | – | – | – | passed | – | – |" in text
    assert "*passed* EXPORTING: the source had exported before its marker was back" in text
    assert f"2 of 2 cells hold, of {len(cells())} that there are" in text


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if not kind.by_key], ids=lambda kind: kind.name)
def test_a_whole_table_says_why_the_kind_has_no_other_steps(kind: Kind) -> None:
    whole = [
        msgspec.structs.replace(GOOD, kind=kind.name, step=step, component=component)
        for component in COMPONENTS
        for step in kind.strikes(component)
    ]
    (text,) = table.sections(whole).values()
    assert kind.without and f"Other steps cannot be struck: {kind.without}" in text
    assert text.count("–") == len(kind.steps) * len(COMPONENTS) - len(whole)
    (part,) = table.sections([each for each in whole if each.step != "done"]).values()
    assert "Other steps" not in part


def test_what_holds_already_is_not_struck_again() -> None:
    chosen = [cell(component, step) for component in ("switch", "control") for step in ("draining", "exporting")]
    passed = msgspec.structs.replace(GOOD, step="exporting", passed=True)
    bad = msgspec.structs.replace(GOOD, component="switch", faults=("2 reordered",))
    elsewhere = msgspec.structs.replace(GOOD, target="bmv2", component="switch", step="exporting")
    assert left(chosen, Conditions(), [GOOD, passed, bad, elsewhere]) == chosen[:2]
    assert left(chosen, Conditions("bmv2"), [GOOD, passed, bad, elsewhere]) == [chosen[0], *chosen[2:]]


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("[{}]")
    for arguments, problem in (
        (["--resume"], "--resume: without --json FILE"),
        (["--table", str(broken)], "broken.json: Object missing required field"),
        (["--table", str(tmp_path / "none.json")], "No such file"),
        (["--jobs", "0"], "--jobs: 0 (at least 1)"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2 and problem in capsys.readouterr().err


def test_a_cell_is_struck_again_while_its_step_is_passed_but_not_once_something_is_amiss() -> None:
    passed, bad = (msgspec.structs.replace(GOOD, passed=True, faults=faults) for faults in ((), ("1 duplicated",)))
    for outcomes, taken in (([passed, GOOD, bad], 1), ([passed, bad, GOOD], 1), ([bad, GOOD], 0), ([passed] * 3, 2)):
        coming = iter(outcomes)
        assert until_struck(lambda coming=coming: next(coming), 3) is outcomes[taken]  # type: ignore[misc]
        assert len(list(coming)) == len(outcomes) - taken - 1


def test_lanes_that_are_to_end_are_all_told() -> None:
    wanted: multiprocessing.queues.Queue[Name | None] = multiprocessing.get_context("spawn").Queue()
    for each in (("kind", "switch", "draining"), None, None):
        wanted.put(each)
    _empty(wanted, 2)
    assert [wanted.get(timeout=5) for _ in range(2)] == [None, None]
    with pytest.raises(queue.Empty):
        wanted.get(timeout=0.1)
    wanted.close()
    wanted.join_thread()


def test_a_lane_that_ends_is_said_and_leaves_no_process() -> None:
    faulty = Conditions(topology=None)  # type: ignore[arg-type]  # every lane fails at it, and not by one of our errors
    with pytest.raises(SplitmergeError, match="lane"):
        list(strikes([cell("switch", "draining")] * 2, faulty, 2))
    assert not multiprocessing.active_children()
