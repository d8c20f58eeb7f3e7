"""Run a command inside a namespace of a running lab."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any

from splitmerge.errors import BadInput
from topo.namespaces import CLONE_NEWNET, CLONE_NEWUSER, die_with_parent, setns
from topo.spec import LabRecord


def popen_in(record: LabRecord, namespace: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """``subprocess.Popen`` in ``client``, ``server``, ``slot1`` …; the process ends when the caller's does.

    :raises BadInput: if the lab has no such namespace.
    """
    path = record.namespaces.get(namespace)
    if path is None:
        raise BadInput(f"namespace {namespace!r}", "not in this lab", "one of: " + ", ".join(record.namespaces))
    user = os.open(f"/proc/{record.pid}/ns/user", os.O_RDONLY)
    network = os.open(path, os.O_RDONLY)
    foreign = os.stat(user).st_ino != os.stat("/proc/self/ns/user").st_ino
    parent = os.getpid()

    def enter() -> None:
        if foreign:
            setns(user, CLONE_NEWUSER)
        setns(network, CLONE_NEWNET)
        die_with_parent(parent)

    try:
        return subprocess.Popen(argv, preexec_fn=enter, **options)
    finally:
        os.close(user)
        os.close(network)
