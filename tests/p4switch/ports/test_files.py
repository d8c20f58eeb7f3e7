"""``--use-files``: packets from pcap files or FIFOs, to pcap files."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4switch.errors import PortError
from p4switch.ports import FilePorts, Received, Sent
from p4switch.ports.pcap import PcapParser, Record

HERE = Path(__file__).parent
DEADLINE = 20.0


def pcap(*records: tuple[int, bytes], order: str = "<", nano: bool = False, link: int = 1) -> bytes:
    """A file with records of (time in microseconds, or in nanoseconds, frame)."""
    magic, unit = (0xA1B23C4D, 10**9) if nano else (0xA1B2C3D4, 10**6)
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)]
    for moment, frame in records:
        parts.append(struct.pack(f"{order}IIII", *divmod(moment, unit), len(frame), len(frame)) + frame)
    return b"".join(parts)


def frames_of(path: Path) -> list[bytes]:
    parser, found = PcapParser(), []
    parser.feed(path.read_bytes())
    while (record := parser.next()) is not None:
        found.append(record.frame)
    assert not parser.rest
    return found


@contextmanager
def ports(folder: Path, names: dict[int, str], wait: float = 0) -> Iterator[FilePorts]:
    opened = FilePorts(names, folder, wait)
    try:
        opened.start()
        yield opened
    finally:
        opened.close()
        opened.close()


def received(files: FilePorts, wanted: int) -> list[Received]:
    found: list[Received] = []
    while len(found) < wanted and select.select([files], [], [], DEADLINE)[0]:
        found += files.receive(64)
    return found


@given(
    st.lists(st.tuples(st.integers(0, 2**31), st.binary(max_size=60)), max_size=8),
    st.sampled_from("<>"),
    st.booleans(),
    st.integers(1, 40),
)
def test_any_file_in_any_pieces(records: list[tuple[int, bytes]], order: str, nano: bool, piece: int) -> None:
    data, parser, found = pcap(*records, order=order, nano=nano), PcapParser(), []
    for start in range(0, len(data), piece):
        parser.feed(data[start : start + piece])
        while (record := parser.next()) is not None:
            found.append(record)
    unit = 1 if nano else 1000
    assert found == [Record(moment * unit, frame) for moment, frame in records]
    assert not parser.rest


def test_earliest_first_then_by_name(tmp_path: Path) -> None:
    (tmp_path / "b_in.pcap").write_bytes(pcap((10, b"b10"), (20, b"b20"), (30, b"b30"), order=">", link=0))
    (tmp_path / "a_in.pcap").write_bytes(pcap((20, b"a20"), (5, b"a5"), (40, b"a40")))
    with ports(tmp_path, {1: "b", 2: "a"}) as files:
        wanted = [(1, b"b10"), (2, b"a20"), (2, b"a5"), (1, b"b20"), (1, b"b30"), (2, b"a40")]
        assert received(files, 6) == [Received(*item) for item in wanted]
        assert files.send(1, b"out") is Sent.YES
        assert frames_of(tmp_path / "b_out.pcap") == [b"out"]
        assert frames_of(tmp_path / "a_out.pcap") == []
        assert files.ports() == {1: "b", 2: "a"}
        assert not any(files.drops().values())


def test_files_that_are_damaged_are_counted_and_the_others_go_on(tmp_path: Path) -> None:
    whole = pcap((1, b"one"), (2, b"two"))
    (tmp_path / "cut_in.pcap").write_bytes(whole[:-1])
    (tmp_path / "not_in.pcap").write_bytes(b"PK\3\4" + bytes(100))
    (tmp_path / "good_in.pcap").write_bytes(whole)
    (tmp_path / "huge_in.pcap").write_bytes(pcap() + struct.pack("<IIII", 0, 0, 1 << 30, 1 << 30))
    (tmp_path / "snap_in.pcap").write_bytes(pcap() + struct.pack("<IIII", 0, 0, 2, 9) + b"xx")
    with ports(tmp_path, {1: "cut", 2: "not", 3: "good", 4: "huge", 5: "snap"}) as files:
        assert received(files, 3) == [Received(1, b"one"), Received(3, b"one"), Received(3, b"two")]
        assert files.drops() == {"truncated_in_file": 1, "malformed_file": 3}


def test_more_than_waits(tmp_path: Path) -> None:
    count = 10_000
    (tmp_path / "a_in.pcap").write_bytes(pcap(*((n, n.to_bytes(4, "big")) for n in range(count))))
    with ports(tmp_path, {1: "a"}) as files:
        assert [int.from_bytes(item.frame, "big") for item in received(files, count)] == list(range(count))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(PortError, match="a_in"):
        FilePorts({1: "a"}, tmp_path, 0)


@pytest.mark.parametrize("wait", [0, 3600])
def test_closing_while_it_waits(tmp_path: Path, wait: float) -> None:
    os.mkfifo(tmp_path / "a_in.pcap")
    started = time.monotonic()
    with ports(tmp_path, {1: "a"}, wait):
        pass
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("order", [("s1", "s2"), ("s2", "s1")])
@pytest.mark.parametrize("backend", ["native", "interpreter"])
def test_the_switch_on_fifos(tmp_path: Path, order: tuple[str, str], backend: str) -> None:
    """As p4c's runner: FIFOs first, then the switch, then writers, whichever opens first."""
    for name in order:
        os.mkfifo(tmp_path / f"{name}_in.pcap")
    words = ["--use-files", "0", "-i", "1@s1", "-i", "2@s2", "--backend", backend, str(HERE / "wire.json")]
    command = [sys.executable, "-m", "p4switch", *words, "--", "--grpc-server-addr", f"unix:{tmp_path}/s"]
    switch = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert switch.stdout is not None
        lines = [switch.stdout.readline() for _ in range(3)]
        assert lines[:2] == ["Adding interface s1 as port 1\n", "Adding interface s2 as port 2\n"]
        data = {name: [bytes([index]) * 60 for index in range(50)] for name in order}
        writers = {name: (tmp_path / f"{name}_in.pcap").open("wb", buffering=0) for name in order}
        for name, writer in writers.items():
            writer.write(pcap(*enumerate(data[name]), link=0))
        for writer in writers.values():
            writer.close()
        outputs = {"s1": tmp_path / "s2_out.pcap", "s2": tmp_path / "s1_out.pcap"}
        whole = len(pcap(*enumerate(data["s1"])))
        end = time.monotonic() + DEADLINE
        while any(path.stat().st_size < whole for path in outputs.values()) and time.monotonic() < end:
            time.sleep(0.02)
        assert {name: frames_of(path) for name, path in outputs.items()} == data
        switch.terminate()
        assert switch.wait(DEADLINE) == 0
    finally:
        switch.kill()
        switch.communicate()
