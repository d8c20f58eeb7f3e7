"""Functions of a middlebox that would not run when they are called are refused, or counted where nobody could know."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from guestlib import Guest, MiddleboxError, Packet, load_middlebox, prepare
from guestlib.engine import Engine
from guestlib.plain import unplain
from tests.guestlib.conftest import Count, frame_of, key_of
from tests.guestlib.harness import config_for
from tests.guestlib.test_engine import Outside


async def coroutine(*args: Any) -> None: ...


async def async_generator(*args: Any) -> Any:
    yield 1


def generator(*args: Any) -> Any:
    yield 1


def plain(*args: Any) -> None: ...


class Called:
    async def __call__(self, *args: Any) -> None: ...


class Quiet:
    def __call__(self, *args: Any) -> None: ...


UNPLAIN = [coroutine, async_generator, generator, functools.partial(coroutine, 1), Called(), Called().__call__]
NAMES = ["coroutine", "async generator", "generator", "partial", "object", "method"]


@pytest.mark.parametrize("function", UNPLAIN, ids=NAMES)
@pytest.mark.parametrize("name", ["setup", "on_packet", "on_finish"])
def test_a_middlebox_of_which_a_function_would_not_run_is_not_loaded(
    name: str, function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Box:
        setup = on_packet = on_finish = staticmethod(plain)

    setattr(Box, name, staticmethod(function))
    module = ModuleType("boxes")
    module.Box = Box  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "boxes", module)
    for make in (lambda: load_middlebox("boxes:Box"), lambda: prepare(Box())):
        with pytest.raises(MiddleboxError, match=f"{name} is an? .*no line would run .write a plain `def`"):
            make()


@pytest.mark.parametrize("function", [plain, functools.partial(plain, 1), Quiet(), Quiet, print, lambda: None, None])
def test_what_runs_when_it_is_called_is_plain(function: object) -> None:
    assert unplain(function) is None


@pytest.mark.parametrize("function", UNPLAIN, ids=NAMES)
@pytest.mark.parametrize(
    ("give", "where"),
    [
        (lambda guest, function: guest.on_timer("idle", function), "timer 'idle'"),
        (lambda guest, function: guest.on_refused(function), "on_refused"),
        (lambda guest, function: guest.create_shared("hits", Count(), function), "shared object 'hits'"),
    ],
    ids=["timer", "refused", "combiner"],
)
def test_a_callback_that_would_not_run_is_refused(
    give: Callable[[Guest, Any], None], where: str, function: Callable[..., Any]
) -> None:
    guest = Guest()
    guest.register_state(Count)
    with pytest.raises(MiddleboxError, match=f"{where}: its (callback|combiner) is an? "):
        give(guest, function)
    give(guest, plain)  # nothing of the one that was refused is left


class Sly:
    """Its functions look plain."""

    def __init__(self, makes: Callable[..., Any]) -> None:
        self._makes = makes

    def setup(self, guest: Guest) -> None:
        guest.register_state(Count)
        guest.on_timer("idle", lambda guest, key: self._makes())
        self.on_finish = self.on_packet = lambda *args: self._makes()

    def on_packet(self, guest: Guest, packet: Packet) -> None: ...


@pytest.fixture
def engine_of(tmp_path: Path) -> Callable[[Callable[..., Any]], Engine]:
    def make(makes: Callable[..., Any]) -> Engine:
        middlebox = Sly(makes)
        guest = prepare(middlebox)
        guest.begin(1, "i1")
        return Engine(middlebox, guest, config_for(tmp_path), Outside())

    return make


@pytest.mark.parametrize("makes", [coroutine, async_generator, generator])
def test_packets_of_which_nothing_runs_are_counted_and_logged(
    engine_of: Callable[..., Engine], makes: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(makes)
    engine.frames([frame_of(1), frame_of(2)], 0.0)
    engine.guest.plane.hold(5, [key_of(1)], [], 0.0)
    engine.frames([frame_of(2)], 0.0)
    assert engine.drops == {"middlebox_error": 3}
    assert len(caplog.records) == 3 and makes.__name__ in caplog.text
    assert "NotRun: it returned a" in caplog.text


@pytest.mark.parametrize("makes", [coroutine, generator])
def test_timers_and_ends_of_which_nothing_runs_are_logged(
    engine_of: Callable[..., Engine], makes: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(makes)
    engine.guest.create_flow(key_of(1), Count())
    engine.guest.flow_timer(key_of(1), 1.0, "idle")
    assert engine.guest.fire_timers(2.0) == 1
    assert "timer idle of" in caplog.text and "of which no line has run" in caplog.text
    engine.end(2.0, 5.0)
    engine.frames([], 2.0)
    engine.tick(2.0)
    assert engine.done and not engine.clean and "on_finish failed" in caplog.text


@pytest.mark.parametrize("makes", [lambda: True, lambda: b"frame", list])
def test_what_else_a_middlebox_returns_is_nothing_to_us(
    engine_of: Callable[..., Engine], makes: Callable[..., Any]
) -> None:
    engine = engine_of(makes)
    engine.frames([frame_of(1)], 0.0)
    assert engine.drops == {}


def test_a_setup_of_which_nothing_runs_is_refused() -> None:
    sly = Sly(plain)
    sly.setup = lambda guest: coroutine()  # type: ignore[method-assign]
    with pytest.raises(MiddleboxError, match="its setup fails: it returned a coroutine"):
        prepare(sly)
