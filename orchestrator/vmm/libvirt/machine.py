"""One machine on libvirt: started, snapshotted, restored, talked to over virtio-serial. Blocking, with deadlines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any, TypeVar

from guestlib.machine import Decoder, Failed, encode
from guestlib.machine.protocol import Line
from orchestrator.vmm.libvirt.errors import MachineError
from orchestrator.vmm.libvirt.host import Host
from orchestrator.vmm.libvirt.xml import MachineSpec, domain
from splitmerge.errors import PeerError

POLL = 0.005
"""Seconds between two looks at a migration's progress."""
MOVE_WITHIN = 20.0
"""Seconds for a machine's state to be written or read."""
GONE_WITHIN = 5.0
SAY_WITHIN = 1.0
"""Seconds for a machine to take what it is told; that is far less than the port's buffer has room for."""
_IGNORE_SHARED = {"capability": "x-ignore-shared", "state": True}
"""Memory is in the file that source and clones map: the stream has only the devices' state."""
_L = TypeVar("_L")


class Machine:
    """A machine, from `start` to `destroy`."""

    def __init__(self, host: Host, spec: MachineSpec) -> None:
        self.spec = spec
        self.pid = 0
        """QEMU's process, as this process sees it."""
        self.channel: socket.socket | None = None
        self._host = host
        self._decoder = Decoder()
        self._lines: list[Line] = []

    def start(self, within: float) -> None:
        """Start QEMU: it boots, or waits for `restore`. :raises MachineError: nothing is left then."""
        spec = self.spec
        spec.channel.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(spec.channel))
            listener.listen(1)
            listener.settimeout(within)
            try:
                self._host.call(self._create, within)
                self.channel, _ = listener.accept()
            except TimeoutError:
                self.destroy()
                raise MachineError(spec.name, f"QEMU did not connect within {within:g} s", self._remedy()) from None
            except BaseException:
                self.destroy()
                raise
        spec.channel.unlink(missing_ok=True)
        credentials = self.channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid = struct.unpack("3i", credentials)[0]

    def _create(self, connection: Any) -> None:
        libvirt = self._host.libvirt
        with contextlib.suppress(libvirt.libvirtError):  # left by a call that libvirtd's end interrupted
            connection.lookupByName(self.spec.name).destroy()
        flags = libvirt.VIR_DOMAIN_START_PAUSED if self.spec.incoming else 0
        connection.createXML(domain(self.spec), flags)

    def snapshot(self) -> bytes:
        """Stop the machine and return its devices' state; its memory is in `MachineSpec.memory_file`."""
        place = self.spec.channel.with_suffix(".out")
        self._qmp("stop")
        self._qmp("migrate-set-capabilities", capabilities=[_IGNORE_SHARED])
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            place.unlink(missing_ok=True)
            listener.bind(str(place))
            listener.listen(1)
            listener.settimeout(MOVE_WITHIN)
            self._qmp("migrate", uri=f"unix:{place}")
            stream, _ = listener.accept()
        place.unlink(missing_ok=True)
        with stream:
            stream.settimeout(MOVE_WITHIN)
            state = b"".join(iter(lambda: stream.recv(1 << 20), b""))
        self._migrated()
        return state

    def restore(self, state: bytes) -> None:
        """Give a machine that was started with ``incoming`` its state, and let it run."""
        place = self.spec.channel.with_suffix(".in")
        place.unlink(missing_ok=True)
        self._qmp("migrate-set-capabilities", capabilities=[_IGNORE_SHARED])
        self._qmp("migrate-incoming", uri=f"unix:{place}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(MOVE_WITHIN)
            stream.connect(str(place))
            stream.sendall(state)
        self._migrated()
        place.unlink(missing_ok=True)
        self._host.call(lambda connection: self._resume(connection.lookupByName(self.spec.name)))

    def _resume(self, domain: Any) -> None:
        if domain.state()[0] != self._host.libvirt.VIR_DOMAIN_RUNNING:
            domain.resume()

    def _migrated(self) -> None:
        until = time.monotonic() + MOVE_WITHIN
        while (status := self._qmp("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > until:
                raise MachineError(self.spec.name, f"its state could not be moved: {status}", self._remedy())
            time.sleep(POLL)

    def _qmp(self, command: str, **arguments: object) -> Any:
        import libvirt_qemu

        request = json.dumps({"execute": command, "arguments": arguments})

        def ask(connection: Any) -> str:
            answer: str = libvirt_qemu.qemuMonitorCommand(connection.lookupByName(self.spec.name), request, 0)
            return answer

        answer = json.loads(self._host.call(ask))
        if "error" in answer:
            raise MachineError(self.spec.name, f"{command}: {answer['error'].get('desc')}", self._remedy())
        return answer["return"]

    # -- the virtio-serial port ----------------------------------------------------------------------------------

    def send(self, line: Line) -> None:
        """Say this to the guest. :raises MachineError: if the machine is gone."""
        try:
            if self.channel is not None:
                self.channel.settimeout(SAY_WITHIN)
                self.channel.sendall(encode(line))
        except OSError as error:
            problem = f"the machine is gone: {error.strerror or error}"
            raise MachineError(self.spec.name, problem, self._remedy()) from None

    def expect(self, kind: type[_L], within: float) -> _L:
        """The guest's next line, which must be of this kind. :raises MachineError: also if it does not come in time."""
        assert self.channel is not None
        until = time.monotonic() + within
        while not self._lines:
            self.channel.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self.channel.recv(65536)
            except TimeoutError:
                raise MachineError(self.spec.name, f"no {kind.__name__} within {within:g} s", self._remedy()) from None
            except OSError as error:
                raise MachineError(self.spec.name, f"the machine is gone: {error.strerror}", self._remedy()) from None
            if not data:
                raise MachineError(self.spec.name, f"the machine ended before {kind.__name__}", self._remedy())
            self._lines += self._parse(data)
        line = self._lines.pop(0)
        if isinstance(line, Failed):
            raise MachineError(self.spec.name, line.reason, self._remedy())
        if not isinstance(line, kind):
            raise MachineError(self.spec.name, f"{type(line).__name__} where {kind.__name__} was due", self._remedy())
        return line

    def _parse(self, data: bytes) -> list[Line]:
        try:
            return self._decoder.receive_data(data)
        except PeerError as error:
            raise MachineError(self.spec.name, str(error), self._remedy()) from None

    def arrived(self) -> list[Line] | None:
        """What has come by now, without waiting; None if the machine is gone, or another thread has just ended it."""
        channel = self.channel
        if channel is None:
            return None
        try:
            channel.settimeout(0)  # with another one, recv would wait whatever its flags say
            data = channel.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._parse(data) if data else None

    # -- the end ---------------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """End the machine at once, and see that it has ended. :raises MachineError: if it has not."""
        libvirt = self._host.libvirt

        def end(connection: Any) -> None:
            try:
                connection.lookupByName(self.spec.name).destroy()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise

        try:
            self.kill()  # libvirt would first wait ten seconds for a QEMU that hangs to take SIGTERM
        finally:
            self._host.call(end)
            self.spec.channel.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL to QEMU; waits until it is gone."""
        if self.channel is None:
            return
        # While its end of the channel is open the process lives, and its number is nobody else's.
        if self.arrived() is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        until = time.monotonic() + GONE_WITHIN
        while self.arrived() is not None:
            if time.monotonic() > until:
                raise MachineError(self.spec.name, f"QEMU (process {self.pid}) does not end", self._remedy())
            time.sleep(POLL)
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()

    def _remedy(self) -> str:
        return f"see {self.spec.console} and {self._host.directory / 'log'}"


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a console, for messages."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
