"""``migrate``, ``cancel``: what an operator asks for, move by move."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.migration.steps import Step
from splitmerge.cli.judging import show_moved, tell_unknown
from splitmerge.cli.options import (
    DEFAULT_NAME,
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
from splitmerge.cli.output import say, show_json, working
from splitmerge.cli.views import show_moves
from splitmerge.cli.waiting import LONG, Action, goes_on, patience
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, FlowKey
from topo.launch import lab_directory
from topo.naming import command


def migrate(
    target: Annotated[int, typer.Option(help="Replica that takes the flows.")],
    flow: Annotated[
        list[str] | None, typer.Option(help="A flow: tcp,10.0.1.2:40000,10.0.2.2:80 (repeat for more, buckets too).")
    ] = None,
    bucket: Annotated[list[int] | None, typer.Option(help="A bucket, 0 to 1023 (repeat for more, flows too).")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the source has.")] = False,
    source: Annotated[int | None, typer.Option(help="Replica that has them; needed with --all.")] = None,
    guarantee: MoveGuarantee = None,
    buffer: MoveBuffer = None,
    when_full: MoveWhenFull = None,
    references: MoveReferences = None,
    deadline: MoveDeadline = None,
    packets: MovePackets = None,
    size: MoveBytes = None,
    wait: Annotated[bool, typer.Option(help="Until the moves are over; else print their numbers.")] = True,
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Move flows, with state and timers, to another replica.

    By default nothing is repeated or reordered, and nothing lost as long as there is room for the packets that wait: a
    move that runs out of it is called off, and what has no room until then, or in a move that is decided already, is
    dropped and counted (docs/migration.md, rule 8; `dropped` of `splitmerge moves`).

    The status is 1 if anything stays: flows in use, what no move follows for, all of a move that was undone or is late.
    So it is if flows went on without their state.
    """
    body = _what(flow or [], bucket or [], everything)
    if everything and source is None:
        raise BadInput("--all", "all of which replica?", "give --source too")
    body |= how(guarantee, buffer, when_full, references, deadline, packets, size)
    body |= {"target": target, "wait": wait} | ({} if source is None else {"source": source})
    directory = lab_directory(name, state_dir)
    action = Action(
        f"moving to replica {target}",
        "moves",
        ours=lambda move: move["target"] == target and source in (None, move["source"]),
    )
    with (
        connect(name, state_dir, patience(deadline)) as client,
        goes_on(directory, client, action),
        working("moving"),
    ):
        answer = client.post("/moves", body)
    if wait:
        tell_unknown(answer["moves"] if flow else ())
        return show_moved(answer, directory, as_json=as_json)
    if as_json:
        return show_json(answer)
    numbers = ", ".join(str(move["epoch"]) for move in answer["moves"])
    follow, call_off = command(directory, "moves"), command(directory, "cancel", "NUMBER")
    say(f"planned: move {numbers}; see `{follow}`, `{call_off}`")
    say("flows in use are left to another move: it follows the one planned, and is listed with it")
    return None


def cancel(
    epoch: Annotated[int, typer.Argument(help="Number of the move; see `splitmerge moves`.")],
    name: Name = DEFAULT_NAME,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Call a move off while it is not decided: its flows stay where they are, and lose nothing.

    Of a move that is done, while flows of its groups are being brought from other replicas: what follows from it.
    """
    directory = lab_directory(name, state_dir)
    action = Action(f"calling move {epoch} off", "moves", ours=lambda move: move["epoch"] == epoch, cancels=False)
    with connect(name, state_dir, LONG) as client, goes_on(directory, client, action), working("calling off"):
        move = client.delete(f"/moves/{epoch}")
    late = f"not over yet; see `{command(directory, 'moves')}`"
    said = {Step.UNDONE.value: "called off", Step.DONE.value: "done; what follows from it is called off"}
    if as_json:
        show_json(move)
    else:
        show_moves(said.get(move["step"], late), [move])
    if move["step"] not in said:
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


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(migrate)
    app.command()(cancel)
