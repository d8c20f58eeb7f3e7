"""A middlebox's own figures: what can be told, what is left out, and what the log says of it."""

from __future__ import annotations

import enum
import logging
from fractions import Fraction

import pytest

from splitmerge.figures import LEFT_OUT, MOST, NAME_MOST, FigureCheck, checked

logger = logging.getLogger("tests.figures")


class Odd(float):
    def __float__(self) -> float:
        raise KeyError("odd")


class Name(enum.StrEnum):
    SEEN = "seen"


@pytest.mark.parametrize(
    ("value", "told"),
    [(True, 1.0), (3, 3.0), (-2.5, -2.5), (10**30, 1e30), (Fraction(1, 4), 0.25)],
    ids=["bool", "int", "float", "an int beyond 64 bits", "a fraction"],
)
def test_finite_numbers_of_any_kind_are_told_as_floats(value: object, told: float) -> None:
    (figure,) = checked({"x": value}).right.values()
    assert figure == told and type(figure) is float


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("x", "7", "'x' is a str"),
        ("x", None, "'x' is a NoneType"),
        ("x", [1], "'x' is a list"),
        ("x", 1j, "'x' is a complex"),
        ("x", float("nan"), "'x' is nan"),
        ("x", float("-inf"), "'x' is -inf"),
        ("x", 10**400, "'x' cannot be a float: OverflowError"),
        ("x", Odd(1), "'x' cannot be a float: KeyError"),
        (7, 1.0, "(a int) has a name that is no str"),
        (b"x", 1.0, "(a bytes) has a name that is no str"),
        ("", 1.0, "'' has a name of 0 bytes"),
        ("é" * 65, 1.0, f"'{'é' * 65}' has a name of 130 bytes"),
        ("\ud800", 1.0, r"'\ud800' has a name that is no Unicode text"),
    ],
)
def test_what_is_no_figure_is_left_out_alone(name: object, value: object, problem: str) -> None:
    assert checked({"before": 1, name: value, "after": 2}) == ({"before": 1.0, "after": 2.0}, 1, [problem])


def test_names_are_plain_text() -> None:
    (name,) = checked({Name.SEEN: 1}).right
    assert name == "seen" and type(name) is str


def test_of_too_many_those_made_first_are_told() -> None:
    many = {f"{number:0{NAME_MOST}}": number for number in range(100 * MOST)}
    right, left_out, wrong = checked(many)
    assert list(right.values()) == list(range(MOST)) and left_out == 99 * MOST
    assert len(wrong) == MOST and wrong[0].endswith(f"is one more than {MOST}")


@pytest.mark.parametrize("figures", [None, [("x", 1)], 7])
def test_what_is_no_dict_has_no_figures(figures: object) -> None:
    right, left_out, (problem,) = checked(figures)
    assert (right, left_out) == ({}, 1) and "no dict" in problem


def test_what_is_left_out_is_counted_every_time_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    check = FigureCheck("the middlebox", logger)
    assert check.of({"x": 1}) == {"x": 1.0}
    for _ in range(3):
        assert check.of({"x": 1, "bad": "y"}) == {"x": 1.0, LEFT_OUT: 1.0}
    (line,) = caplog.messages
    assert line.startswith("the middlebox: figure left out: 'bad' is a str (figures are finite numbers")
    assert check.of({LEFT_OUT: 2, "bad": "y"}) == {LEFT_OUT: 3.0}
    assert check.of(dict.fromkeys(map(str, range(100)), "y")) == {LEFT_OUT: 100.0}
    assert len(caplog.messages) == 20
