"""The traffic commands of a demo, each in its namespace: started until ready, ended by SIGTERM, reporting JSON."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TypeVar

import msgspec

from splitmerge.errors import SplitmergeError, Timeout
from splitmerge.exits import how_ended
from topo.enter import popen_in
from topo.spec import LabRecord

READY_WITHIN = 15.0
"""Seconds until a traffic command can be used."""
REPORT_WITHIN = 20.0
"""Seconds from SIGTERM to the report: the last answers are waited for."""

_Report = TypeVar("_Report")


class TrafficCommand:
    """One running ``python -m traffic.…``. Construct, `wait_ready`, … `report`; `kill` is for the way out.

    ``told``: it takes orders on its standard input (`tell`).
    """

    def __init__(self, record: LabRecord, namespace: str, module: str, *arguments: str, told: bool = False) -> None:
        self.name = f"{module} in {namespace}"
        read_end, write_end = os.pipe()
        argv = [sys.executable, "-m", f"traffic.{module}", "--json", "--ready-fd", str(write_end), *arguments]
        try:
            self._process = popen_in(
                record,
                namespace,
                argv,
                stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(write_end,),
                start_new_session=True,
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self._ready = read_end

    def wait_ready(self) -> None:
        """Wait until it can be used. :raises Timeout: / SplitmergeError: if that does not come."""
        try:
            readable, _, _ = select.select([self._ready], [], [], READY_WITHIN)
            line = os.read(self._ready, 200) if readable else b""
        finally:
            os.close(self._ready)
        if not readable:
            raise Timeout(f"{self.name} to be ready", READY_WITHIN)
        if not line.startswith(b"ready"):
            _out, problem = self._process.communicate(timeout=REPORT_WITHIN)
            raise SplitmergeError(f"{self.name} ended: {problem.decode(errors='replace').strip()}")

    def tell(self, line: bytes) -> None:
        """A line on its standard input, which must be ``told``."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def ask_to_stop(self) -> None:
        """SIGTERM; it finishes what is under way. If it has ended already, nothing."""
        self._process.send_signal(signal.SIGTERM)

    def report(self, kind: type[_Report]) -> _Report:
        """Its report, once it has ended. :raises SplitmergeError: if it failed, with what it said."""
        try:
            out, problem = self._process.communicate(timeout=REPORT_WITHIN)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name} to report", REPORT_WITHIN) from None
        if status := self._process.returncode:
            said = (
                problem.decode(errors="replace").strip()
                or f"it said nothing, and ended with {how_ended(status, 'status')}"
            )
            raise SplitmergeError(f"{self.name} failed: {said}")
        return msgspec.json.decode(out, type=kind)

    def kill(self) -> None:
        """End it whatever it does; again is harmless."""
        self._process.kill()
        self._process.communicate()
