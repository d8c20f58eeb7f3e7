"""What every traffic command shares."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import msgspec
import pytest

LARGE = 300_000
"""Bytes of a report: more than a pipe holds."""
COMMAND = f"""
import sys
import msgspec
from traffic import command

class Report(msgspec.Struct):
    text: str

async def main(options, control):
    return Report("x" * {LARGE})

sys.exit(command.run(main, command.parser("large", "a large report").parse_args()))
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_large_report_is_whole_however_late_it_is_read(unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    argv = [sys.executable, "-c", COMMAND, "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        time.sleep(1.0)  # it has filled the pipe by now, and waits
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(msgspec.json.decode(out)["text"]) == LARGE
