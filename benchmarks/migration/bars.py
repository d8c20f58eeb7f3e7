"""The bars that the project has set itself, beside what was measured; and the tables for people."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.migration import latency
from splitmerge.cli.output import make_console

_SHOWN = (*latency.SHARES, "max")


def find(result: dict[str, Any], **wanted: Any) -> dict[str, Any] | None:
    """The cell with these values."""
    return next((cell for cell in result["cells"] if all(cell[name] == value for name, value in wanted.items())), None)


def bars(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, measured, bar, met (None if it was not measured)."""
    default = {"guarantee": "order-preserving", "buffer": result["default_buffer"], "state_bytes": 64}
    by_cpu = {**default, "buffer": "cpu"}

    def held(most: float, share: str, **wanted: Any) -> tuple[float | None, float]:
        cell = find(result, **wanted)
        return (None if cell is None else cell["held_ms"][share]), most

    rows: dict[str, tuple[float | None, float]] = {
        "1 flow: first packet held, ms (median, default buffer)": _waited(result, 1.0, flows=1, loaded=True, **default),
        "1 flow suspended, ms (median, buffer cpu)": held(4.0, "p50", flows=1, loaded=False, **by_cpu),
        "500 flows under load, ms (median)": held(50.0, "p50", flows=500, loaded=True, **default),
        "5,000 flows under load, ms (median)": held(500.0, "p50", flows=5000, loaded=True, **default),
        "100,000 flows by bucket, ms (median)": held(5000.0, "p50", flows=100_000, loaded=False, **default),
    }
    for name, stream in (result.get("tcp") or {"paced": {}}).items():
        rows |= _stream(name, stream)
    rows |= {each.what: (each.rise, each.noise) for each in latency.noticed(result["latency"])}
    return [
        {"what": what, "measured": value, "bar": most, "met": None if value is None else value <= most}
        for what, (value, most) in rows.items()
    ] + _clean(result)


def _stream(name: str, stream: dict[str, Any]) -> dict[str, tuple[float | None, float]]:
    """A dip stands beside each run's own other samples: a shared machine's speed differs more between runs."""
    rows: dict[str, tuple[float | None, float]] = {}
    lost = stream.get("lost", {})
    if held := stream.get("held_to_mbit_per_s"):
        name = f"{name} ({held:g} Mbit/s; {stream['carried_mbit_per_s']:.0f} are carried)"
    if "dip" in stream or not lost:
        rows[f"TCP {name}: dip at a move, percent of 1 s samples"] = (stream.get("dip", {}).get("percent"), 2.0)
    if (margin := lost.get("margin_percent")) is not None:
        what = f"TCP {name}: a move takes of a second, percent (mean of {lost['moves']}, ±{margin})"
        rows[what] = (lost["percent"], 2.0)
    after = stream.get("after", {})
    if (noise := after.get("noise_percent")) is not None:
        what = f"TCP {name}: percent less after the first move (bar: what runs without moves differ)"
        rows[what] = (after["percent"], noise)
    return rows


def _waited(result: dict[str, Any], most: float, **wanted: Any) -> tuple[float | None, float]:
    """How long the first packet was kept at the target, where packets came at all."""
    cell = find(result, **wanted)
    return (None if cell is None else cell["waited_ms"]["p50"]), most


def _clean(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Nothing lost or out of order where that is promised."""
    promised = [cell for cell in result["cells"] if cell["guarantee"] in ("order-preserving", "loss-free", "no-buffer")]
    ordered = [cell for cell in promised if cell["guarantee"] == "order-preserving"]
    # A frame that is overtaken counts as missing when the younger one comes, and as late when it comes itself.
    lost = sum(max(0, cell["packets"]["lost"] - cell["packets"]["repeated_or_overtaken"]) for cell in promised)
    again = sum(cell["packets"]["repeated_or_overtaken"] for cell in ordered)
    packets = sum(cell["packets"]["numbered"] for cell in promised)
    return [
        {"what": f"packets lost, of {packets:,}", "measured": lost, "bar": 0, "met": lost == 0},
        {"what": "packets repeated or overtaken, order-preserving", "measured": again, "bar": 0, "met": again == 0},
    ]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def show(result: dict[str, Any]) -> None:
    """Tables."""
    console = make_console(width=132)
    table = Table(
        "flows",
        "state",
        "guarantee",
        "buffer",
        "load",
        "held p50",
        "p99",
        "max",
        "flows/s",
        "lost",
        "late",
        title="moves (ms)",
    )
    for cell in result["cells"]:
        times = cell["held_ms"]
        packets = cell["packets"]
        table.add_row(
            f"{cell['flows']:,}", f"{cell['state_bytes']:,}", cell["guarantee"], cell["buffer"],
            "yes" if cell["loaded"] else "", f"{times['p50']:.2f}", f"{times['p99']:.2f}", f"{times['max']:.2f}",
            _shown(cell["waited_ms"]["p50"]), f"{cell['flows_per_s']:,}", str(packets["lost"]),
            str(packets["repeated_or_overtaken"]),
        )  # fmt: skip
    console.print(table)
    if result["latency"]:
        console.print(_latency(result["latency"]))
    table = Table("bar", "measured", "at most", "met", title="bars")
    for row in result["bars"]:
        met = "not measured" if row["met"] is None else "yes" if row["met"] else "NO"
        table.add_row(row["what"], "–" if row["measured"] is None else f"{row['measured']:,}", f"{row['bar']:,}", met)
    console.print(table)


def _latency(rows: list[dict[str, Any]]) -> Table:
    """Medians over rounds; what was lost, over all of them."""
    table = Table("run", "moves", "moved p50", "p99", "max", "others p50", "p99", "max", "lost", title="latency (ms)")
    for name in dict.fromkeys(row["run"] for row in rows):
        mine = [row for row in rows if row["run"] == name]
        figures = [median(row[who][share] for row in mine) for who in ("moved", "others") for share in _SHOWN]
        lost, moves = sum(row["lost"] for row in mine), median(row["moves"] for row in mine)
        table.add_row(name, f"{moves:g}", *(f"{figure:.3f}" for figure in figures), str(lost))
    return table
