"""The agent's side of its libvirtd: starts it, connects, connects again when libvirtd has been restarted."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.vmm.libvirt.errors import HostAway, MachineError
from orchestrator.vmm.libvirt.sandbox import find_driver, make, remove
from splitmerge.errors import BadInput

logger = logging.getLogger("agent.libvirt")

START_WITHIN = 60.0
"""Seconds for libvirtd to answer after its first start: it tries out the emulator."""
CALL_WITHIN = 20.0
"""Seconds for a call, libvirtd's restart on the way included."""
STOP_WITHIN = 5.0
RETRY = 0.1
_KEEPALIVE = (5, 3)
"""Seconds between two signs of life, and how many may be missed."""
_T = TypeVar("_T")


def load_libvirt() -> Any:
    """The ``libvirt`` module, its own printing of errors switched off. :raises BadInput: if it is not installed."""
    try:
        import libvirt
    except ImportError:
        remedy = "apt-get install libvirt-dev pkg-config gcc, then pip install libvirt-python"
        raise BadInput("libvirt", "the Python module is not installed", remedy) from None
    libvirt.registerErrorHandler(lambda context, error: None, None)
    return libvirt


def missing_programs() -> str:
    """What virtual machines need and this system lacks; empty if nothing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in ("libvirtd", "qemu-system-x86_64") if shutil.which(name, path=path) is None]
    lacking += [] if find_driver() else ["libvirt's QEMU driver"]
    packages = "libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86"
    return f"{', '.join(lacking)} (apt-get install {packages})" if lacking else ""


class Host:
    """A private libvirtd with its files in ``directory``, which is emptied first.

    :param keep: directories that machines read from, wherever they are.
    :raises BadInput: if programs are missing. :raises HostAway: if libvirtd does not come up.
    """

    def __init__(self, directory: Path, keep: list[Path], *, kvm: bool) -> None:
        if lacking := missing_programs():
            raise BadInput("virtual machines", f"there is no {lacking}", "install what is named")
        self.libvirt = load_libvirt()
        self.directory = directory
        self._lock = threading.Lock()
        self._connection: Any = None
        self._closed = False
        make(directory)
        for folder in ("run", "log", "cache"):
            (directory / folder).mkdir(parents=True, mode=0o700)
        argv = [sys.executable, "-m", "orchestrator.vmm.libvirt.sandbox", "--directory", str(directory)]
        argv += [word for path in keep for word in ("--keep", str(path))] + (["--kvm"] if kvm else [])
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE)  # whose end says that this process has ended
        with contextlib.suppress(self.libvirt.libvirtError):  # once a process is enough
            self.libvirt.virEventRegisterDefaultImpl()
        self._events = threading.Thread(target=self._serve_events, name="libvirt events", daemon=True)
        self._events.start()
        try:
            # Asking for the version makes it find out what the emulator can do; that is kept from then on.
            version = self.call(lambda connection: connection.getVersion(), START_WITHIN)
        except BaseException:
            self.close()
            raise
        logger.info("libvirtd answers, QEMU %d.%d", version // 1_000_000, version // 1000 % 1000)

    def _serve_events(self) -> None:
        """Keep-alive messages need it."""
        while not self._closed:
            self.libvirt.virEventRunDefaultImpl()

    def call(self, work: Callable[[Any], _T], within: float = CALL_WITHIN) -> _T:
        """Do this with a connection; again on a new one if libvirtd went away meanwhile, so it must be idempotent.

        :raises HostAway: if libvirtd does not answer in time. :raises MachineError: if it refuses.
        """
        until = time.monotonic() + within
        while True:
            try:
                connection = self._connected()
                try:
                    return work(connection)
                except self.libvirt.libvirtError as error:
                    if connection.isAlive():
                        raise MachineError("libvirt", error.get_error_message() or str(error), self._remedy()) from None
                    self._forget(connection)
                    problem = str(error)
            except self.libvirt.libvirtError as error:  # it does not listen (yet)
                problem = str(error)
            if self._closed or self._process.poll() is not None:
                raise HostAway("libvirtd", f"its sandbox has ended: {problem}", self._remedy())
            if time.monotonic() > until:
                raise HostAway("libvirtd", f"no answer within {within:g} s: {problem}", self._remedy())
            time.sleep(RETRY)

    def _remedy(self) -> str:
        return f"see {self.directory / 'log'}"

    def _connected(self) -> Any:
        with self._lock:
            if self._connection is None:
                self._connection = self.libvirt.open(f"qemu:///system?socket={self.directory}/run/libvirt-sock")
                self._connection.setKeepAlive(*_KEEPALIVE)
            return self._connection

    def _forget(self, connection: Any) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        with contextlib.suppress(self.libvirt.libvirtError):
            connection.close()

    def close(self) -> None:
        """End libvirtd and every machine on it; its files go. Again is harmless."""
        self._closed = True
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        remove(self.directory)
