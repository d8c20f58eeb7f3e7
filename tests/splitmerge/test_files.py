"""Files that users name and that have no end are refused, whoever reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Config, load
from orchestrator.simulator import read_trace
from splitmerge import certs, files
from splitmerge.cli.building import read_config
from splitmerge.errors import BadInput
from topo.model import load_topology

ENDLESS = Path("/dev/zero")


def test_a_file_is_read_whole_up_to_the_most_that_one_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST", 5)
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert files.read_whole(path, "here") == b"12345"
    path.write_bytes(b"123456")
    with pytest.raises(BadInput, match=r"^here: is longer than"):
        files.read_whole(path, "here")


@pytest.mark.parametrize(
    ("read", "where"),
    [
        (read_config, "--config /dev/zero: is longer than 16 MiB"),
        (load_topology, "/dev/zero: is longer than 16 MiB"),
        (lambda path: load(path, Config), "/dev/zero: is longer than 16 MiB"),
        (lambda path: certs._read(path, bytes.decode, "remedy"), "/dev/zero: is longer than 16 MiB"),
        (lambda path: list(read_trace(path, 10)), "/dev/zero: line 1, .*field larger than field limit"),
    ],
    ids=["config", "topology", "orchestrator", "certificate", "trace"],
)
def test_an_endless_file_is_refused(read: Callable[[Path], Any], where: str) -> None:
    with pytest.raises(BadInput, match=where):
        read(ENDLESS)


def test_a_line_of_a_trace_that_does_not_end_is_refused_in_few_words(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time," * 500_000)
    with pytest.raises(BadInput, match="the header is time,") as refused:
        list(read_trace(path, 10))
    assert len(str(refused.value)) < 500
