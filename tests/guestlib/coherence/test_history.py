"""The history checker: histories that one store explains, and histories that none does."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guestlib.coherence import history as module
from guestlib.coherence.history import (
    Add,
    HistoryUndecided,
    Operation,
    Outcome,
    Pull,
    Recorder,
    check_counter,
    check_linearizable,
    load,
)


def update(begun: float, ended: float, read: int, wrote: int, process: str = "p") -> Operation:
    return Operation(process, begun, ended, read, wrote, True)


def seen(begun: float, ended: float, read: int) -> Operation:
    return Operation("r", begun, ended, read)


GOOD = {
    "nothing": [],
    "one after another": [update(0, 1, 0, 1), update(2, 3, 1, 2), seen(4, 5, 2)],
    "at once, in either order": [update(0, 9, 1, 2), update(0, 9, 0, 1)],
    "a read of either while a write is under way": [update(1, 9, 0, 1), seen(2, 3, 0), seen(4, 5, 1)],
    "a write without an answer that took effect": [update(0, math.inf, 0, 1), seen(5, 6, 1)],
    "a write without an answer that never did": [update(0, math.inf, 0, 1), seen(5, 6, 0)],
    "one that took effect late": [update(0, math.inf, 0, 1), seen(5, 6, 0), seen(7, 8, 1)],
}
BAD = {
    "a lost update": [update(0, 1, 0, 1), update(2, 3, 0, 1)],
    "two of one value at once": [update(0, 9, 0, 1), update(0, 9, 0, 2)],
    "an old value after a newer one": [update(0, 1, 0, 1), seen(2, 3, 0)],
    "back and forth": [update(1, 9, 0, 1), seen(2, 3, 1), seen(4, 5, 0)],
    "a value that nobody wrote": [update(0, 1, 0, 1), seen(2, 3, 7)],
    "an answer before the question": [seen(0, 1, 1), update(2, 3, 0, 1)],
    "one without an answer, twice": [update(0, math.inf, 0, 1), update(2, 3, 1, 0), seen(4, 5, 1)],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_one_store_explains(name: str) -> None:
    order = check_linearizable(GOOD[name], 0)
    assert order is not None and {each for each in GOOD[name] if not each.optional} <= set(order)


@pytest.mark.parametrize("name", BAD)
def test_what_none_explains(name: str) -> None:
    assert check_linearizable(BAD[name], 0) is None


@given(st.randoms(use_true_random=False), st.integers(1, 60))
@settings(deadline=None)
def test_every_real_order_is_found_and_a_changed_value_is_not(random: random.Random, count: int) -> None:
    """Operations that take effect at 1, 2, 3 … and begin and end around that, so that they overlap."""
    operations = [
        update(n - 4 * random.random(), n + 4 * random.random(), n - 1, n, f"p{random.randint(1, 4)}")
        for n in range(1, count + 1)
    ]
    random.shuffle(operations)
    order = check_linearizable(operations, 0)
    assert order is not None and [each.wrote for each in order] == list(range(1, count + 1))
    torn = random.randrange(count)
    operations[torn] = update(operations[torn].begun, operations[torn].ended, -1, operations[torn].wrote)
    assert check_linearizable(operations, 0) is None


def test_ten_thousand_operations_are_no_trouble() -> None:
    operations = [update(n - 3, n + 3, n - 1, n) for n in range(1, 10_001)]
    assert len(check_linearizable(operations, 0) or ()) == 10_000


def test_a_search_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS_MOST", 3)
    with pytest.raises(HistoryUndecided, match="7 operations: no answer after 3 steps"):
        check_linearizable([update(0, 9, n - 1, n) for n in range(7, 0, -1)], 0)


def test_a_history_from_files(tmp_path: Path) -> None:
    times = iter(range(100))
    with Recorder(tmp_path / "a", "a", lambda: float(next(times))) as recorder:
        for value, outcome in ((0, Outcome.WRITTEN), (1, Outcome.NOT_WRITTEN), (1, Outcome.UNKNOWN)):
            call = recorder.begin("k")
            call.read(value)
            call.write(value + 1)
            call.end(outcome)
        recorder.begin("k")  # nothing came of it
        recorder.begin("k").read(2)
    (tmp_path / "b").write_text('{"process": "b", "call": 1, "at": 17.0, "event": "begin", "value": "k"}\n{"process": ')
    found = load([tmp_path / "a", tmp_path / "b"])
    assert found == {
        "k": [
            Operation("a", 0.0, 3.0, 0, 1, True),
            Operation("a", 4.0, 5.0, 1),
            Operation("a", 8.0, 9.0, 1),
            Operation("a", 8.0, math.inf, 1, 2, True),
            Operation("a", 13.0, 14.0, 2),
        ]
    }
    assert check_linearizable(found["k"], 0) is not None
    assert str(found["k"][0]) == "a: 0 -> 1 in [0.000000, 3.000000]" and "read 1" in str(found["k"][1])


COUNTERS = {
    "exact": ([Add("a", 2, 0, 1), Add("b", 3, 2, 3)], [Pull("a", 5, 4, 5)], (), ""),
    "one under way": ([Add("a", 2, 0, 1), Add("b", 3, 4, 6)], [Pull("a", 2, 4, 5), Pull("b", 5, 4, 5)], (), ""),
    "one missing": ([Add("a", 2, 0, 1)], [Pull("b", 0, 4, 5)], (), "should be 2 to 2"),
    "one twice": ([Add("a", 2, 0, 1)], [Pull("b", 4, 4, 5)], (), "should be 2 to 2"),
    "one of the dead": ([Add("a", 2, 0, 1)], [Pull("b", 0, 4, 5)], ("a",), ""),
    "one of the dead that was safe": ([Add("a", 2, 0, 1, 2)], [Pull("b", 0, 4, 5)], ("a",), "should be 2 to 2"),
    "backwards": (
        [Add("a", 2, 0, 1)],
        [Pull("b", 2, 4, 5), Pull("c", 0, 6, 7)],
        ("a",),
        "c pulled 0 after b had pulled 2",
    ),
}


@pytest.mark.parametrize(("adds", "pulls", "died", "wrong"), COUNTERS.values(), ids=COUNTERS)
def test_counters(adds: list[Add], pulls: list[Pull], died: tuple[str, ...], wrong: str) -> None:
    found = check_counter(adds, pulls, died)
    assert (wrong in found[0]) if wrong else not found
