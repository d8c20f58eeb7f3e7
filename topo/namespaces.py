"""Network namespaces without names: made by unshare(2), kept by a file descriptor, gone with the last one.

Nothing is ever written under /run/netns, so nothing can be left behind, whatever way a process ends. As an ordinary
user, the sandbox is a user namespace first (`user_namespaces(7)`), in which that user may make network namespaces.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from topo.errors import SandboxError

CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNS = 0x00020000
_PR_SET_PDEATHSIG = 1
_MS_BIND = 0x1000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_MS_REC_SLAVE = 0x4000 | 0x80000

_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


def unshare(flags: int) -> None:
    """unshare(2). :raises OSError: as the kernel says."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int = 0) -> None:
    """setns(2) for the calling thread. :raises OSError: as the kernel says."""
    _check(_libc.setns(fd, flags), "setns")


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).

    ``parent``: process id that must still be the parent, else this process ends at once (it died before the request).
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def enter_sandbox() -> None:
    """Move this process, which must have one thread, into fresh network and mount namespaces of its own.

    Without root it becomes root of a user namespace first.
    :raises SandboxError: if the kernel refuses, with what would allow it.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWNET | CLONE_NEWNS | (0 if uid == 0 else CLONE_NEWUSER))
        if uid != 0:  # AppArmor grants the namespace, and refuses what makes it one of use
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"0 {uid} 1")
            _write("/proc/self/gid_map", f"0 {gid} 1")
        _check(_libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None), "mount")
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise SandboxError(
            f"the kernel refuses namespaces to uid {uid}: {what}. Run as root, or allow user namespaces "
            "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; "
            "of a container: --privileged)"
        ) from None
    # /sys shows the network devices of the namespace that mounted it; without this, tools see the host's.
    _libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None)


def replace_files(files: Sequence[tuple[Path, Path]]) -> None:
    """For this process and its children: the first of each pair in place of the second; both must exist.

    In a mount namespace of its own, so that nobody else sees it and nothing is left of it.
    :raises OSError: as the kernel says.
    """
    unshare(CLONE_NEWNS)
    _check(_libc.mount(b"none", b"/", None, _MS_REC_SLAVE, None), "mount")  # what is mounted here stays here
    for own, other in files:
        _check(_libc.mount(bytes(own), bytes(other), None, _MS_BIND, None), f"mount {own} at {other}")


def new_network_namespace() -> int:
    """A new, empty network namespace; the descriptor returned (not inherited by exec) keeps it alive."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return _in_thread(make)


def run_in(namespace: int, function: Callable[[], _Result]) -> _Result:
    """Run a function in a network namespace, in a thread of its own, and return or raise what it does."""

    def entered() -> _Result:
        setns(namespace, CLONE_NEWNET)
        return function()

    return _in_thread(entered)


def _in_thread(function: Callable[[], _Result]) -> _Result:
    results: list[_Result] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _check(result: int, call: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
