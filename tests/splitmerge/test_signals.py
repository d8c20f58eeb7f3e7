"""SIGINT, SIGTERM and SIGHUP end what a command builds once, with one line, and leave nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from splitmerge.cli import building
from splitmerge.cli.errors import Interrupted
from splitmerge.cli.signals import SIGNALS, Interruption, as_ever
from topo.spec import LabRecord, LabSpec


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As Python has them, whatever this run was begun with; and as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
def test_the_first_signal_interrupts_with_a_line_and_no_other_disturbs_the_way_out(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt), Interruption("ending it") as interruption:
        try:
            signal.raise_signal(number)
        finally:
            for other in SIGNALS:
                signal.raise_signal(other)
    for other in SIGNALS:
        signal.raise_signal(other)  # nor its last words
    assert interruption.requested and capfd.readouterr().err == "interrupted: ending it\n"


def test_what_was_asked_is_remembered_where_the_exception_was_lost() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption("ending it") as interruption:
        interruption.check()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        interruption.check()


def test_without_a_signal_all_is_as_it_was() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Interruption("ending it"):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert [signal.getsignal(number) for number in SIGNALS] == [
        signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL,
    ]  # fmt: skip


def test_what_is_ignored_stays_so() -> None:
    """`nohup splitmerge demo`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruption("ending it") as interruption:
        signal.raise_signal(signal.SIGHUP)
        as_ever()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert not interruption.requested


@pytest.mark.parametrize("lost", [False, True], ids=["in the last line", "where the exception is lost"])
def test_a_lab_that_has_just_come_up_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    spec = LabSpec(name="lab", directory=str(tmp_path / "lab"))
    record = LabRecord(name="lab", pid=1, directory=spec.directory, target="embedded", api_socket="", namespaces={})
    ended: list[LabRecord] = []

    def start(_spec: LabSpec) -> LabRecord:
        if lost:
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        return record

    monkeypatch.setattr(building, "start_lab", start)
    monkeypatch.setattr(building, "stop_lab", ended.append)
    with pytest.raises(Interrupted, match=r"^interrupted: nothing of the lab is left$"), Interruption("x") as asked:
        if not lost:
            monkeypatch.setattr(asked, "check", lambda: signal.raise_signal(signal.SIGTERM))
        building.build(spec, asked)
    assert ended == [record]


def test_an_interrupt_before_a_lab_is_begun_does_not_end_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = LabSpec(name="lab", directory=str(tmp_path / "lab"))
    record = LabRecord(name="lab", pid=1, directory=spec.directory, target="embedded", api_socket="", namespaces={})
    spec.root.mkdir()

    def start(_spec: LabSpec) -> None:
        signal.raise_signal(signal.SIGHUP)

    def stop(_record: LabRecord) -> None:
        pytest.fail("it is not ours")

    monkeypatch.setattr(building, "start_lab", start)
    monkeypatch.setattr(building, "stop_lab", stop)
    monkeypatch.setattr(building, "read_record", lambda directory: record)
    said = f"interrupted: lab 'lab' runs .`splitmerge down --state-dir {tmp_path}` ends it"
    with pytest.raises(Interrupted, match=said), Interruption("x") as asked:
        building.build(spec, asked)
