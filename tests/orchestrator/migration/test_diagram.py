"""docs/migration.md says what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.migration.diagram import with_diagrams
from orchestrator.migration.steps import Step
from splitmerge.errors import BadInput

DOCUMENT = Path(__file__).parents[3] / "docs" / "migration.md"


def test_the_diagrams_are_up_to_date() -> None:
    text = DOCUMENT.read_text()
    assert text == with_diagrams(text), "run: python -m orchestrator.migration.diagram"


def test_every_step_is_explained() -> None:
    prose = DOCUMENT.read_text().split("## All ways")
    told = prose[0] + prose[1].partition("<!-- end")[2]
    assert [step.name for step in Step if step.name not in told] == []


def test_a_document_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(BadInput):
        with_diagrams("nothing here")
