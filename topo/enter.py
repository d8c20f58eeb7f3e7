"""Run a command beside the processes of a running lab; find those processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from splitmerge.errors import BadInput
from topo.names import names_of
from topo.namespaces import CLONE_NEWNET, CLONE_NEWUSER, die_with_parent, replace_files, setns
from topo.spec import LabRecord


def popen_in(record: LabRecord, namespace: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """``subprocess.Popen`` in ``client``, ``server``, ``slot1`` …; the process ends when the caller's does.

    It knows the lab's hosts by name (`topo.names`).
    :raises BadInput: if the lab has no such namespace.
    """
    path = record.namespaces.get(namespace)
    if path is None:
        raise BadInput(f"namespace {namespace!r}", "not in this lab", "one of: " + ", ".join(record.namespaces))
    return popen_beside(record.pid, argv, path, tuple(names_of(Path(record.directory))), **options)


def popen_beside(
    pid: int,
    argv: Sequence[str],
    network_path: str = "",
    files: Sequence[tuple[Path, Path]] = (),
    **options: Any,
) -> subprocess.Popen[bytes]:
    """``subprocess.Popen`` in the namespaces of another process, or in this network namespace of the same user's.

    The process ends when the caller's does. It sees the first of each pair of ``files`` in place of the second, where
    the kernel allows that: they are a convenience, and the command runs without them too.
    """
    user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    network = os.open(network_path or f"/proc/{pid}/ns/net", os.O_RDONLY)
    foreign = os.stat(user).st_ino != os.stat("/proc/self/ns/user").st_ino
    parent = os.getpid()

    def enter() -> None:
        if foreign:
            setns(user, CLONE_NEWUSER)
        setns(network, CLONE_NEWNET)
        with suppress(OSError):  # mounts refused (a container's seccomp), or the lab has just removed its files
            if files:
                replace_files(files)
        die_with_parent(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # who passes signals on (`splitmerge exec`) has blocked them

    try:
        return subprocess.Popen(argv, preexec_fn=enter, **options)
    finally:
        os.close(user)
        os.close(network)


def descendants(pid: int) -> list[tuple[int, str]]:
    """Process ids and command lines of all that this process started, directly or not.

    Threads and processes that end meanwhile are left out, and nothing else is: Python 3.11 waits for each child in a
    thread, which ends with it.
    """
    found: list[tuple[int, str]] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has just ended
            for child in map(int, children.read_text().split()):
                with suppress(OSError):  # the process has
                    line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found += [(child, line), *descendants(child)]
    return found
