"""``up``, ``down``, ``exec``, ``shell``: the life of a lab."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.elasticity import POLICIES, section
from splitmerge.cli.building import build, read_config, set_up_for_trial
from splitmerge.cli.errors import NOT_EXECUTABLE, NOT_FOUND, Interrupted, NotRun
from splitmerge.cli.options import (
    DEFAULT_NAME,
    SET_HELP,
    Buffer,
    Guarantee,
    Json,
    Name,
    StateDir,
    WhenFull,
    how,
    running_lab,
)
from splitmerge.cli.output import problems, say, show_json, working
from splitmerge.cli.passing import Passing
from splitmerge.cli.signals import Interruption
from splitmerge.errors import BadInput
from splitmerge.linux.forks import FORK_REMEDIES
from topo.enter import popen_in
from topo.errors import LabNotFound, LabUnfinished
from topo.launch import call_off, lab_directory, remove_leftovers, remove_stale, stop_lab
from topo.model import Topology, load_topology, one_switch
from topo.naming import command as lab_command
from topo.naming import default_state_dir
from topo.spec import LabRecord, LabSpec

VM_IMAGE = Path("build/vm-image")
ENDING = 3.0
"""Seconds for a command to end after SIGTERM, when its lab has ended: twice."""
SHELL_ELECTION_ID = 1
"""Below the controller's, so that the shell reads beside it and never takes the switch away from it."""


class Target(StrEnum):
    """Which switch."""

    embedded = "embedded"
    bmv2 = "bmv2"


class Punt(StrEnum):
    """How packets of suspended flows reach the controller."""

    packet_in = "packet-in"
    ethernet = "ethernet"


class Assignment(StrEnum):
    """Who chooses the replica of a new flow, and how."""

    hash = "hash"
    least_loaded = "least-loaded"
    round_robin = "round-robin"


def up(
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    target: Annotated[Target, typer.Option(help="embedded, or bmv2: simple_switch_grpc from PATH.")] = Target.embedded,
    middlebox: Annotated[str, typer.Option(help="module:Class of the middlebox.")] = "middleboxes.ids:Ids",
    config: Annotated[
        Path | None, typer.Option(help="The middlebox's configuration, JSON or TOML; its keys: docs/middleboxes/.")
    ] = None,
    assignment: Annotated[
        Assignment, typer.Option(help="hash: the switch alone; the others: the controller, per new flow.")
    ] = Assignment.hash,
    punt: Annotated[
        Punt, typer.Option(help="How suspended packets reach the controller: P4Runtime's packet-ins, or a port of its.")
    ] = Punt.ethernet,
    guarantee: Annotated[
        Guarantee, typer.Option(help="Of moves that say nothing else; see docs/migration.md.")
    ] = Guarantee.order_preserving,
    buffer: Annotated[
        Buffer,
        typer.Option(
            help="Where packets wait in such moves: the target, or the controller. Not of no-buffer and none."
        ),
    ] = Buffer.replica,
    when_full: Annotated[
        WhenFull,
        typer.Option(
            help="If such a move's buffer is nearly full: abort calls it off, and drops, counted, only what has no "
            "room until then; drop goes on, and drops what has no room."
        ),
    ] = WhenFull.abort,
    references: Annotated[
        float | None, typer.Option(help="Such a move waits so long for flows in use (seconds, 0 to 3600; 0.25).")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            help="Such a move is called off if it is not decided by then (seconds, 0 to 3600); a replica that is "
            "silent for 2 s past that is killed. Else only what a move waits for in vain ends it.",
        ),
    ] = None,
    packets: Annotated[
        int | None,
        typer.Option(help="Most packets that wait for one such move; with guarantee none, none waits.", min=1),
    ] = None,
    size: Annotated[int | None, typer.Option("--bytes", help="Most bytes that do.", min=1)] = None,
    policy: Annotated[
        str, typer.Option(help=f"When replicas come and go: {', '.join(POLICIES)}, or module:Class.")
    ] = "explicit",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help=SET_HELP),
    ] = None,
    tls: Annotated[
        bool, typer.Option(help="Agents in namespaces of their own, reached over IP with mutual TLS alone.")
    ] = False,
    hold_packets: Annotated[
        int | None, typer.Option(help="Most packets that wait at one replica (131072), half of them for one move.")
    ] = None,
    hold_bytes: Annotated[int | None, typer.Option(help="The same in bytes (134217728).")] = None,
    replace: Annotated[bool, typer.Option(help="Another replica in place of one that died.")] = True,
    slots: Annotated[int | None, typer.Option(help="Room for so many replicas (8).", min=0, max=64)] = None,
    vm_slots: Annotated[int, typer.Option(help="Room for so many replicas more that are machines.", min=0, max=64)] = 0,
    vm_image: Annotated[Path, typer.Option(help="The image of these: `make vm-image` writes it.")] = VM_IMAGE,
    topology: Annotated[Path | None, typer.Option(help="three-switches, or a JSON or TOML file.")] = None,
    as_json: Json = False,
) -> None:
    """Build a lab: client, server, switch, orchestrator and the first replica, in namespaces of their own.

    Ctrl-C, SIGTERM and SIGHUP call it off while it is being built: status 130, and nothing of it is left.
    """
    said = (None if buffer is Buffer.replica else buffer, None if when_full is WhenFull.abort else when_full)
    defaults = how(guarantee, *said, references, deadline, packets, size)  # the others are so anyway
    middlebox_config = read_config(config)
    held = {"hold_packets": hold_packets, "hold_bytes": hold_bytes}
    directory = lab_directory(name, state_dir)
    lab_topology = _topology(topology, slots, vm_slots)
    spec = LabSpec(
        name=name,
        directory=str(directory),
        topology=lab_topology,
        vm_image=str(vm_image.absolute()),
        target=target.value,
        punt=punt.value,
        middlebox=middlebox,
        middlebox_config=middlebox_config,
        assignment=assignment.value,
        guarantee=guarantee.value,
        buffer=buffer.value,
        defaults={name: value for name, value in defaults.items() if name not in ("guarantee", "buffer")},
        policy=policy,
        elasticity=section(policy, settings or []),
        replace=replace,
        tls=tls,
        replica={name: most for name, most in held.items() if most is not None},
    )
    spec.validate()  # what is cheap to find comes first
    with Interruption(f"calling lab {name!r} off") as interruption:
        set_up_for_trial(spec, config)
        remove_stale(state_dir or default_state_dir())
        record = build(spec, interruption)
    if as_json:
        return show_json(record)
    switches = (
        f"switch {spec.target}" if len(record.switches) == 1 else f"{len(record.switches)} switches {spec.target}"
    )
    say(f"lab {name!r} is up: {len(spec.topology.slots)} slots, {switches}, process {record.pid}")
    words = {"scale-out": "", "status": "", "exec": "client -- COMMAND", "down": ""}
    say("try: " + "; ".join(lab_command(directory, verb, more) for verb, more in words.items()))
    return None


def down(name: Name = DEFAULT_NAME, state_dir: StateDir = None, as_json: Json = False) -> None:
    """End a lab: its processes, namespaces and files. Nothing stays behind, also of one that was killed.

    One that is being built is ended too, as Ctrl-C in its `splitmerge up` would, which then says so.
    """
    directory = lab_directory(name, state_dir)
    try:
        record = running_lab(name, state_dir)
    except LabUnfinished as unfinished:
        with _ending(name, directory):
            call_off(unfinished.found)
        if as_json:
            return show_json({"name": name, "ended": True})
        say(f"lab {name!r} was {unfinished.found.state}; it is down")
        return None
    except LabNotFound:
        if not remove_leftovers(directory):
            raise
        if as_json:
            return show_json({"name": name, "ended": False, "removed": True})
        say(f"lab {name!r} had ended; its files are removed")
        return None
    with _ending(name, directory):
        stop_lab(record)
    if as_json:
        show_json({"name": name, "ended": True})
    else:
        say(f"lab {name!r} is down")
    return None


@contextmanager
def _ending(name: str, directory: Path) -> Iterator[None]:
    try:
        with working(f"ending lab {name!r}"):
            yield
    except KeyboardInterrupt:
        remedy = f"`{lab_command(directory, 'down')}` again waits for it, and removes its files"
        raise Interrupted(f"lab {name!r} goes on ending", remedy) from None


def exec_(
    namespace: Annotated[str, typer.Argument(help=f"{', '.join(one_switch(2).namespaces())} …")],
    command: Annotated[list[str], typer.Argument(help="What to run there; put -- before it.")],
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
) -> None:
    """Run a command inside a namespace of the lab: `splitmerge exec client -- curl http://10.0.2.2/`.

    The exit status is the command's; 127 if it is not found, 126 if it cannot be run, as in a shell. SIGTERM, SIGHUP
    and SIGINT are passed on to it; if it ends by a signal, the status is 128 and that signal's number.
    """
    record = running_lab(name, state_dir)
    with Passing() as passing:
        try:
            process = popen_in(record, namespace, command)
        except OSError as error:
            if error.filename not in (None, command[0]):
                raise LabNotFound(Path(record.directory), "it has just ended") from None
            raise _not_run(command[0], error) from None
        status = _wait_beside(process, record, passing)
    raise typer.Exit(status if status >= 0 else 128 - status)


def _not_run(command: str, error: OSError) -> NotRun:
    found = "/" in command and os.path.exists(command)
    match error.errno:
        case errno.ENOENT if found:
            return NotRun(command, "its interpreter is not found", "correct its first line", NOT_EXECUTABLE)
        case errno.ENOENT:
            return NotRun(command, "not found", "install it, or give its path", NOT_FOUND)
        case errno.ENOEXEC:
            remedy = "begin it with a line like #!/bin/sh, or give its interpreter before it"
            return NotRun(command, "is no program that this machine runs", remedy, NOT_EXECUTABLE)
        case errno.E2BIG:
            problem = "its arguments are too long, or its environment is"
            return NotRun(command, problem, "give fewer or shorter ones, or a file that has them", NOT_EXECUTABLE)
        case errno.EAGAIN | errno.ENOMEM if error.filename is None:  # fork(2)'s
            problem = f"no process can be made for it: {error.strerror}"
            return NotRun(command, problem, FORK_REMEDIES[error.errno], NOT_EXECUTABLE)
        case _ if os.path.isdir(command):
            return NotRun(command, "is a directory", "give a program", NOT_EXECUTABLE)
        case _:
            problem = f"cannot be run: {error.strerror or error}"
            return NotRun(command, problem, "give a file that may be executed (chmod +x)", NOT_EXECUTABLE)


def shell(
    arguments: Annotated[list[str] | None, typer.Argument(help="Further arguments for p4runtime-shell.")] = None,
    switch: Annotated[
        str | None, typer.Option(help="Which, if there are several; `splitmerge status` names them.")
    ] = None,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
) -> None:
    """Open p4runtime-shell on the lab's switch, from an environment of its own (made the first time).

    IPython keeps its history in the lab's directory: it goes with the lab.
    """
    from p4switch.shell import command, environment, variables
    from topo.switches import device_id

    record = running_lab(name, state_dir)
    names = list(record.switches)
    if switch is not None and switch not in names:
        raise BadInput(f"--switch {switch!r}", "not in this lab", "one of: " + ", ".join(names))
    position = names.index(switch or names[0])
    with working("preparing p4runtime-shell's own environment", problems):
        python = environment()
    address = record.switches[names[position]]
    argv = command(python, address, device_id(position), SHELL_ELECTION_ID, arguments or [])
    kept = variables(Path(record.directory) / "ipython")
    process = popen_in(record, "switch", argv, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr, env=kept)
    raise typer.Exit(_wait(process))


def _wait_beside(process: subprocess.Popen[bytes], record: LabRecord, passing: Passing) -> int:
    """Until the command ends; when the lab ends first, the command is ended too: its network is gone."""
    passing.to(process.pid)
    lab, command = os.pidfd_open(record.pid), os.pidfd_open(process.pid)
    try:
        ended, _, _ = select.select([lab, command], [], [])
    finally:
        os.close(lab)
        os.close(command)
    if lab in ended and process.poll() is None:
        problems.print("the lab has ended: ending the command too", style="red")
        process.terminate()
    if lab not in ended:
        return process.wait()
    for end in (process.terminate, process.kill):  # told twice, programs of `traffic/` report without the answers
        try:
            return process.wait(ENDING)
        except subprocess.TimeoutExpired:
            end()
    return process.wait()


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the shell's own affair
            continue


def _topology(path: Path | None, slots: int | None, vm_slots: int) -> Topology:
    if path is None:
        return one_switch(8 if slots is None else slots, vm_slots)
    if slots is not None or vm_slots:
        raise BadInput("--slots", "the topology file says how many there are", "leave one of the two out")
    return load_topology(path)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(up)
    app.command()(down)
    app.command(name="exec", context_settings={"ignore_unknown_options": True})(exec_)
    app.command(context_settings={"ignore_unknown_options": True})(shell)
