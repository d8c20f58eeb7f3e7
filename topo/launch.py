"""Starting and ending labs from outside: the process of `topo.lab`, its directory, its readiness."""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from splitmerge.errors import BadInput, SplitmergeError, shortened
from splitmerge.interrupts import interrupts_later
from topo.errors import LabNotFound, ProcessFailed
from topo.spec import START_WITHIN, LabRecord, LabSpec, default_state_dir, read_record

NAME_LONGEST = 64
"""Bytes of a lab's name: a directory's, with Unix sockets in it, whose paths are short."""
GUESTS_WITHIN = 2.0
"""Seconds for commands that still run in the lab's namespaces to end after SIGTERM, before SIGKILL."""
STOP_WITHIN = 20.0
"""Seconds for a lab to end after SIGTERM, before SIGKILL."""


def lab_directory(name: str, state_dir: Path | None) -> Path:
    """Directory of the lab of this name. :raises BadInput: for a name that is no file name."""
    if not name.replace("-", "").replace("_", "").isalnum() or len(os.fsencode(name)) > NAME_LONGEST:
        remedy = f"letters, digits, - and _; at most {NAME_LONGEST} bytes"
        raise BadInput(f"--name {shortened(name)!r}", "not a usable name", remedy)
    return (state_dir or default_state_dir()).absolute() / name


def start_lab(spec: LabSpec) -> LabRecord:
    """Start a lab and wait until it serves.

    An ephemeral lab dies with this process, whatever way that ends.
    Of one that does not come up nothing stays, but its logs if the error names them; `splitmerge down` removes these.
    :raises BadInput: if one of this name runs already.
    :raises ProcessFailed: if it does not become ready.
    """
    spec.validate()
    try:
        running = read_record(spec.root)
    except LabNotFound:
        remove_leftovers(spec.root)
    else:
        raise BadInput(f"lab {spec.name!r}", f"runs already (process {running.pid})", "end it with `splitmerge down`")
    spec_file, log = spec.root / "spec.json", spec.root / "lab.log"
    try:
        _make_private(spec.root)
        spec_file.write_bytes(msgspec.json.format(msgspec.json.encode(spec)))
    except OSError as error:
        raise BadInput(f"lab directory {spec.root}", error.strerror or str(error), "use another --state-dir") from None
    argv = [sys.executable, "-m", "topo.lab", "--spec", str(spec_file)]
    if spec.ephemeral:
        argv += ["--die-with", str(os.getpid())]
    # Files that a middlebox writes under a relative name belong to the lab; modules are still found from here.
    path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])
    process: subprocess.Popen[bytes] | None = None
    try:
        with interrupts_later(), log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                cwd=spec.root,
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        _wait_ready(process, log, spec.start_within)
    except BaseException as error:
        if process is not None:
            _end(process.pid, process)
        if spec.ephemeral or not isinstance(error, SplitmergeError) or str(spec.root) not in str(error):
            shutil.rmtree(spec.root, ignore_errors=True)
            _leave(spec.root.parent)
        raise
    return read_record(spec.root)


def remove_leftovers(directory: Path) -> bool:
    """Remove what a lab that is over left in its directory; whether there was something.

    :raises BadInput: if its process lives, being built or ended, or if this is no lab's directory.
    """
    if not directory.is_dir():
        return False
    if pid := _process_of(directory):
        problem = f"is being built or ended (process {pid})"
        raise BadInput(f"lab {directory.name!r}", problem, "try again when that is over")
    if not _is_labs(directory) and any(directory.iterdir()):
        raise BadInput(str(directory), "is there already, and no lab's", "use another --name or --state-dir")
    shutil.rmtree(directory, ignore_errors=True)
    _leave(directory.parent)
    return True


def _is_labs(directory: Path) -> bool:
    """Whether a lab made this directory: others are not ours to remove."""
    try:
        return any((directory / name).is_file() for name in ("spec.json", "lab.json"))
    except OSError:  # somebody else's
        return False


def _process_of(directory: Path) -> int:
    """The process of a lab in this directory, with a record or without; 0: none."""
    spec_file = os.fsencode(directory.absolute() / "spec.json")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            words = path.read_bytes().split(b"\0")
            if b"topo.lab" in words and spec_file in words:
                return int(path.parts[2])
    return 0


def stop_lab(record: LabRecord) -> None:
    """End a lab and everything in it, commands that `splitmerge exec` runs there too; waits until all is gone.

    Its directory is removed.
    """
    with _held(record.namespaces.values()) as namespaces:
        _end(record.pid, None)
        guests = _processes_in(namespaces)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in guests:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + GUESTS_WITHIN
            while (guests := _processes_in(namespaces)) and time.monotonic() < deadline:
                time.sleep(0.02)
    shutil.rmtree(record.directory, ignore_errors=True)
    _leave(Path(record.directory).parent)


def _leave(state_dir: Path) -> None:
    """The folder that labs are in by default goes with the last of them; one that was named is its owner's."""
    if state_dir == default_state_dir().absolute():
        with suppress(OSError):  # another lab's directory is in it
            state_dir.rmdir()


@contextmanager
def _held(paths: Iterable[str]) -> Iterator[set[int]]:
    """The inodes of these namespaces, open meanwhile: the kernel gives the number of one that is gone to the next.

    The next may be somebody else's, whose processes are not ours to end.
    """
    held: list[int] = []
    try:
        for path in paths:
            with suppress(OSError):  # it is gone already
                held.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        yield {os.fstat(each).st_ino for each in held}
    finally:
        for each in held:
            os.close(each)


def _processes_in(namespaces: set[int]) -> list[int]:
    """Processes, of those that we may look at, whose network namespace is one of these (by inode)."""
    found = []
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):  # it has just ended, or is somebody else's
            if os.stat(link).st_ino in namespaces:
                found.append(int(link.parts[2]))
    return found


def _make_private(directory: Path) -> None:
    """Make the lab's directory, which only this user may enter: whoever can, can rule the lab.

    :raises OSError: if it cannot be made. :raises BadInput: if somebody else could replace it.
    """
    try:
        _make(directory)
    except FileNotFoundError:  # the last lab that another `down` ended took the folder along in the middle of it
        _make(directory)


def _make(directory: Path) -> None:
    parent = directory.parent
    parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    facts = parent.stat()
    sticky = facts.st_mode & stat.S_ISVTX
    if facts.st_uid not in (os.getuid(), 0) or (facts.st_mode & 0o022 and not sticky):
        raise BadInput(f"state directory {parent}", "others may change it", "use --state-dir with one of your own")
    directory.mkdir(mode=0o700)


def _wait_ready(process: subprocess.Popen[bytes], log: Path, within: float) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        readable, _, _ = select.select([output], [], [], within)
        line = output.readline() if readable else b""
    if line.strip() == b"ready":
        return
    if readable:
        raise SplitmergeError(_first_error(log) or f"the lab ended while it was being built; log: {log}")
    raise ProcessFailed("lab", f"not ready within {within:g} s", log)


def _first_error(log: Path) -> str:
    """The lab's own last complaint, which already says what to do."""
    lines = log.read_text(errors="replace").strip().splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if said:
        return "\n".join([said[-1], *lines[lines.index(f"error: {said[-1]}") + 1 :]])
    return f"{lines[-1]}; log: {log}" if lines else ""


def _end(pid: int, process: subprocess.Popen[bytes] | None) -> None:
    """SIGTERM, wait, SIGKILL. The process may be a child of ours or nobody's."""
    for number, seconds in ((signal.SIGTERM, STOP_WITHIN), (signal.SIGKILL, 5.0)):
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            break
        try:
            signal.pidfd_send_signal(handle, number)
            gone, _, _ = select.select([handle], [], [], seconds)
        finally:
            os.close(handle)
        if gone:
            break
    if process is not None:
        process.wait(timeout=5.0)


def remove_stale(state_dir: Path) -> None:
    """Remove what killed labs left: directories whose process is gone and that are older than a minute.

    Directories that no lab made stay.
    """
    if not state_dir.is_dir():
        return
    for directory in state_dir.iterdir():
        try:
            read_record(directory)
        except LabNotFound:
            if _is_labs(directory) and time.time() - directory.stat().st_mtime > START_WITHIN:
                with suppress(BadInput):  # it is being built still, or not ours
                    remove_leftovers(directory)
