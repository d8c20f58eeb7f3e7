"""docs/vmm.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from orchestrator.vmm.diagram import with_diagram
from orchestrator.vmm.life import TABLE, Event, State

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "vmm.md").read_text()


def test_the_diagram_is_the_tables() -> None:
    assert with_diagram(PAGE) == PAGE, "run: python -m orchestrator.vmm.diagram"


def test_every_state_can_be_reached_and_left_for_the_end() -> None:
    reached = {State.ASKED}
    for _ in State:
        reached |= {after for (state, _), (after, _) in TABLE.items() if state in reached}
    assert reached == set(State)
    ends = {State.GONE, State.FAILED}
    for _ in State:
        ends |= {state for (state, event), (after, _) in TABLE.items() if after in ends and event is not Event.CREATE}
    assert ends == set(State) - {State.ASKED}
