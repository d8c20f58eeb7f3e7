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
from splitmerge.plugins import FOLDER
from topo.enter import descendants
from topo.errors import LabEnded, LabNotFound, ProcessFailed
from topo.found import SPEC, Unfinished, is_labs, unfinished
from topo.naming import command, default_state_dir
from topo.spec import ENDED, READY, START_WITHIN, LabRecord, LabSpec, read_record

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
    Errors name none of an ephemeral lab's, but quote them.
    :raises BadInput: if one of this name runs already.
    :raises LabEnded: if somebody else ended it meanwhile.
    :raises SplitmergeError: if it does not become ready.
    """
    spec.validate()
    try:
        running = read_record(spec.root)
    except LabNotFound:
        remove_leftovers(spec.root)
    else:
        remedy = f"end it with `{command(spec.root, 'down')}`"
        raise BadInput(f"lab {spec.name!r}", f"runs already (process {running.pid})", remedy)
    new = [folder for folder in (spec.root.parent, *spec.root.parent.parents) if not folder.exists()]
    try:
        _start(spec)
    except BaseException:
        for folder in new:  # nor folders that were made for it, unless there is something in them
            with suppress(OSError):
                folder.rmdir()
        raise
    return read_record(spec.root)


def _start(spec: LabSpec) -> None:
    log = spec.root / "lab.log"
    argv = [sys.executable, "-m", "topo.lab", "--spec", str(spec.root / SPEC)]
    if spec.ephemeral:
        argv += ["--die-with", str(os.getpid())]
    prepared = False
    process: subprocess.Popen[bytes] | None = None
    # Files that a middlebox writes under a relative name belong to the lab; modules are still found from here.
    try:
        with interrupts_later():
            _prepare(spec)
            prepared = True
            with log.open("wb") as output, _runnable():
                process = subprocess.Popen(
                    argv,
                    cwd=spec.root,
                    env={**os.environ, FOLDER: os.getcwd()},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    start_new_session=True,
                )
        _wait_ready(process, spec, log)
    except FileNotFoundError as error:
        if process is not None or spec.root.exists():
            raise
        raise LabEnded(spec.name) from error  # before it could begin
    except BaseException as error:
        if process is not None:
            _end(process.pid, process)
        if prepared and (spec.ephemeral or not isinstance(error, SplitmergeError) or str(spec.root) not in str(error)):
            shutil.rmtree(spec.root, ignore_errors=True)
            _leave(spec.root.parent)
        raise


def _prepare(spec: LabSpec) -> None:
    """Make its directory, with what it is built of. :raises BadInput: if that cannot be; nothing of it is left then."""
    try:
        _make_private(spec.root)
        try:
            (spec.root / SPEC).write_bytes(msgspec.json.format(msgspec.json.encode(spec)))
        except OSError:
            shutil.rmtree(spec.root, ignore_errors=True)
            raise
    except OSError as error:
        raise BadInput(f"lab directory {spec.root}", error.strerror or str(error), "use another --state-dir") from None


@contextmanager
def _runnable() -> Iterator[None]:
    """Around the start of a process. :raises BadInput: naming the file that this user may not run or enter."""
    try:
        yield
    except PermissionError as error:
        remedy = "install Splitmerge where this user may run it"
        raise BadInput(str(error.filename or sys.executable), error.strerror or str(error), remedy) from None


def remove_leftovers(directory: Path) -> bool:
    """Remove what a lab that is over left in its directory; whether there was something.

    :raises BadInput: if its process lives, being built or ended, if this is no lab's directory, or not ours to see.
    """
    if not _is_there(directory):
        return False
    if found := unfinished(directory):
        remedy = f"wait for it, or end it with `{command(directory, 'down')}`"
        raise BadInput(f"lab {directory.name!r}", str(found), remedy)
    if not is_labs(directory) and _has_files(directory):
        raise BadInput(str(directory), "is there already, and no lab's", "use another --name or --state-dir")
    shutil.rmtree(directory, ignore_errors=True)
    _leave(directory.parent)
    return True


def _is_there(directory: Path) -> bool:
    """Whether this is a directory. :raises BadInput: if we may not know."""
    try:
        return directory.is_dir()
    except OSError as error:  # a PermissionError: `is_dir` answers to the others
        remedy = "use another --state-dir, or be the user whose it is"
        raise BadInput(f"lab directory {directory}", error.strerror or str(error), remedy) from None


def _has_files(directory: Path) -> bool:
    """Not one that its own `up`, interrupted, has just removed. :raises OSError: if it cannot be read."""
    try:
        return any(directory.iterdir())
    except FileNotFoundError:
        return False


def call_off(found: Unfinished) -> None:
    """End a lab that is being built or ended, as an interrupt of the command that builds it does; waits until all is
    gone, commands that run in it too: one that had served and has lost its record has some.

    It takes `STOP_WITHIN`, and then a few seconds more, at most. Its directory is removed.
    """
    with _held(_namespaces_of(found.pid)) as namespaces, _handles(pid for pid, _ in descendants(found.pid)) as left:
        _end(found.pid, None)
        _end_guests(namespaces)
        deadline = time.monotonic() + GUESTS_WITHIN  # the kernel ends them with their parent
        while left and (ended := select.select(left, [], [], max(0.0, deadline - time.monotonic()))[0]):
            left = [handle for handle in left if handle not in ended]
        for handle in left:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    if unfinished(found.directory) is None:  # nor is another one built there already
        shutil.rmtree(found.directory, ignore_errors=True)  # as its `up` does at this moment
        _leave(found.directory.parent)


@contextmanager
def _handles(pids: Iterable[int]) -> Iterator[list[int]]:
    """Descriptors of these processes, as far as they live: a number may be the next process's one."""
    held: list[int] = []
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                held.append(os.pidfd_open(pid))
        yield list(held)
    finally:
        for each in held:
            os.close(each)


def stop_lab(record: LabRecord) -> None:
    """End a lab and everything in it, commands that `splitmerge exec` runs there too; waits until all is gone.

    Its directory is removed.
    """
    with _held(record.namespaces.values()) as namespaces:
        _end(record.pid, None)
        _end_guests(namespaces)
    shutil.rmtree(record.directory, ignore_errors=True)
    _leave(Path(record.directory).parent)


def _end_guests(namespaces: set[int]) -> None:
    """End what still runs in a lab's namespaces (by inode): SIGTERM, wait, SIGKILL, wait."""
    guests = _processes_in(namespaces)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in guests:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + GUESTS_WITHIN
        while (guests := _processes_in(namespaces)) and time.monotonic() < deadline:
            time.sleep(0.02)


def _namespaces_of(lab: int) -> Iterator[str]:
    """The network namespaces that the process of a lab has made: it has them open. One that it is in may be others'."""
    for descriptor in Path(f"/proc/{lab}/fd").glob("*"):
        with suppress(OSError):  # it is closed meanwhile, or is no link
            if os.readlink(descriptor).startswith("net:["):
                yield str(descriptor)


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


def _wait_ready(process: subprocess.Popen[bytes], spec: LabSpec, log: Path) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        readable, _, _ = select.select([output], [], [], spec.start_within)
        line = output.readline().decode().strip() if readable else ""
    if line == READY:
        return
    if not readable:
        raise ProcessFailed("lab", f"not ready within {spec.start_within:g} s", log, kept=not spec.ephemeral)
    if line == ENDED:
        raise LabEnded(spec.name)
    try:
        status = process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        problem = f"said {line!r} where {READY!r} was due, and has not ended within {STOP_WITHIN:g} s"
        raise ProcessFailed("lab", problem, log, kept=not spec.ephemeral) from None
    if status == -signal.SIGTERM or not log.exists():
        raise LabEnded(spec.name)
    if said := _first_error(log):
        raise SplitmergeError(said)
    raise ProcessFailed("lab", "ended while it was being built", log, kept=not spec.ephemeral)


def _first_error(log: Path) -> str:
    """The lab's own last complaint, which already says what to do; empty if it made none."""
    lines = log.read_text(errors="replace").strip().splitlines()
    said = [at for at, line in enumerate(lines) if line.startswith("error: ")]
    return "\n".join([lines[said[-1]].removeprefix("error: "), *lines[said[-1] + 1 :]]) if said else ""


def _end(pid: int, process: subprocess.Popen[bytes] | None) -> None:
    """SIGTERM, wait, SIGKILL. The process may be a child of ours or nobody's."""
    if process is not None and process.poll() is not None:
        return  # it has been waited for: its number may be another one's by now
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

    Directories that no lab made stay. :raises BadInput: if nobody may look into ``state_dir``'s own folder.
    """
    if not _is_there(state_dir):
        return
    try:
        directories = list(state_dir.iterdir())
    except PermissionError:  # labs may be made in a folder that their users cannot list
        return
    for directory in directories:
        try:
            read_record(directory)
        except LabNotFound:
            if is_labs(directory) and time.time() - directory.stat().st_mtime > START_WITHIN:
                with suppress(BadInput):  # it is being built still, or not ours
                    remove_leftovers(directory)
