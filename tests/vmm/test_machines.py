"""The end of a machine, which the agent's loop and a worker's thread see at the same time. QEMU here is `sleep`."""

from __future__ import annotations

import queue
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guestlib.blocking import SelectorPoller
from orchestrator.vmm.libvirt.machine import Machine
from orchestrator.vmm.loop import Ended
from orchestrator.vmm.machines import MachineBackend


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Running; it says nothing over its channel, which closes when it ends."""
    host: Any = SimpleNamespace(libvirt=None, call=lambda work: None)
    files = {name: tmp_path / name for name in ("channel", "console", "memory_file")}
    spec: Any = SimpleNamespace(name="replica-1", **files)
    made = Machine(host, spec)
    made.channel, far = socket.socketpair()
    with far:
        process = subprocess.Popen(["sleep", "600"], stdin=far)
    made.pid = process.pid
    yield made
    process.kill()
    process.wait()
    if made.channel is not None:
        made.channel.close()


def test_one_that_another_thread_has_ended_is_gone(machine: Machine) -> None:
    assert machine.arrived() == []
    machine.kill()
    assert machine.channel is None and machine.arrived() is None
    machine.kill()


def test_nothing_is_watched_any_more_of_one_that_is_killed(machine: Machine, tmp_path: Path) -> None:
    """A worker closes its channel: watched still, the next one with its number would not be listened to."""
    poller = SelectorPoller()
    backend = MachineBackend.__new__(MachineBackend)  # without a libvirtd
    backend._memory, backend._machines, backend._said = tmp_path / "memory_file", {1: machine}, {}
    backend._workers, backend._happened = ThreadPoolExecutor(1), queue.SimpleQueue()
    backend.attach(poller, lambda: None, lambda: None)
    backend._watch(1)
    assert len(poller._selector.get_map()) == 1
    backend.kill(1)
    backend.kill(1)
    backend._workers.shutdown(wait=True)
    assert backend.news() == [Ended(1, "signal SIGKILL")] and not poller._selector.get_map()
    poller.close()
