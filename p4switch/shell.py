"""p4runtime-shell on a running switch: ``python -m p4switch.shell [--address HOST:PORT] [-- options of its own]``.

p4runtime-shell pins protobuf below 3.21 and so cannot live beside finsy: it gets an environment of its own, made by pip
at the first use.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from splitmerge.errors import BadInput, SplitmergeError

REQUIREMENT = "p4runtime-shell==0.0.6"
ENVIRONMENT = Path(__file__).resolve().parent.parent / "build" / "p4rt-shell-venv"
_READY = "ready.txt"
_DEADLINE = 600.0


def environment(folder: Path = ENVIRONMENT) -> Path:
    """The environment's Python, made if it is not there yet.

    :raises BadInput: pip could not install the shell; the message has pip's last line.
    """
    python = folder / "bin" / "python"
    ready = folder / _READY
    if ready.is_file() and ready.read_text() == REQUIREMENT:
        return python
    venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    # setuptools: its IPython imports pkg_resources, which Python 3.12 and later no longer bring along.
    words = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        REQUIREMENT,
        "setuptools<81",
    ]
    installed = subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE, check=False)
    if installed.returncode:
        last = (installed.stderr.strip() or "no message").splitlines()[-1]
        raise BadInput(REQUIREMENT, f"pip failed: {last}", "is there a network? try again")
    ready.write_text(REQUIREMENT)
    return python


def command(python: Path, address: str, device_id: int, election_id: int, extra: Sequence[str] = ()) -> list[str]:
    """The words that start the shell: it takes the pipeline that the switch has."""
    words = [str(python), "-m", "p4runtime_sh", "--grpc-addr", address, "--device-id", str(device_id)]
    return [*words, "--election-id", f"0,{election_id}", *extra]


def variables(folder: Path) -> dict[str, str]:
    """The shell's environment: IPython keeps its history and profile in this folder, not in the user's `~/.ipython`.

    Whoever sets IPYTHONDIR himself has it so.
    """
    return {"IPYTHONDIR": str(folder), **os.environ}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the environment if need be, then become the shell."""
    parser = argparse.ArgumentParser(prog="python -m p4switch.shell", description="p4runtime-shell on a running switch")
    parser.add_argument("--address", default="127.0.0.1:9559", help="P4Runtime server (default %(default)s)")
    parser.add_argument("--device-id", type=int, default=1, help="device id (default %(default)s)")
    parser.add_argument("--election-id", type=int, default=1, help="below the controller's: the shell then only reads")
    parser.add_argument("rest", nargs="*", help="after `--`: options of p4runtime-shell itself")
    options = parser.parse_args(arguments)
    try:
        if not (ENVIRONMENT / _READY).is_file():
            sys.stderr.write(f"installing {REQUIREMENT} into {ENVIRONMENT} …\n")
        words = command(environment(), options.address, options.device_id, options.election_id, options.rest)
    except SplitmergeError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        sys.exit(1)
    os.execve(words[0], words, variables(ENVIRONMENT / "ipython"))


if __name__ == "__main__":
    main()
