"""The VM backend: replicas are machines restored from a snapshot of the first one (§3.4), on libvirt and QEMU.

The first machine boots from the image and prepares the middlebox; over its virtio-serial port it says when to take the
snapshot, as the paper's guests did over Xenstore. It is stopped there, its devices' state is read as a stream, its
memory stays in a file. Every replica is a new machine with another name that maps that file copy-on-write and
receives the stream: libvirt itself refuses to restore a saved machine under another identity. Then it is told what
differs: its number, addresses, the time, fresh entropy.

Slow work is done in threads; the loop's thread only reads channels that have something to say.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guestlib.blocking import SelectorPoller
from guestlib.config import Address
from guestlib.machine import Begin, Begun, Booted, End, Ended, Prepare, Prepared
from orchestrator.vmm.agent import Make
from orchestrator.vmm.config import AgentConfig, MachineConfig
from orchestrator.vmm.image import find
from orchestrator.vmm.libvirt.accelerator import trouble
from orchestrator.vmm.libvirt.errors import MachineError
from orchestrator.vmm.libvirt.host import Host
from orchestrator.vmm.libvirt.machine import Machine, tail
from orchestrator.vmm.libvirt.xml import MachineSpec
from orchestrator.vmm.loop import Ended as HasEnded
from orchestrator.vmm.loop import Failed, Made, News
from splitmerge.errors import BadInput, SplitmergeError

logger = logging.getLogger("agent")

WORKERS = 4
"""Machines made or ended at a time; more wait."""
KVM_BOOT_WITHIN = 15.0
"""Seconds for the first machine to boot on KVM, where nobody insists on KVM: it takes about three. Some hang then."""
ENTROPY = 64
"""Fresh random bytes for every machine."""


class MachineBackend:
    """`orchestrator.vmm.loop.Backend` on a libvirtd of its own. The constructor boots the first machine: some seconds.

    :raises SplitmergeError: if the configuration is wrong, something is not installed, or the first machine fails.
    """

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._machine = _checked(config)
        self._image = find(self._machine.image)
        self._directory = config.directory / "vm"
        self._memory = self._directory / "memory"
        self._state = b""
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="machine")
        self._happened: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._machines: dict[int, Machine] = {}
        self._said: dict[int, str] = {}
        self._poller: SelectorPoller
        self._wake: Callable[[], None]
        self._boot_within = self._machine.boot_within
        self._begin(self._machine.accelerator)

    def _begin(self, wanted: str) -> None:
        """On KVM if it truly works: a machine of three instructions ends, and the first machine comes up, both in time.

        :raises SplitmergeError: nothing is left then.
        """
        if wanted == "auto" and (problem := trouble("kvm")):
            logger.info("KVM does not work here, so software emulation it is: %s", problem)
        elif wanted != "emulated":
            try:
                if wanted == "auto":
                    self._boot_within = min(self._boot_within, KVM_BOOT_WITHIN)
                self._begin_with(kvm=True)
                return
            except MachineError as error:
                if wanted == "kvm":
                    raise
                logger.warning("a machine fails on KVM, so software emulation it is: %s", error)
            self._boot_within = self._machine.boot_within
        self._begin_with(kvm=False)

    def _begin_with(self, *, kvm: bool) -> None:
        """libvirtd, and the snapshot. :raises SplitmergeError: nothing is left then."""
        self._kvm = kvm
        self._host = Host(self._directory, [Path(self._image.vmlinuz).parent], kvm=kvm)
        logger.info("machines run on %s", "KVM" if kvm else "QEMU's software emulation")
        if self._machine.start != "snapshot":
            return
        try:
            self._take_snapshot()
        except BaseException:
            self._host.close()
            raise

    # -- the snapshot ------------------------------------------------------------------------------------------

    def _take_snapshot(self) -> None:
        started = time.monotonic()
        first = Machine(self._host, self._spec("first", traffic="sm-first0", control="sm-first1", first=True))
        try:
            first.start(self._boot_within)
            self._prepare(first)
            prepared = time.monotonic()
            self._state = first.snapshot()
        except SplitmergeError:
            logger.error("the first machine's console:\n%s", tail(first.spec.console))
            raise
        finally:
            first.destroy()
        logger.info(
            "snapshot taken of %s: booted in %.1f s, stopped and saved in %.2f s, %d bytes beside its memory",
            self._config.middlebox,
            prepared - started,
            time.monotonic() - prepared,
            len(self._state),
        )

    def _prepare(self, machine: Machine) -> None:
        """Until the middlebox is set up, and the guest says so."""
        config, within = self._config, self._boot_within
        machine.expect(Booted, within)
        order = Prepare(
            middlebox=config.middlebox,
            settings=config.middlebox_config,
            replica=config.replica,
            traffic=self._machine.traffic,
            log_level=config.log_level,
        )
        machine.send(order)
        machine.expect(Prepared, within)

    def _spec(self, name: str, *, traffic: str, control: str, first: bool = False) -> MachineSpec:
        boots = first or self._machine.start == "boot"
        return MachineSpec(
            name=name,
            uuid=str(uuid.uuid4()),
            image=self._image,
            memory=self._machine.memory,
            memory_file=self._memory if first or not boots else self._directory / f"{name}.memory",
            shared=boots,
            incoming=not boots,
            kvm=self._kvm,
            traffic_tap=traffic,
            traffic_mac=self._machine.traffic.mac,
            control_tap=control,
            channel=self._directory / f"{name}.sock",
            console=self._directory / "log" / f"{name}.console",
            own_taps=first,
        )

    # -- orchestrator.vmm.loop.Backend -------------------------------------------------------------------------

    def attach(self, poller: SelectorPoller, wake: Callable[[], None], detach: Callable[[], None]) -> None:
        self._poller, self._wake = poller, wake

    def make(self, make: Make) -> None:
        self._workers.submit(self._make, make)

    def end(self, replica: int) -> None:
        machine = self._machines.get(replica)
        if machine is None:
            return  # it has just ended: that is news already
        try:
            machine.send(End())
        except SplitmergeError as error:
            logger.debug("replica %d: %s", replica, error)  # its channel's end is news of its own

    def kill(self, replica: int) -> None:
        if (machine := self._machines.get(replica)) is not None:
            if (channel := machine.channel) is not None:
                # A worker closes it. Watched still, whichever channel gets its number next would not be listened to.
                self._poller.unwatch(channel)
            self._said.setdefault(replica, "signal SIGKILL")
            self._workers.submit(self._bury, replica, machine)

    def news(self) -> list[News]:
        found: list[News] = []
        while not self._happened.empty():
            news = self._happened.get_nowait()
            if isinstance(news, Made):
                self._watch(news.replica)
            found.append(news)
        return found

    def close(self) -> None:
        """End libvirtd, and all machines with it; their files go."""
        self._host.close()
        self._workers.shutdown(wait=True, cancel_futures=True)

    # -- in the workers' threads -------------------------------------------------------------------------------

    def _tell(self, news: News) -> None:
        self._happened.put(news)
        self._wake()

    def _make(self, make: Make) -> None:
        started = time.monotonic()
        place = self._config.slots[make.slot]
        name = f"replica-{make.replica}"
        machine = Machine(self._host, self._spec(name, traffic=place.interface, control=place.control_interface))
        try:
            machine.start(self._machine.restore_within)
            try:
                self._bring_up(machine, make)
            except BaseException:
                machine.destroy()
                raise
        except (SplitmergeError, OSError) as error:
            logger.error("replica %d's console:\n%s", make.replica, tail(machine.spec.console))
            self._tell(Failed(make.replica, str(error)))
            return
        except Exception as error:
            logger.exception("replica %d", make.replica)
            self._tell(Failed(make.replica, f"{type(error).__name__}: {error}"))
            return
        took = time.monotonic() - started
        logger.info("replica %d is QEMU's process %d on slot %d, %.2f s", make.replica, machine.pid, make.slot, took)
        self._machines[make.replica] = machine
        self._tell(Made(make.replica, machine.pid))

    def _bring_up(self, machine: Machine, make: Make) -> None:
        within = self._machine.restore_within
        if machine.spec.incoming:
            machine.restore(self._state)
        else:
            self._prepare(machine)
            within = self._boot_within
        machine.send(self._order(make))
        machine.expect(Begun, within)

    def _order(self, make: Make) -> Begin:
        place = self._config.slots[make.slot]
        high, low = divmod(make.replica, 256)
        return Begin(
            replica=make.replica,
            control=self._config.control,
            peer=self._config.peer_address(make.replica, place),
            now_ns=time.time_ns(),
            entropy=os.urandom(ENTROPY),
            control_address=place.control_address,
            control_mac=f"52:54:00:{high:02x}:{low:02x}:{make.slot:02x}",
            files=self._certificates(),
            incarnation=uuid.uuid4().hex,
        )

    def _certificates(self) -> dict[str, bytes]:
        tls = self._config.tls
        if tls is None:
            return {}
        return {"ca.pem": tls.ca.read_bytes(), "own.pem": tls.certificate.read_bytes(), "own.key": tls.key.read_bytes()}

    def _bury(self, replica: int, machine: Machine) -> None:
        """See that nothing is left of a machine that has ended, or end it."""
        try:
            machine.destroy()
        except SplitmergeError as error:
            logger.error("replica %d: %s", replica, error)
        for path in (machine.spec.console, *self._own_memory(machine)):
            path.unlink(missing_ok=True)
        if self._machines.pop(replica, None) is not None:
            self._tell(HasEnded(replica, self._said.pop(replica, "the machine is gone")))

    def _own_memory(self, machine: Machine) -> list[Path]:
        return [machine.spec.memory_file] if machine.spec.memory_file != self._memory else []

    # -- in the loop's thread ----------------------------------------------------------------------------------

    def _watch(self, replica: int) -> None:
        machine = self._machines.get(replica)
        if machine is not None and machine.channel is not None:
            channel = machine.channel
            self._poller.watch(channel, lambda: self._readable(replica, machine, channel), None)

    def _readable(self, replica: int, machine: Machine, channel: socket.socket) -> None:
        """The guest says how its replica ended, or the machine is gone (its end of the channel closes)."""
        try:
            lines = machine.arrived() if machine.channel is channel else None
        except SplitmergeError as error:
            logger.error("replica %d: %s", replica, error)
            lines = None
        for line in lines or ():
            if isinstance(line, Ended):
                self._said[replica] = line.status
        if lines is None or replica in self._said:
            self._poller.unwatch(channel)
            self._workers.submit(self._bury, replica, machine)


def _checked(config: AgentConfig) -> MachineConfig:
    """What types cannot say. :raises BadInput: naming the place."""
    if config.machine is None:
        raise BadInput("machine", "there is no such section", "virtual machines need at least an image and traffic")
    if Address.parse(config.control, "control").path is not None:
        raise BadInput("control", f"{config.control!r}", "machines reach the orchestrator over tcp: or tls: only")
    names = {name for _, name in socket.if_nameindex()}
    for number, place in config.slots.items():
        if not place.control_interface or not place.control_address:
            raise BadInput(f"slots.{number}", "no control_interface or control_address", "machines need both")
        for tap in (place.interface, place.control_interface):
            if tap not in names:
                raise BadInput(f"slots.{number}", f"there is no interface {tap!r}", f"ip tuntap add {tap} mode tap")
    return config.machine
