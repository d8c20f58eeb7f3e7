"""What a kernel that refuses namespaces is told as."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from topo import namespaces
from topo.errors import SandboxError
from topo.namespaces import enter_sandbox


def refuse(*_arguments: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted", "/proc/self/uid_map")


def grant(*_arguments: object) -> int:
    return 0


@pytest.mark.parametrize(
    ("uid", "unshare", "write", "told"),
    [
        (0, refuse, grant, "uid 0: "),
        (1000, refuse, grant, "uid 1000: "),
        # as AppArmor does on Ubuntu: the namespace is made, and nothing in it is allowed
        (1000, grant, refuse, "uid 1000: /proc/self/uid_map: Operation not permitted"),
    ],
    ids=["root", "user", "restricted user"],
)
def test_a_refusal_says_what_would_allow_namespaces(
    uid: int,
    unshare: Callable[..., object],
    write: Callable[..., object],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: uid)
    monkeypatch.setattr(namespaces, "unshare", unshare)
    monkeypatch.setattr(namespaces, "_write", write)
    with pytest.raises(SandboxError, match="Run as root, or allow user namespaces") as caught:
        enter_sandbox()
    assert told in str(caught.value)
