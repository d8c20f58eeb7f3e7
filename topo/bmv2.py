"""The ``simple_switch_grpc`` on PATH: where it is, and which options it takes, which depends on how it was built."""

from __future__ import annotations

import shutil
import subprocess

PROGRAM = "simple_switch_grpc"
PACKETS = "--packet-in"
"""The option by which packets come and go through a nanomsg socket."""
_NOTIFICATIONS = "--notifications-addr"
_ANSWERS_WITHIN = 20.0


def find() -> str | None:
    """Its path. None if it is not on PATH."""
    return shutil.which(PROGRAM)


def notifications(program: str, address: str) -> list[str]:
    """Options that give BMv2's event socket an address of its own, since two switches cannot share the usual one.

    None where it was built without nanomsg (``-DWITH_NANOMSG=OFF``): it has no such socket then, and refuses the
    option. :raises OSError: if the program cannot be run; :raises subprocess.TimeoutExpired: if it hangs.
    """
    return [_NOTIFICATIONS, address] if takes(program, _NOTIFICATIONS) else []


def takes(program: str, option: str) -> bool:
    """Whether its ``--help`` has this option. :raises OSError, subprocess.TimeoutExpired: as `notifications`."""
    words = [program, "--help"]
    said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ANSWERS_WITHIN)
    return option in said.stdout.split() or option in said.stderr.split()
