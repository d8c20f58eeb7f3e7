"""``p4switch shims DIRECTORY``: launchers under BMv2's names, for wrappers that look for those on PATH.

Each replaces itself by this switch, so that the process that was started is the switch: same process id, same
listening sockets, same signals. They are written nowhere unless asked for, and over nothing that is not ours.
"""

import argparse
import sys
from pathlib import Path

NAMES = ("simple_switch_grpc", "simple_switch")
_MORE = {"simple_switch": " --optional-grpc"}
"""BMv2's simple_switch serves no P4Runtime, so wrappers give it no address and start several at a time."""
_MARK = "# written by p4switch shims"
# A wrapper's PYTHONPATH (Mininet's) and its protobuf in Python (that of old P4Runtime stubs) are not for the switch.
_TEXT = """#!/bin/sh
{mark}
unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION
exec '{python}' -I -m p4switch{more} "$@"
"""


def write_shims(directory: Path) -> list[Path]:
    """Write the launchers, made for the Python that runs this; gives back their paths.

    :raises FileExistsError: a file of that name is there that is no launcher of ours; nothing was written.
    :raises OSError: the directory cannot be written.
    """
    paths = [directory / name for name in NAMES]
    for path in paths:
        if path.exists() and _MARK not in path.read_text(errors="replace"):
            raise FileExistsError(f"{path} is something else; choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    python = sys.executable.replace("'", "'\\''")
    for path in paths:
        path.write_text(_TEXT.format(mark=_MARK, python=python, more=_MORE.get(path.name, "")))
        path.chmod(0o755)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Write them; exit status 0, or 1 with the reason."""
    parser = argparse.ArgumentParser(
        prog="p4switch shims", description=f"Write launchers {' and '.join(NAMES)} that run this switch."
    )
    parser.add_argument("directory", type=Path, help="put it first in PATH afterwards")
    options = parser.parse_args(arguments)
    try:
        paths = write_shims(options.directory.absolute())
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
