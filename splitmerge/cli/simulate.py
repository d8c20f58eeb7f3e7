"""``simulate``: what a policy would do with a load trace, without packets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from orchestrator.elasticity import POLICIES, read_section, section
from splitmerge.cli.life import Assignment
from splitmerge.cli.options import SET_HELP, Json
from splitmerge.cli.output import console, say, show_json, show_table
from splitmerge.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.simulator import Result

SHOWN = 20
"""Actions in the table for people."""


def simulate(
    trace: Annotated[Path, typer.Argument(help="A CSV file, - for standard input, or burst or day, which come along.")],
    policy: Annotated[str, typer.Option(help=f"{', '.join(POLICIES)}, or module:Class.")] = "flow-count",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help=SET_HELP),
    ] = None,
    assignment: Annotated[Assignment, typer.Option(help="Of new flows to replicas.")] = Assignment.hash,
    capacity: Annotated[float, typer.Option(help="Packets per second that a replica can process.")] = 1000.0,
    start_up: Annotated[float, typer.Option(help="Seconds that a replica takes to start.")] = 1.0,
    move_time: Annotated[float, typer.Option(help="Seconds that the moves of one action take.")] = 0.1,
    replicas: Annotated[int, typer.Option(help="At the beginning.", min=1, max=1000)] = 1,
    rate: Annotated[float, typer.Option(help="Packets per second of a flow whose start does not say.")] = 10.0,
    as_json: Json = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write the timeline there; - alone to standard output.")
    ] = None,
    svg_file: Annotated[Path | None, typer.Option("--svg", help="Draw it there.")] = None,
    png_file: Annotated[Path | None, typer.Option("--png", help="Draw it there (matplotlib).")] = None,
) -> None:
    """Replay a load trace against a policy, without packets, and tell what it would have done and what that costs.

    A trace has a header and a row for each change, sorted by time in seconds:

    `time,flow,packets`: the flow sends so many packets per second from then on; 0 ends it.

    `time,flow,event` or `time,flow,event,packets`: `start` or `end` of a flow.

    Try `splitmerge simulate burst`, then `--policy utilisation --set by=packets --set capacity=1000`, then a class of
    your own: `--policy student:Mine` is class Mine in student.py (docs/elasticity.md).
    """
    from orchestrator.simulator import Model, Simulation, read_trace
    from orchestrator.simulator.report import write_csv, write_png, write_svg
    from orchestrator.simulator.trace import STDIO

    if as_json and csv_file is not None and str(csv_file) == STDIO:
        raise BadInput("--csv -", "standard output has the JSON already", "leave one of the two out, or name a file")
    for option, file in (("--csv", csv_file), ("--svg", svg_file), ("--png", png_file)):
        if file is not None and str(file) != STDIO and file.resolve() == trace.resolve():
            raise BadInput(f"{option} {file}", "it is the trace", "name another file")
    config = read_section(section(policy, settings or []), assignment.value)
    model = Model(capacity, start_up, move_time, replicas)
    begun = time.perf_counter()
    result = Simulation(config, model, _choose(assignment)).run(read_trace(trace, rate))
    took = time.perf_counter() - begun
    title = f"{trace.stem}, {policy}: {result.most_replicas} replicas at most, {result.utilisation:.0%} used"
    if csv_file is not None:
        write_csv(result, csv_file)
    if svg_file is not None:
        write_svg(result, capacity, title, svg_file)
    if png_file is not None:
        write_png(result, capacity, title, png_file)
    if as_json:
        return show_json(msgspec.to_builtins(result))
    if csv_file is not None and str(csv_file) == STDIO:
        return None
    _show(result, title, took)
    return None


def _choose(assignment: Assignment) -> Callable[[dict[int, int]], int] | None:
    """The controller's own code, with a key that it does not look at; None: by hash."""
    if assignment is Assignment.hash:
        return None
    from p4rt_controller.assignment import policy
    from splitmerge.flowkey import FlowKey

    chooser, any_key = policy(assignment.value), FlowKey.of(17, bytes(4), 1, bytes(4), 2)
    return lambda loads: chooser.choose(any_key, loads)


def _show(result: Result, title: str, took: float) -> None:
    from orchestrator.simulator.report import blocks

    looks = result.looks
    say(title)
    lines = (
        ("packets/s", [look.packets for look in looks]),
        ("replicas", [float(look.replicas + look.ending) for look in looks]),
        ("busiest", [look.highest for look in looks]),
    )
    for name, values in lines:
        say(f"{name:>10} {blocks(values)} up to {max(values, default=0.0):,.4g}")
    show_table(
        "",
        ("seconds", "rows", "replica seconds", "used", "overload s", "excess packets", "flows moved"),
        [
            (
                result.seconds,
                result.rows,
                result.replica_seconds,
                f"{result.utilisation:.1%}",
                result.overload_seconds,
                round(result.excess_packets),
                result.moved,
            )
        ],
    )
    shown = result.actions[:SHOWN]
    show_table(
        f"{len(result.actions)} actions" + (f", the first {SHOWN}" if len(result.actions) > SHOWN else ""),
        ("at", "action", "took", "flows moved", "why"),
        [(each.time, each.action, each.seconds, each.moved, each.why) for each in shown],
    )
    console.print(f"replayed in {took:.2f} s", style="dim", highlight=False)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(simulate)
