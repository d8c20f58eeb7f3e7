"""``--thrift-port``: not Thrift, but a port that listens.

Mininet's switch classes start BMv2 and then connect to its Thrift port until something answers, for ever. So whoever
asks for the port gets one that accepts, says in the log what it is not, and hangs up.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading

from p4switch.errors import PortError

log = logging.getLogger("p4switch")
_WAITING = 16


class ThriftPort:
    """Accepts and closes connections until it is closed.

    :raises PortError: the port is taken.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError as error:
            self._socket.close()
            raise PortError(
                f"--thrift-port {port}: {error.strerror}; another switch has it, choose a free one"
            ) from None
        self.port: int = self._socket.getsockname()[1]
        self._said = False
        self._thread = threading.Thread(target=self._run, name="p4switch-thrift", daemon=True)

    def start(self) -> None:
        """Listen from now on; call it once the switch is ready, as wrappers take it for that."""
        self._socket.listen(_WAITING)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):  # not connected, if `start` was never called
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(1.0)
        try:
            asked = connection.recv(1)
        except OSError:
            asked = b""
        if asked and not self._said:
            self._said = True
            log.warning("a Thrift client on port %d was sent away: tables are written over P4Runtime", self.port)
