"""What several edges do for one call is done, or not, as a whole."""

from __future__ import annotations

import asyncio

import pytest

from p4rt_controller import Refusal, SwitchUnavailable, WriteRejected
from p4rt_controller.fabric.member import together

FULL = WriteRejected([Refusal("insert", "RESOURCE_EXHAUSTED", "table full", b"a")])
ELSEWHERE = WriteRejected([Refusal("insert", "RESOURCE_EXHAUSTED", "table full", b"b")])
AWAY = SwitchUnavailable("write", "away")


async def _ends(error: Exception | None) -> str:
    await asyncio.sleep(0)
    if error is not None:
        raise error
    return "done"


@pytest.mark.parametrize(
    ("errors", "raised"),
    [((None, FULL), FULL), ((FULL, AWAY), AWAY), ((AWAY, FULL, None), AWAY)],
    ids=str,
)
async def test_a_refusal_is_told_only_where_all_the_rest_was_done(
    errors: tuple[Exception | None, ...], raised: Exception
) -> None:
    with pytest.raises(type(raised)) as caught:
        await together(map(_ends, errors))
    assert str(caught.value) == str(raised)


async def test_what_each_edge_refused_is_told() -> None:
    with pytest.raises(WriteRejected) as caught:
        await together(map(_ends, (FULL, None, ELSEWHERE)))
    assert caught.value.flows == {b"a", b"b"}


async def test_results_come_in_order() -> None:
    assert await together(map(_ends, (None, None))) == ["done", "done"]
