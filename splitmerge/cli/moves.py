"""``migrate``, ``cancel``, ``scale-out``, ``scale-in``: what an operator asks for."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any

import typer

from splitmerge.cli.options import (
    DEFAULT_NAME,
    Buffer,
    Guarantee,
    Json,
    Name,
    StateDir,
    WhenFull,
    check_buffer,
    connect,
)
from splitmerge.cli.output import console, show_json
from splitmerge.cli.views import show_moves
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, FlowKey

LONG = 120.0
"""Seconds to wait for an operation that moves many flows or makes replicas."""


def migrate(
    target: Annotated[int, typer.Option(help="Replica that takes the flows.")],
    flow: Annotated[
        list[str] | None, typer.Option(help="A flow: tcp,10.0.1.2:40000,10.0.2.2:80 (repeat for more).")
    ] = None,
    bucket: Annotated[list[int] | None, typer.Option(help="A bucket, 0 to 1023 (repeat for more).")] = None,
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
    wait: Annotated[bool, typer.Option(help="Until the moves are over; else see `splitmerge moves`.")] = True,
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
    with connect(name, state_dir, LONG) as client, console.status("moving"):
        answer = client.post("/moves", body)
    if as_json:
        return show_json(answer)
    if not wait:
        console.print("begun; see `splitmerge moves`")
        return None
    show_moves("moved", answer["moves"])
    if any(move["step"] != "done" for move in answer["moves"]):
        raise typer.Exit(1)
    return None


def cancel(
    epoch: Annotated[int, typer.Argument(help="Number of the move; see `splitmerge moves`.")],
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Call a move off while it is not decided: its flows stay where they are, and lose nothing."""
    with connect(name, state_dir, LONG) as client, console.status("calling off"):
        move = client.delete(f"/moves/{epoch}")
    if as_json:
        return show_json(move)
    show_moves("called off" if move["step"] == "undone" else "not over yet; see `splitmerge moves`", [move])
    if move["step"] != "undone":
        raise typer.Exit(1)
    return None


def _what(flows: list[str], buckets: list[int], everything: bool) -> dict[str, Any]:
    if bool(flows or buckets) == everything:
        raise BadInput("migrate", "nothing to move" if not everything else "too much", "--flow, --bucket, or --all")
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
    with connect(name, state_dir, LONG) as client, console.status("making replicas"):
        answer = client.post("/scale-out", {"count": count, "rebalance": rebalance, "kind": kind.value if kind else ""})
    if as_json:
        return show_json(answer)
    console.print("new: " + ", ".join(f"replica {replica}" for replica in answer["added"]))
    return None


def scale_in(
    replica: Annotated[int | None, typer.Option(help="Which one goes; default: the one with the fewest flows.")] = None,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Take a replica away: the others get its flows with their state, then it ends."""
    body = {} if replica is None else {"replica": replica}
    with connect(name, state_dir, LONG) as client, console.status("merging"):
        answer = client.post("/scale-in", body)
    if as_json:
        return show_json(answer)
    console.print(f"gone: replica {answer['removed']}")
    return None


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(migrate)
    app.command()(cancel)
    app.command(name="scale-out")(scale_out)
    app.command(name="scale-in")(scale_in)
