"""The soak test in small, and that it notices what it is there to notice."""

from __future__ import annotations

import pytest

pytest.importorskip("llvmlite")

from benchmarks.soak import CPU_PORT, LEFT, RIGHT, SERVERS, Soak, dropped, soak
from p4src import DropReason


def test_a_million_packets(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak(1_000_000, limit_mib=4.0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  5 %") and lines[19].startswith("100 %")
    assert all(line.endswith(" 0 unaccounted") for line in lines[:20])


def test_growth_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak(20_000, limit_mib=-1e6) == 1
    assert "memory grew" in capsys.readouterr().err


def test_every_fate_occurs_and_a_missing_packet_is_seen() -> None:
    run = Soak()
    run.run(100_000)
    assert run.unaccounted() == 0
    assert run.changes > 100
    reasons = ("NO_BUCKET", "MALFORMED", "UNKNOWN_PORT", "BAD_CHECKSUM", "NO_ROUTE")
    assert set(run.found()) == {LEFT, RIGHT, SERVERS, CPU_PORT, *(dropped(DropReason[name]) for name in reasons)}
    assert run.found().total() == run.packets
    run.seen[LEFT] -= 1
    assert run.unaccounted() == 2, "one too few came out, and one is nowhere"
    run.seen[RIGHT] += 1
    assert run.unaccounted() == 2, "one came out on the wrong port"
