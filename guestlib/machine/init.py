"""Process 1 of a replica's machine: prepares the middlebox, waits to be snapshotted, then forks the replica.

The replica is a fork of this process, as the process agent's replicas are of its own: what `Begin` says differs, the
rest is the snapshot's. Process 1 stays: it ends the replica when told, tells how it ended, and powers the machine off.
"""

from __future__ import annotations

import logging
import os
import platform
import select
import signal
import sys
import time
from pathlib import Path

from guestlib.blocking import run_replica
from guestlib.config import ReplicaConfig
from guestlib.guest import Guest
from guestlib.machine import system
from guestlib.machine.protocol import (
    PORT_NAME,
    Begin,
    Begun,
    Booted,
    Decoder,
    End,
    Ended,
    Failed,
    Line,
    Prepare,
    Prepared,
    encode,
)
from guestlib.middlebox import Middlebox, load_middlebox
from guestlib.shell import prepare
from splitmerge import collector
from splitmerge.errors import SplitmergeError
from splitmerge.exits import how_ended
from splitmerge.tls import Identity

logger = logging.getLogger("machine")

PORT_WITHIN = 20.0
"""Seconds for the virtio-serial port to appear."""
HOST_AWAY = 0.02
"""Seconds between two looks while nobody has the port open on the host's side."""
CRASHED = 70
"""Exit status of a replica that ended by an exception (sysexits.h: EX_SOFTWARE)."""
FILES = Path("/run/splitmerge")
"""Where the files of `Begin` go: memory, for the owner only."""


class Port:
    """The virtio-serial port, as lines."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._decoder = Decoder()
        self._lines: list[Line] = []

    def fileno(self) -> int:
        return self._fd

    def send(self, line: Line) -> None:
        """Send it whole."""
        data = encode(line)
        while data:
            data = data[os.write(self._fd, data) :]

    def receive(self) -> Line:
        """The next line; waits for it. Reading gives nothing while the host's side is closed: during a snapshot."""
        while not self._lines:
            data = os.read(self._fd, 65536)
            if not data:
                time.sleep(HOST_AWAY)
            self._lines += self._decoder.receive_data(data)
        return self._lines.pop(0)

    def ready(self) -> list[Line]:
        """What has come by now, where reading is known not to block."""
        lines = self._lines + self._decoder.receive_data(os.read(self._fd, 65536))
        self._lines = []
        return lines


def run(port: Port) -> str:
    """The machine's life; how the replica ended."""
    port.send(Booted(kernel=platform.release()))
    order = port.receive()
    if not isinstance(order, Prepare):
        raise SplitmergeError(f"{type(order).__name__} before Prepare")
    logging.getLogger().setLevel(order.log_level)
    system.set_up_traffic(order.traffic)
    control = system.other_interface(order.traffic.interface)
    middlebox = load_middlebox(order.middlebox)
    guest = prepare(middlebox, _config(order, None))
    collector.settle()
    port.send(Prepared())
    begin = port.receive()
    if not isinstance(begin, Begin):
        raise SplitmergeError(f"{type(begin).__name__} before Begin")
    system.set_clock(begin.now_ns)
    system.reseed(begin.entropy)
    system.set_up_control(control, begin.control_mac, begin.control_address)
    _write_files(begin.files)
    return _watch(port, _start(port, middlebox, guest, _config(order, begin)))


def _config(order: Prepare, begin: Begin | None) -> ReplicaConfig:
    """What the replica is told; before the snapshot, what is known by then."""
    return ReplicaConfig(
        replica=begin.replica if begin else 1,
        interface=order.traffic.interface,
        control=begin.control if begin else "tcp:127.0.0.1:1",
        peer=begin.peer if begin else "tcp:127.0.0.1:0",
        incarnation=begin.incarnation if begin else "",
        tls=Identity(FILES / "ca.pem", FILES / "own.pem", FILES / "own.key") if begin and begin.files else None,
        settings=order.settings,
        **order.replica,  # type: ignore[arg-type]  # checked by ReplicaConfig itself
    )


def _write_files(files: dict[str, bytes]) -> None:
    FILES.mkdir(mode=0o700, exist_ok=True)
    for name, content in files.items():
        path = FILES / Path(name).name
        path.touch(mode=0o600)
        path.write_bytes(content)


def _start(port: Port, middlebox: Middlebox, guest: Guest, config: ReplicaConfig) -> int:
    pid = os.fork()
    if pid:
        port.send(Begun(pid=pid))
        return pid
    status = CRASHED
    try:
        os.close(port.fileno())
        status = run_replica(middlebox, config, guest=guest)
    except (SplitmergeError, OSError) as error:
        logger.error("ended: %s", error)
    except BaseException:
        logger.exception("ended by an exception")
    finally:
        logging.shutdown()
        os._exit(status)


def _watch(port: Port, replica: int) -> str:
    """Until the replica has ended. Further processes (a middlebox's own) are reaped beside it."""
    pidfd = os.pidfd_open(replica)
    poll = select.poll()
    poll.register(port, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if pidfd in ready:
            break
        if ready.get(port.fileno(), 0) & select.POLLIN:
            if any(isinstance(line, End) for line in port.ready()):
                os.kill(replica, signal.SIGTERM)
        else:  # POLLHUP: the host's side is closed for now
            time.sleep(HOST_AWAY)
    _, status = os.waitpid(replica, 0)
    code = os.waitstatus_to_exitcode(status)
    return how_ended(code)


def main() -> None:
    """What the kernel starts; never returns."""
    logging.basicConfig(
        stream=sys.stderr, level="INFO", format="%(asctime)s machine %(levelname)s %(name)s: %(message)s"
    )
    port: Port | None = None
    try:
        system.mount_all()
        system.load_modules()
        port = Port(system.find_port(PORT_NAME, PORT_WITHIN))
        port.send(Ended(status=run(port)))
    except Exception as error:
        logger.exception("the machine ends")
        if port is not None:
            port.send(Failed(reason=f"{type(error).__name__}: {error}"))
    finally:
        time.sleep(HOST_AWAY)  # what was just said must leave the port before the machine does
        system.power_off()


if __name__ == "__main__":
    main()
