"""What process 1 of a small Linux machine does itself: mounts, modules, interfaces, clock, entropy, power."""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import ssl
import struct
import time
from pathlib import Path

from guestlib.machine.netlink import Netlink
from guestlib.machine.protocol import Traffic
from splitmerge.linux.offloads import offloads_off
from splitmerge.linux.quiet import quiet

MODULES = Path("/modules")
"""Kernel modules in the image, in the order in which they are to be loaded: ``00-virtio.ko`` …"""
_MOUNTS = (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp"))
_NR_FINIT_MODULE = 313
"""System call number on x86-64 (asm/unistd_64.h)."""
_RNDADDENTROPY, _RNDRESEEDCRNG = 0x40085203, 0x5207
"""linux/random.h."""
_REBOOT_POWER_OFF = 0x4321FEDC

_libc = ctypes.CDLL(None, use_errno=True)


def mount_all() -> None:
    """The kernel's own file systems, and memory for the others. :raises OSError: as the kernel says."""
    for kind, place in _MOUNTS:
        Path(place).mkdir(exist_ok=True)
        _check(_libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None), f"mount {place}")


def load_modules() -> None:
    """Every module of the image. :raises OSError: as the kernel says."""
    for path in sorted(MODULES.iterdir()):
        with path.open("rb") as file:
            _check(_libc.syscall(_NR_FINIT_MODULE, file.fileno(), b"", 0), f"load {path.name}")


def find_port(name: str, within: float) -> str:
    """Path of the virtio-serial port of this name. :raises FileNotFoundError: if there is none ``within`` seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        for entry in Path("/sys/class/virtio-ports").glob("*/name"):
            if entry.read_text().strip() == name:
                return f"/dev/{entry.parent.name}"
        time.sleep(0.01)
    raise FileNotFoundError(f"no virtio-serial port {name!r} within {within:g} s")


def set_up_traffic(traffic: Traffic) -> None:
    """Name the interface with this MAC and give it its addresses; no offloads, nothing sent by itself.

    :raises OSError: / KeyError: if there is no such interface.
    """
    index = _interface(traffic.mac)
    for scope in ("all", "default"):
        quiet(scope)
    with Netlink() as netlink:
        netlink.link(int(Path("/sys/class/net/lo/ifindex").read_text()), up=True)
        netlink.link(index, up=False, name=traffic.interface, mtu=traffic.mtu)
        quiet(traffic.interface)
        netlink.link(index, up=True)
        for address in traffic.addresses:
            netlink.address(index, address)
        for address, mac in traffic.neighbours.items():
            netlink.neighbour(index, address, mac)
    offloads_off(traffic.interface, lenient=True)


def _interface(mac: str) -> int:
    for entry in Path("/sys/class/net").iterdir():
        if (entry / "address").read_text().strip() == mac.lower():
            return int((entry / "ifindex").read_text())
    found = ", ".join(sorted((each / "address").read_text().strip() for each in Path("/sys/class/net").iterdir()))
    raise KeyError(f"no interface with MAC {mac}; there are {found}")


def other_interface(name: str) -> str:
    """The Ethernet interface beside this one: the control network's. :raises KeyError: if there is none."""
    for entry in Path("/sys/class/net").iterdir():
        if entry.name not in (name, "lo"):
            return entry.name
    raise KeyError("the machine has no second interface for the control network")


def set_up_control(interface: str, mac: str, address: str) -> None:
    """MAC and address, then up. :raises OSError: as the kernel says."""
    index = int(Path(f"/sys/class/net/{interface}/ifindex").read_text())
    with Netlink() as netlink:
        netlink.link(index, up=False, mac=mac)
        netlink.link(index, up=True)
        netlink.address(index, address)


def set_clock(now_ns: int) -> None:
    """The time of day; the monotonic clock goes on from the snapshot, and no timer notices."""
    time.clock_settime_ns(time.CLOCK_REALTIME, now_ns)


def reseed(entropy: bytes) -> None:
    """Make what this machine draws differ from all others restored from the same snapshot: kernel, OpenSSL, Python."""
    with Path("/dev/urandom").open("wb", buffering=0) as device:
        fcntl.ioctl(device, _RNDADDENTROPY, struct.pack("=ii", 8 * len(entropy), len(entropy)) + entropy)
        fcntl.ioctl(device, _RNDRESEEDCRNG)
    ssl.RAND_add(entropy, float(len(entropy)))
    random.seed()


def power_off() -> None:
    """End the machine at once."""
    _libc.reboot(ctypes.c_uint32(_REBOOT_POWER_OFF))


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
