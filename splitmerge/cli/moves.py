"""``migrate``, ``cancel``, ``scale-out``, ``scale-in``, ``rebalance``: what an operator asks for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.elasticity import section
from orchestrator.steps import TERMINAL, Step
from splitmerge.cli.options import (
    DEFAULT_NAME,
    SET_HELP,
    Buffer,
    Guarantee,
    Json,
    Name,
    StateDir,
    WhenFull,
    check_buffer,
    connect,
)
from splitmerge.cli.output import console, problems, say, show_json, show_table, working
from splitmerge.cli.views import show_moves
from splitmerge.cli.waiting import Action, goes_on
from splitmerge.client import OrchestratorClient
from splitmerge.errors import BadInput, SplitmergeError
from splitmerge.flowkey import BUCKETS, FlowKey
from topo.launch import lab_directory
from topo.naming import command

LONG = 120.0
"""Seconds to wait for an operation that moves many flows, makes replicas, or tries a policy."""
LOOK = 1.0
"""Seconds between two looks at what is left."""
DRAIN = 3700.0
"""The same for the last flow of a replica; the orchestrator gives up before."""


def migrate(
    target: Annotated[int, typer.Option(help="Replica that takes the flows.")],
    flow: Annotated[
        list[str] | None, typer.Option(help="A flow: tcp,10.0.1.2:40000,10.0.2.2:80 (repeat for more, buckets too).")
    ] = None,
    bucket: Annotated[list[int] | None, typer.Option(help="A bucket, 0 to 1023 (repeat for more, flows too).")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the source has.")] = False,
    source: Annotated[int | None, typer.Option(help="Replica that has them; needed with --all.")] = None,
    guarantee: Annotated[
        Guarantee | None,
        typer.Option(help="What is promised about their packets; no-buffer may reorder, none may lose late ones."),
    ] = None,
    buffer: Annotated[Buffer | None, typer.Option(help="Where packets wait: at the target, or the controller.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Call it off if not decided by then (seconds).", min=0)] = None,
    references: Annotated[
        float | None, typer.Option(help="Wait so long for flows in use (seconds); those stay.", min=0)
    ] = None,
    when_full: Annotated[
        WhenFull | None, typer.Option(help="The buffer is nearly full: call the move off, or drop what has no room.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Until the moves are over; else print their numbers.")] = True,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Move flows, with state and timers, to another replica. Nothing is lost, repeated or reordered, by default."""
    body = _what(flow or [], bucket or [], everything)
    if everything and source is None:
        raise BadInput("--all", "all of which replica?", "give --source too")
    _check_seconds("--deadline", deadline)
    _check_seconds("--references", references)
    check_buffer(guarantee, buffer)
    said = {
        "source": source, "guarantee": guarantee, "buffer": buffer, "deadline": deadline, "references": references,
        "when_full": when_full,
    }  # fmt: skip
    body |= {"target": target, "wait": wait} | {name: value for name, value in said.items() if value is not None}
    directory = lab_directory(name, state_dir)
    action = Action(
        f"moving to replica {target}",
        "moves",
        ours=lambda move: move["target"] == target and source in (None, move["source"]),
    )
    with connect(name, state_dir, LONG) as client, goes_on(directory, client, action), working("moving"):
        answer = client.post("/moves", body)
    if wait:
        return _moved(answer, directory, as_json=as_json)
    if as_json:
        return show_json(answer)
    numbers = ", ".join(str(move["epoch"]) for move in answer["moves"])
    follow, call_off = command(directory, "moves"), command(directory, "cancel", "NUMBER")
    say(f"planned: move {numbers}; see `{follow}`, `{call_off}`")
    return None


def _moved(answer: Mapping[str, Any], directory: Path, *, as_json: bool) -> None:
    """Show an answer whose moves were waited for. :raises typer.Exit: as `_judge`."""
    moves = answer["moves"]
    if as_json:
        show_json(answer)
    else:
        show_moves("not over yet" if _late(moves) else "moved", moves)
    _judge(moves, directory, shown=not as_json)


def _judge(moves: Iterable[Mapping[str, Any]], directory: Path, *, shown: bool = False) -> None:
    """Say on standard error what is not as it should be; of moves that were ``shown`` no reasons again.

    :raises typer.Exit: with status 1 if one is late, was undone, or left state behind.
    """
    _tell_late(moves, directory)
    for move in () if shown else moves:
        if move["step"] == Step.UNDONE.value:
            said = f"move {move['epoch']} was undone, its flows stay at replica {move['source']}: {move['reason']}"
            problems.print(said, highlight=False, markup=False, soft_wrap=True)
    if any(move["stateless"] for move in moves):
        problems.print("replica died before all state was at the target: flows go on there without it")
    if any(move["step"] != Step.DONE.value or move["stateless"] for move in moves):
        raise typer.Exit(1)


def _late(moves: Iterable[Mapping[str, Any]]) -> list[str]:
    """Numbers of those that are not over, though they were waited for."""
    over = {step.value for step in TERMINAL}
    return [str(move["epoch"]) for move in moves if move["step"] not in over]


def _tell_late(moves: Iterable[Mapping[str, Any]], directory: Path) -> None:
    """If any is late it is said which."""
    late = _late(moves)
    if late:
        follow = command(directory, "moves")
        problems.print(f"move {', '.join(late)} takes long and goes on by itself: see `{follow}`", soft_wrap=True)


def cancel(
    epoch: Annotated[int, typer.Argument(help="Number of the move; see `splitmerge moves`.")],
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Call a move off while it is not decided: its flows stay where they are, and lose nothing."""
    directory = lab_directory(name, state_dir)
    action = Action(f"calling move {epoch} off", "moves", ours=lambda move: move["epoch"] == epoch, cancels=False)
    with connect(name, state_dir, LONG) as client, goes_on(directory, client, action), working("calling off"):
        move = client.delete(f"/moves/{epoch}")
    undone = move["step"] == Step.UNDONE.value
    if as_json:
        show_json(move)
    else:
        show_moves("called off" if undone else f"not over yet; see `{command(directory, 'moves')}`", [move])
    if not undone:
        raise typer.Exit(1)


def _what(flows: list[str], buckets: list[int], everything: bool) -> dict[str, Any]:
    if bool(flows or buckets) == everything:
        problem = "--all, and flows or buckets besides" if everything else "nothing to move"
        raise BadInput("migrate", problem, "--flow, --bucket, or --all")
    for bucket in buckets:
        if not 0 <= bucket < BUCKETS:
            raise BadInput(f"--bucket {bucket}", "no such bucket", f"0 to {BUCKETS - 1}")
    if everything:
        return {"all": True}
    keys = [str(FlowKey.parse(flow)) for flow in flows]
    return ({"keys": keys} if keys else {}) | ({"buckets": buckets} if buckets else {})


def _check_seconds(where: str, seconds: float | None) -> None:
    """What options and JSON can say; how long is too long, the orchestrator knows."""
    if seconds is not None and not math.isfinite(seconds):
        raise BadInput(f"{where} {seconds}", "not a time", "seconds, 0 to 3600")


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
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Add replicas, forked or restored from the snapshot, and split the flows over them."""
    directory = lab_directory(name, state_dir)
    action = Action(
        f"scaling out by {count}",
        "replicas",
        undo=f"`{command(directory, 'scale-in')}` takes one away again",
    )
    with connect(name, state_dir, LONG) as client, goes_on(directory, client, action), working("making replicas"):
        answer = client.post("/scale-out", {"count": count, "rebalance": rebalance, "kind": kind.value if kind else ""})
    if as_json:
        show_json(answer)
    else:
        say("new: " + ", ".join(f"replica {replica}" for replica in answer["added"]))
    _judge(answer["moves"], directory)


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
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Take a replica away: the others get its flows with their state, then it ends."""
    body: dict[str, Any] = {"drain": drain, "wait": wait} | ({} if replica is None else {"replica": replica})
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
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Even the load over the replicas there are: flows move from the busiest to the least busy."""
    directory = lab_directory(name, state_dir)
    action = Action(f"evening {by.value}", "moves")
    with connect(name, state_dir, LONG) as client, goes_on(directory, client, action), working("moving"):
        answer = client.post("/rebalance", {"by": by.value, "most": most})
    if not answer["moves"] and not as_json:
        return say(f"nothing to even: by {LOADS[by]}, the replicas are as even as moves make them")
    return _moved(answer, directory, as_json=as_json)


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
    app.command()(migrate)
    app.command()(cancel)
    app.command(name="scale-out")(scale_out)
    app.command(name="scale-in")(scale_in)
    app.command()(rebalance)
    app.command()(policy)
