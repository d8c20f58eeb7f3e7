"""Output queues: order, bounds, and every drop counted with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from p4switch.ports import DropReason, Drops, OutputQueue, PcapPort, Received, Sent


class Scripted:
    """A port that answers as it is told."""

    def __init__(self, answers: list[Sent]) -> None:
        self.answers = answers
        self.sent: list[bytes] = []

    def fileno(self) -> int:
        return -1

    def ports(self) -> Mapping[int, str]:
        return {1: "scripted"}

    def receive(self, limit: int) -> list[Received]:
        return [Received(1, b"in")]

    def send(self, port: int, frame: bytes) -> Sent:
        answer = self.answers.pop(0) if self.answers else Sent.YES
        if answer is Sent.YES:
            self.sent.append(frame)
        return answer

    def drops(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass


def make(answers: list[Sent], limit: int = 100) -> tuple[OutputQueue, Scripted, Drops]:
    port, drops = Scripted(answers), Drops()
    return OutputQueue(1, port, drops, limit=limit, patience=1.0), port, drops


def test_full_queue_drops_the_newest() -> None:
    queue, port, drops = make([], limit=2)
    for name in (b"a", b"b", b"c"):
        queue.put(name)
    assert queue.flush(0.0)
    assert port.sent == [b"a", b"b"]
    assert drops.total(DropReason.OUTPUT_QUEUE_FULL) == 1
    assert (queue.packets, queue.bytes) == (2, 2)


def test_waits_then_gives_up_then_recovers() -> None:
    queue, port, drops = make([Sent.LATER] * 5)
    queue.put(b"a")
    queue.put(b"b")
    assert not queue.flush(0.0)
    assert not queue.flush(0.9)
    assert queue.flush(1.0)  # both are dropped: the port is down
    assert drops.total(DropReason.SEND_FAILED) == 2
    queue.put(b"c")
    assert queue.flush(1.1)  # at once, as nothing was taken since
    assert drops.total(DropReason.SEND_FAILED) == 3
    queue.put(b"d")
    assert queue.flush(1.2)
    assert port.sent == [b"d"]


def test_frame_that_cannot_be_sent_does_not_hold_up_others() -> None:
    queue, port, drops = make([Sent.NEVER])
    queue.put(b"long")
    queue.put(b"b")
    assert queue.flush(0.0)
    assert port.sent == [b"b"]
    assert drops.total(DropReason.TOO_LONG) == 1


@given(st.lists(st.one_of(st.integers(0, 255).map(lambda n: bytes([n])), st.floats(0, 0.6)), max_size=60), st.data())
def test_nothing_is_lost_uncounted_and_order_holds(steps: list[bytes | float], data: st.DataObject) -> None:
    answers = data.draw(st.lists(st.sampled_from(list(Sent)), max_size=60))
    queue, port, drops = make(answers, limit=5)
    now, put = 0.0, []
    for step in steps:
        if isinstance(step, bytes):
            put.append(step)
            queue.put(step)
        else:
            now += step
            queue.flush(now)
    lost = sum(drops.by_reason_and_port().values())
    assert len(put) == len(port.sent) + len(queue) + lost
    remaining = iter(put)
    assert all(frame in remaining for frame in port.sent)  # a subsequence


def test_pcap_files(tmp_path: Path) -> None:
    port = PcapPort(Scripted([Sent.YES, Sent.LATER]), tmp_path)
    port.receive(1)
    assert port.send(1, b"out") is Sent.YES
    assert port.send(1, b"not") is Sent.LATER
    port.close()
    into, out = (tmp_path / f"scripted_{way}.pcap" for way in ("in", "out"))
    assert into.read_bytes()[:4] == out.read_bytes()[:4] == (0xA1B2C3D4).to_bytes(4, "little")
    assert into.read_bytes()[24 + 8 :] == b"\2\0\0\0\2\0\0\0in"
    assert out.read_bytes()[24 + 8 :] == b"\3\0\0\0\3\0\0\0out"
