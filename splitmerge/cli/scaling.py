"""``scale-out``, ``scale-in``, ``rebalance``, ``policy``: how many replicas there are, and who has how much."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.elasticity import section
from splitmerge.cli.judging import judge, show_moved
from splitmerge.cli.options import (
    DEFAULT_NAME,
    SET_HELP,
    Json,
    MoveBuffer,
    MoveBytes,
    MoveDeadline,
    MoveGuarantee,
    MovePackets,
    MoveReferences,
    MoveWhenFull,
    Name,
    StateDir,
    connect,
    how,
)
from splitmerge.cli.output import console, problems, say, show_json, show_table, working
from splitmerge.cli.waiting import LONG, Action, goes_on, patience
from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput, SplitmergeError
from topo.launch import lab_directory
from topo.naming import command

LOOK = 1.0
"""Seconds between two looks at what is left."""
DRAIN = 3700.0
"""Seconds to wait for the last flow of a replica; the orchestrator gives up before."""


class Kind(StrEnum):
    """What a replica is."""

    process = "process"
    vm = "vm"


def scale_out(
    count: Annotated[int, typer.Option(help="So many replicas more.", min=1, max=64)] = 1,
    rebalance: Annotated[bool, typer.Option(help="Give the new ones their share of the flows at once.")] = True,
    kind: Annotated[
        Kind | None, typer.Option(help="What they are to be; default: whatever slot is free first.")
    ] = None,
    guarantee: MoveGuarantee = None,
    buffer: MoveBuffer = None,
    when_full: MoveWhenFull = None,
    references: MoveReferences = None,
    deadline: MoveDeadline = None,
    packets: MovePackets = None,
    size: MoveBytes = None,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Add replicas, forked or restored from the snapshot, and split the flows over them.

    The status is 1 if flows that were to move stay or go on without their state, as of `migrate`: the replicas are
    there all the same.
    """
    said = how(guarantee, buffer, when_full, references, deadline, packets, size)
    if not rebalance:
        _moves_nothing("--no-rebalance", said)
    body = {"count": count, "rebalance": rebalance, "kind": kind.value if kind else ""} | said
    directory = lab_directory(name, state_dir)
    action = Action(
        f"scaling out by {count}",
        "replicas",
        undo=f"`{command(directory, 'scale-in')}` takes one away again",
    )
    with (
        connect(name, state_dir, patience(deadline, count)) as client,
        goes_on(directory, client, action),
        working("making replicas"),
    ):
        answer = client.post("/scale-out", body)
    if as_json:
        show_json(answer)
    else:
        say("new: " + ", ".join(f"replica {replica}" for replica in answer["added"]))
    judge(answer["moves"], directory)


def scale_in(
    replica: Annotated[int | None, typer.Option(help="Which one goes; default: the one with the fewest flows.")] = None,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Move nothing: no new flows for it, and it ends with its last one. Needs assignment by the controller "
            "(`splitmerge up --assignment least-loaded` or round-robin), which knows of new flows.",
        ),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Until it has ended; else go back at once.")] = True,
    guarantee: MoveGuarantee = None,
    buffer: MoveBuffer = None,
    when_full: MoveWhenFull = None,
    references: MoveReferences = None,
    deadline: MoveDeadline = None,
    packets: MovePackets = None,
    size: MoveBytes = None,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Take a replica away: the others get its flows with their state, then it ends.

    Each move has the deadline; what was not decided by then is tried again, for a minute.
    """
    said = how(guarantee, buffer, when_full, references, deadline, packets, size)
    if drain:
        _moves_nothing("--drain", said)
    body: dict[str, Any] = {"drain": drain, "wait": wait} | ({} if replica is None else {"replica": replica}) | said
    directory = lab_directory(name, state_dir)
    action = Action(
        f"{'draining' if drain else 'merging'} {'a replica' if replica is None else f'replica {replica}'}",
        "replicas",
        ours=lambda move: replica in (None, move["source"]),
        cancels=False,
        undo=f"it cannot be called off; `{command(directory, 'scale-out')}` makes another replica",
    )
    with connect(name, state_dir, DRAIN if drain else LONG) as client, goes_on(directory, client, action):
        if drain and wait:
            answer = _drained(client, body)
        else:
            with working("merging"):
                answer = client.post("/scale-in", body)
    if as_json:
        return show_json(answer)
    if answer["removed"] is None:
        say(f"begun; see `{command(directory, 'replicas')}`")
    else:
        say(f"gone: replica {answer['removed']}")
    return None


def _moves_nothing(because: str, said: Mapping[str, Any]) -> None:
    """:raises BadInput: if it is said how flows are to move, though none will."""
    if said:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        raise BadInput(options, f"nothing moves with {because}", "leave it out")


def _drained(client: OrchestratorClient, body: dict[str, Any]) -> Any:
    """The answer of a scale-in that waits for flows to end. How many are left is told each second, on standard error.

    :raises SplitmergeError: as the client's ``post`` does.
    """
    answers: SimpleQueue[Any] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(client.post("/scale-in", body))
        except BaseException as error:
            answers.put(error)

    # Not waited for by an interpreter that ends: Ctrl-C ends the command, and the drain goes on.
    threading.Thread(target=ask, daemon=True, name="scale-in").start()
    said = ""
    with working("draining", problems) as status:
        while True:
            try:
                answer = answers.get(timeout=LOOK)
                break
            except Empty:
                left = _left(client)
            if left and left != said:
                said = left
                status.update(Text(left))
                if not problems.is_terminal:
                    problems.print(left, highlight=False)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _left(client: OrchestratorClient) -> str:
    """What replicas that give their flows up still have; empty while nobody says."""
    try:
        replicas = client.get("/replicas")
    except SplitmergeError:
        return ""
    ending = [each for each in replicas if each["state"] == "finishing"]
    return "; ".join(f"replica {each['replica']}: {each['flows']} flows left" for each in ending)


class Figure(StrEnum):
    """What load is measured by."""

    flows = "flows"
    packets = "packets"
    cpu = "cpu"


LOADS = {Figure.flows: "flows", Figure.packets: "packets", Figure.cpu: "CPU time"}
"""In words."""


def rebalance(
    by: Annotated[Figure, typer.Option(help="The load that is evened.")] = Figure.flows,
    most: Annotated[int, typer.Option(help="So many buckets (or single flows) move at most.", min=1)] = 64,
    guarantee: MoveGuarantee = None,
    buffer: MoveBuffer = None,
    when_full: MoveWhenFull = None,
    references: MoveReferences = None,
    deadline: MoveDeadline = None,
    packets: MovePackets = None,
    size: MoveBytes = None,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Even the load over the replicas there are: flows move from the busiest to the least busy.

    The status is 1 if flows that were to move stay or go on without their state, as of `migrate`.
    """
    body = {"by": by.value, "most": most} | how(guarantee, buffer, when_full, references, deadline, packets, size)
    directory = lab_directory(name, state_dir)
    action = Action(f"evening {by.value}", "moves")
    with (
        connect(name, state_dir, patience(deadline)) as client,
        goes_on(directory, client, action),
        working("moving"),
    ):
        answer = client.post("/rebalance", body)
    if not answer["moves"] and not as_json:
        return say(f"nothing to even: by {LOADS[by]}, the replicas are as even as moves make them")
    return show_moved(answer, directory, as_json=as_json)


def policy_rows(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys of the section and their values; the policy's own settings come last, as if they were keys too."""
    rows = {key: value for key, value in config.items() if key != "settings"} | config["settings"]
    return [(key, str(value)) for key, value in rows.items()]


def policy(
    policy: Annotated[str | None, typer.Argument(help="The new one; none: show what there is.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)] = None,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show what the policy sees and has done; or change it while the lab runs (docs/elasticity.md)."""
    with connect(name, state_dir, LONG) as client:
        answer = client.get("/elasticity")
        if policy is not None or settings:
            current = answer["config"]
            change = section(policy or current["policy"], settings or [])
            if policy in (None, current["policy"]) and "settings" in change:
                change["settings"] = current["settings"] | change["settings"]
            action = Action("the change of the policy", "policy", ours=lambda move: False)
            with goes_on(lab_directory(name, state_dir), client, action):
                answer = client.patch("/elasticity", change)
    if as_json:
        return show_json(answer)
    show_table("policy", ("key", "value"), policy_rows(answer["config"]))
    loads = [(int(number), *load.values()) for number, load in answer["replicas"].items()]
    show_table("what it sees", ("replica", "flows", "packets/s", "cpu"), loads)
    done = [(each["action"], each["seconds"], each["outcome"], each["why"]) for each in answer["actions"]]
    show_table("what it did", ("action", "seconds", "outcome", "why"), done)
    if answer["problem"]:
        console.print(answer["problem"], style="red", highlight=False, soft_wrap=True)
    return None


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="scale-out")(scale_out)
    app.command(name="scale-in")(scale_in)
    app.command()(rebalance)
    app.command()(policy)
