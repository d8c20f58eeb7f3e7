"""The benchmark of the library's cost runs, and what it writes is whole. Its figures are for a quiet machine."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import guestlib_cost


def test_every_figure_is_there_and_bars_have_verdicts(tmp_path: Path, capsys) -> None:
    output = tmp_path / "cost.json"
    assert guestlib_cost.main(["--flows", "2000", "--rounds", "1", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert [row["what"] for row in report["times"]] == [
        "get_flow + put_flow", "flow_timer", "create_flow", "delete_flow",
    ]  # fmt: skip
    assert all(row["library_ns"] > 0 and row["dict_ns"] > 0 for row in report["times"])
    assert report["times"][0]["met"] in (True, False) and report["times"][1]["met"] is None
    assert [row["flows"] for row in report["memory"]] == [2000] * 4
    printed = capsys.readouterr().out
    assert "get_flow" in printed and "beyond its state" in printed
