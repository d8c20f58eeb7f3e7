"""``demo``: the paper's verification as one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from splitmerge.cli.errors import Interrupted
from splitmerge.cli.life import Punt, Target
from splitmerge.cli.output import console, show_table
from splitmerge.cli.signals import Interruption
from splitmerge.demo import DemoPlan
from splitmerge.errors import BadInput

if TYPE_CHECKING:
    from splitmerge.demo.result import DemoResult


def demo(
    target: Annotated[Target, typer.Option(help="embedded, or bmv2: simple_switch_grpc from PATH.")] = Target.embedded,
    punt: Annotated[Punt, typer.Option(help="How suspended packets reach the controller.")] = Punt.ethernet,
    topology: Annotated[
        str, typer.Option(help="three-switches, or a JSON or TOML file; one switch if not given.")
    ] = "",
    migrations: Annotated[int, typer.Option(help="Moves between replicas, at least.")] = DemoPlan().migrations,
    connections: Annotated[int, typer.Option(help="HTTP connections, one flow each.")] = DemoPlan().connections,
    request_rate: Annotated[float, typer.Option(help="Requests a second on each.")] = DemoPlan().request_rate,
    udp_flows: Annotated[int, typer.Option(help="Numbered UDP flows.")] = DemoPlan().udp_flows,
    udp_rate: Annotated[float, typer.Option(help="Datagrams a second on each.")] = DemoPlan().udp_rate,
    seconds: Annotated[float, typer.Option(help="Traffic runs at least this long.")] = DemoPlan().seconds,
    limit: Annotated[float, typer.Option(help="Traffic runs at most this long.")] = DemoPlan().limit,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = DemoPlan().seed,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file, as JSON.")] = None,
) -> None:
    """Real flows through an intrusion detector, moved between replicas more than a hundred times, and an account.

    Exit status 0 only if every injection was counted, every alert raised once, every replica lived, and not one packet
    was lost, duplicated or reordered. Leaves nothing behind, also after Ctrl-C; what one that was killed left, the next
    one removes.
    """
    _check_writable(json_file)
    plan = DemoPlan(
        target=target.value,
        punt=punt.value,
        topology=topology,
        migrations=migrations,
        connections=connections,
        request_rate=request_rate,
        udp_flows=udp_flows,
        udp_rate=udp_rate,
        seconds=seconds,
        limit=limit,
        seed=seed,
    )
    try:
        with Interruption("ending the demo's lab") as interruption:
            result = _run(plan, interruption)
    except KeyboardInterrupt:
        raise Interrupted("the demo's lab is ended, and nothing of it is left") from None
    _show(result)
    if json_file is not None:
        _write(json_file, msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    raise typer.Exit(0 if result.ok else 1)


def _check_writable(path: Path | None) -> None:
    """Before the demo runs for half a minute. :raises BadInput: if its figures could not be written there."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise BadInput(f"--json {path}", "its folder does not exist", "make it first")
    try:
        path.open("ab").close()
    except OSError as error:
        raise BadInput(f"--json {path}", error.strerror or str(error), "name a file that can be written") from None


def _write(path: Path, text: bytes) -> None:
    try:
        path.write_bytes(text)
    except OSError as error:
        raise BadInput(f"--json {path}", error.strerror or str(error), "the figures are in the table above") from None


def _run(plan: DemoPlan, interruption: Interruption) -> DemoResult:
    from splitmerge.demo.run import run_demo  # here, since it brings the middlebox and the traffic generators along

    columns = (
        TextColumn("{task.description:22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
        task = bar.add_task("", total=plan.migrations)

        def progress(phase: str, moves: int) -> None:
            interruption.check()
            bar.update(task, description=phase, completed=moves)

        result = run_demo(plan, progress)
    interruption.check()
    return result


def _show(result: DemoResult) -> None:
    rows = [
        ("HTTP requests", result.requests, ""),
        ("SQL injections counted", result.injections_counted, f"of {result.injections_sent:,} sent"),
        ("alerts seen", result.alerts_seen, f"of {result.alerts_expected:,} expected"),
        ("moves between replicas", result.migrations, f"{result.flows_moved:,} flows with their state"),
        ("replicas added, removed", result.replicas_added, f"{result.replicas_removed:,} removed"),
        ("UDP packets sent", result.udp_sent, "both directions"),
        ("packets lost", result.lost, ""),
        ("packets duplicated", result.duplicated, ""),
        ("packets reordered", result.reordered, ""),
        (
            "ms suspended, median",
            result.suspend_ms.p50,
            f"p99 {result.suspend_ms.p99:g}, max {result.suspend_ms.max:g}",
        ),
        ("seconds", result.seconds, f"switch: {result.target}"),
    ]
    show_table("Split/Merge verification", ("what", "number", ""), rows)
    for problem in result.problems:
        console.print(Text.assemble(("wrong:", "red"), f" {problem}"), highlight=False)
    console.print(Text("everything that was sent is accounted for", "green") if result.ok else Text("failed", "red"))


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(demo)
