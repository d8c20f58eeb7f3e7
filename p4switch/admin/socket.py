"""The control socket: `requests` over a Unix socket that only its owner may use."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from pathlib import Path

from p4switch.admin.requests import LONGEST, Ports, answer
from splitmerge.errors import BadInput

log = logging.getLogger("p4switch")
_WAITING = 8
_PATIENCE = 5.0
"""Seconds that a client may take over a request; others wait meanwhile."""


class ControlSocket:
    """Answers one client after the other.

    :raises BadInput: it cannot be made there; a socket that nobody listens on any more is replaced.
    """

    def __init__(self, path: Path, ports: Ports) -> None:
        self.path = path
        self._ports = ports
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            _clear(path)
            before = os.umask(0o177)
            try:
                self._socket.bind(str(path))
            finally:
                os.umask(before)
        except OSError as error:
            self._socket.close()
            reason = error.strerror or str(error)
            raise BadInput("--control-socket", f"{path}: {reason}", "choose another path") from None
        self._thread = threading.Thread(target=self._run, name="p4switch-control", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._socket.listen(_WAITING)
        self._thread.start()

    def close(self) -> None:
        """Answer no more, and take the socket away. Again is harmless."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):  # not connected, if `start` was never called
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_PATIENCE)
        try:
            with connection.makefile("rb") as lines:
                while not self._closed and (line := lines.readline(LONGEST + 1)):
                    connection.sendall(answer(line, self._ports))
                    if not line.endswith(b"\n"):
                        return
        except OSError as error:  # the client is gone, or slow
            log.debug("control socket: %s", error)
        except Exception:
            log.exception("control socket")


def _clear(path: Path) -> None:
    """Take a dead switch's socket away."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
