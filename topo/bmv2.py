"""The ``simple_switch_grpc`` on PATH: where it is, and which options it lacks, which depends on how it was built."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PROGRAM = "simple_switch_grpc"
PACKETS = "--packet-in"
"""The option by which packets come and go through a nanomsg socket."""
_NOTIFICATIONS = "--notifications-addr"
_ANSWERS_WITHIN = 5.0
"""Seconds for its ``--help``."""


def find() -> str | None:
    """Its path. None if it is not on PATH."""
    return shutil.which(PROGRAM)


def notifications(argv: Sequence[str], address: str) -> list[str]:
    """Options that give the switch that ``argv`` runs an event socket of its own: usual ones are a device id's.

    Empty for a BMv2 that was built without nanomsg (``-DWITH_NANOMSG=OFF``): it has no such socket, and refuses them.
    It blocks for as long as that takes to say so, once (see `lacks`).
    """
    if Path(argv[0]).name == PROGRAM and lacks(argv[0], _NOTIFICATIONS):
        return []
    return [_NOTIFICATIONS, address]


def lacks(program: str, option: str) -> bool:
    """Whether its ``--help`` answers, and has no such option. One that does not answer says more when it is run.

    A process asks a file once: again only if it has been replaced, or has not answered.
    """
    path = shutil.which(program)
    if path is None:
        return False
    try:
        file = os.stat(path)
        return option not in _words(path, (file.st_ino, file.st_mtime_ns))
    except (OSError, subprocess.SubprocessError):
        return False


@cache
def _words(path: str, file: tuple[int, int]) -> frozenset[str]:
    """What its ``--help`` says. ``file``: the one that is there now.

    :raises OSError, subprocess.SubprocessError: if it does not answer; that is not kept.
    """
    said = subprocess.run(
        [path, "--help"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWERS_WITHIN, check=True,
    )  # fmt: skip
    return frozenset(said.stdout.split() + said.stderr.split())
