"""Time slices of those that packets wait for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from splitmerge.linux import promptness


def test_a_thread_keeps_its_priority_and_the_others_theirs() -> None:
    seen: list[tuple[bool, int]] = []

    def ask() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, min(os.getpriority(os.PRIO_PROCESS, 0) + 1, 19))
        granted = promptness.ask_for_short_slices()
        seen.append((granted, os.getpriority(os.PRIO_PROCESS, 0)))

    before = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(10)
    assert seen == [(True, min(before + 1, 19))]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_the_kernel_knows_the_slice() -> None:
    """From Linux 6.12 on, /proc tells it where the kernel has CONFIG_SCHED_DEBUG."""
    found: list[str] = []

    def ask() -> None:
        promptness.ask_for_short_slices()
        path = Path(f"/proc/self/task/{threading.get_native_id()}/sched")
        found.extend(path.read_text().splitlines() if path.exists() else ())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(10)
    slices = [line.split(":")[1].strip() for line in found if line.startswith("se.slice")]
    if not slices:
        pytest.skip("this kernel does not tell")
    assert slices == [str(promptness.SLICE_NS)]


def test_an_unknown_machine_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert not promptness.ask_for_short_slices()
