"""libvirtd in mount and process namespaces of its own: it sees nobody else's machines, and leaves nothing behind.

    agent ── this launcher ── process 1 of the namespace ── libvirtd (started again when it ends)
                                                         └─ QEMU, one a machine

libvirtd keeps its files at fixed places (/run/libvirt, /var/lib/libvirt …): here these are memory, or folders of the
agent's directory. Every process of the namespace is killed by the kernel when its process 1 ends; that one dies with
the launcher (PR_SET_PDEATHSIG). The launcher sees the agent end by the end of its standard input; then it ends all the
others and removes the directory: nothing survives an agent, however it ends. When libvirtd is restarted the machines
live on, and the new one finds them again in /run/libvirt.

    python -m orchestrator.vmm.libvirt.sandbox --directory DIR [--keep DIR …] [--kvm]
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from collections import deque
from pathlib import Path
from types import FrameType

from topo.namespaces import CLONE_NEWNS, die_with_parent, unshare

_CLONE_NEWPID = 0x20000000
_MS_BIND, _MS_MOVE, _MS_REC, _MS_PRIVATE = 0x1000, 0x2000, 0x4000, 0x40000
HIDDEN = ("/run", "/var/lib", "/var/cache", "/var/log", "/etc/libvirt")
_DEVICES = ("null", "zero", "full", "random", "urandom", "net/tun")
RESTART_AFTER = 0.2
"""Seconds between libvirtd's end and its next start."""
_RESTARTS, _RESTART_WINDOW = 10, 30.0
"""More restarts than this within so many seconds: something is wrong that restarting does not mend."""
_DRIVERS = ("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver", "/usr/lib64/libvirt/connection-driver")
_QEMU_USER = ("libvirt-qemu", 64055)
"""Debian's libvirtd looks for this user even where qemu.conf names another."""
_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
_LIBVIRTD_CONF = """\
unix_sock_dir = "{sockets}"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
log_outputs = "3:file:{log}"
host_uuid_source = "machine-id"
host_uuid = "{uuid}"
"""

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} at {target}: {os.strerror(code)}")


def build(directory: Path, keep: list[Path], *, kvm: bool) -> None:
    """The file system that libvirtd sees, from inside the namespaces. :raises OSError: as the kernel says."""
    kept = [(path, os.open(path, os.O_PATH)) for path in (directory, *keep)]
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _mount("proc", "/proc", "proc")
    _private_devices(directory, kvm=kvm)
    for place in HIDDEN:
        if Path(place).is_dir():
            _mount("tmpfs", place, "tmpfs")
    for path, descriptor in kept:
        if not path.exists() or not path.samefile(f"/proc/self/fd/{descriptor}"):
            path.mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{descriptor}", str(path), flags=_MS_BIND)
        os.close(descriptor)
    for place, folder in (("/var/cache/libvirt", "cache"), ("/var/log/libvirt", "log")):
        Path(place).mkdir(parents=True)
        _mount(str(directory / folder), place, flags=_MS_BIND)
    for place in ("/run/libvirt", "/var/lib/libvirt", "/etc/libvirt"):
        Path(place).mkdir(parents=True, exist_ok=True)
    Path("/etc/libvirt/qemu.conf").write_text(_QEMU_CONF)
    uuid = Path("/proc/sys/kernel/random/uuid").read_text().strip()
    conf = _LIBVIRTD_CONF.format(sockets=directory / "run", log=directory / "log" / "libvirtd.log", uuid=uuid)
    Path("/etc/libvirt/libvirtd.conf").write_text(conf.replace('host_uuid_source = "machine-id"\n', ""))
    _add_user(directory)


def _private_devices(directory: Path, *, kvm: bool) -> None:
    """A /dev with what QEMU needs; /dev/kvm only where it works: libvirt and QEMU would try one that hangs."""
    place = directory / "dev"
    place.mkdir()
    _mount("tmpfs", str(place), "tmpfs")
    for folder in ("net", "shm", "pts"):
        (place / folder).mkdir()
    for name in (*_DEVICES, *(("kvm",) if kvm else ())):
        if Path("/dev", name).exists():
            (place / name).touch()
            _mount(f"/dev/{name}", str(place / name), flags=_MS_BIND)
    _mount("/dev/pts", str(place / "pts"), flags=_MS_BIND)
    (place / "ptmx").symlink_to("pts/ptmx")
    _mount(str(place), "/dev", flags=_MS_MOVE)


def _add_user(directory: Path) -> None:
    name, number = _QEMU_USER
    files = {
        "passwd": [f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin"],
        "group": [f"{name}:x:{number}:", f"kvm:x:{number + 1}:"],
    }
    for file, lines in files.items():
        text = Path("/etc", file).read_text()
        missing = [
            line
            for line in lines
            if not text.startswith(f"{line.split(':')[0]}:") and f"\n{line.split(':')[0]}:" not in text
        ]
        if missing:
            own = directory / file
            own.write_text(text.rstrip("\n") + "\n" + "\n".join(missing) + "\n")
            _mount(str(own), f"/etc/{file}", flags=_MS_BIND)


def find_driver() -> Path | None:
    """libvirt's QEMU driver, a package of its own."""
    places = (Path(place, "libvirt_driver_qemu.so") for place in _DRIVERS)
    return next((place for place in places if place.exists()), None)


def _start_libvirtd(directory: Path) -> int:
    """The QEMU driver alone: others would look for services that are not here."""
    drivers = directory / "drivers"
    drivers.mkdir(exist_ok=True)
    found = find_driver()
    if found is not None and not (drivers / found.name).is_symlink():
        (drivers / found.name).symlink_to(found)
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            environment = {**os.environ, "LIBVIRT_DRIVER_DIR": str(drivers), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
            os.execvpe("libvirtd", ["libvirtd", "--config", "/etc/libvirt/libvirtd.conf"], environment)
        except OSError as error:
            sys.stderr.write(f"libvirtd: {error.strerror}\n")
        finally:
            os._exit(127)
    return pid


def _supervise(directory: Path) -> int:
    """Process 1: reap, and keep libvirtd running. Status 1 if it keeps ending."""
    starts: deque[float] = deque(maxlen=_RESTARTS)
    while True:
        starts.append(time.monotonic())
        libvirtd = _start_libvirtd(directory)
        while os.wait()[0] != libvirtd:
            continue  # a machine, or a helper of libvirtd's
        if len(starts) == _RESTARTS and time.monotonic() - starts[0] < _RESTART_WINDOW:
            sys.stderr.write(f"libvirtd ended {_RESTARTS} times in a row; see {directory}/log/libvirtd.log\n")
            return 1
        sys.stderr.write("libvirtd has ended: starting it again\n")
        time.sleep(RESTART_AFTER)


def _first(directory: Path, keep: list[Path], *, kvm: bool) -> int:
    die_with_parent()
    signal.signal(signal.SIGTERM, _leave)
    try:
        build(directory, keep, kvm=kvm)
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        return 2
    return _supervise(directory)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)  # the kernel ends all others of the namespace


def main() -> int:
    """The launcher; ends when process 1 of the namespace does."""
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.vmm.libvirt.sandbox", description="A private libvirtd."
    )
    parser.add_argument(
        "--directory", type=Path, required=True, help="its files; must be there, with cache, log and run"
    )
    parser.add_argument("--keep", type=Path, action="append", default=[], help="a directory that machines read")
    parser.add_argument("--kvm", action="store_true", help="let it see /dev/kvm")
    options = parser.parse_args()
    try:
        unshare(CLONE_NEWNS | _CLONE_NEWPID)
    except OSError as error:
        sys.stderr.write(f"namespaces: {error.strerror}\n")
        return 2
    first = os.fork()
    if first == 0:
        os._exit(_first(options.directory, options.keep, kvm=options.kvm))
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(first, signal.SIGKILL))
    held = os.open(options.directory, os.O_RDONLY | os.O_DIRECTORY)  # while it is open nothing else gets its number
    status = _until_either_ends(first)
    remove(options.directory, os.fstat(held).st_ino)
    return status


def _until_either_ends(first: int) -> int:
    """Process 1 of the namespace, or the agent, when the other is ended; process 1's status."""
    ended = os.pidfd_open(first)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN | select.POLLHUP)
    ready = {descriptor for descriptor, _ in poll.poll()}
    if ended not in ready:
        os.kill(first, signal.SIGKILL)
    _, status = os.waitpid(first, 0)
    return abs(os.waitstatus_to_exitcode(status))


def make(directory: Path) -> None:
    """A new, empty directory; what is there already goes. :raises OSError: as the kernel says."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    remove(directory)
    directory.mkdir(mode=0o700)


def remove(directory: Path, inode: int = 0) -> None:
    """Remove a directory, if it has this number (0: any): another agent may have made one of its own meanwhile."""
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(parent, fcntl.LOCK_EX)
        if not directory.exists() or inode not in (0, directory.stat().st_ino):
            return
        doomed = directory.with_name(f"{directory.name}.gone-{os.getpid()}")
        directory.rename(doomed)
    finally:
        os.close(parent)
    shutil.rmtree(doomed, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
