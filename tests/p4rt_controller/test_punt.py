"""Packet-ins in Ethernet frames: read like P4Runtime's, and sorted the short way as the long way would."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from p4rt_controller.frames import HEAD, FrameCodec
from p4rt_controller.intake import Intake
from p4rt_controller.moves import Kept, Move, MoveBook
from p4rt_controller.options import PuntPort
from p4rt_controller.packets import (
    MARKER_FRAME,
    LoopReturned,
    MarkerEcho,
    PacketIn,
    Punted,
    RelayAck,
    Strange,
)
from p4rt_controller.schema import Pipeline
from p4src import P4BLOB, P4INFO, PuntReason
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.tag import Tag, TagKind
from tests.bmv2 import bmv2_from_path

CODEC = FrameCodec(Pipeline(P4INFO, P4BLOB).schema)
KEYS = [FlowKey.parse(f"udp,10.0.0.1:{port},10.0.0.2:9") for port in range(1, 7)]
KEYS += [FlowKey.parse(f"tcp,[fd00::1]:{port},[fd00::2]:9") for port in range(1, 4)]
ROOM = (50, 5000)


def head(key: FlowKey | None, reason: int, *, port: int = 1, replica: int = 0) -> bytes:
    """What the P4 program writes in front of a frame (p4src/include/header.p4)."""
    fields = [port << 7, reason, 0, 0, 0, replica, bytes(16), bytes(16), 0, 0]
    if key is not None:
        low, high = key.low_addr.rjust(16, b"\0"), key.high_addr.rjust(16, b"\0")
        fields[2:] = [key.version, key.protocol, key.bucket, replica, low, high, key.low_port, key.high_port]
    return bytes.fromhex("02534d00000102534d00000288b6") + struct.pack("!HBBBHH16s16sHH", *fields)


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("reason", [PuntReason.SUSPENDED, PuntReason.NEW_FLOW])
def test_punted_packets_have_the_key_of_their_header(key: FlowKey, reason: PuntReason):
    assert CODEC.decode(head(key, reason), b"frame") == Punted(key, b"frame", reason is PuntReason.NEW_FLOW)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (TagKind.MARKER_ECHO, MarkerEcho(9, 7, 5)),
        (TagKind.RELAY_ACK, RelayAck(9, 7, 5)),
        (TagKind.LOOP, LoopReturned(7, 5)),
        (TagKind.RELAYED, Strange(3)),
    ],
)
def test_tagged_frames_are_signals(kind: TagKind, event: PacketIn):
    assert CODEC.decode(head(None, PuntReason.TAGGED, replica=9), Tag(kind, 7, 5).push(MARKER_FRAME)) == event


@given(st.binary(max_size=HEAD + 2), st.binary(max_size=40))
def test_any_bytes_are_an_event(first: bytes, rest: bytes):
    assert isinstance(CODEC.decode(first, rest), Strange | Punted)


@given(st.integers(0, HEAD - 1), st.integers(0, 255), st.sampled_from(KEYS))
def test_a_damaged_head_is_an_event(index: int, value: int, key: FlowKey):
    damaged = bytearray(head(key, 1))
    damaged[index] = value
    event = CODEC.decode(bytes(damaged), Tag(TagKind.MARKER_ECHO, 7, 5).push(MARKER_FRAME))
    assert isinstance(event, Strange | Punted | MarkerEcho)


def test_packet_outs_have_the_programs_header():
    frame = CODEC.packet_out(11, TagKind.RELAYED, 7, 300, b"frame")
    assert frame[12:] == b"\x88\xb6" + struct.pack("!HBII", 11 << 7, 1, 7, 300) + b"frame"
    assert CODEC.packet_out(11, TagKind.MARKER, 7, 1, None).endswith(MARKER_FRAME)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("",), "interface"),
        (("a" * 16,), "interface"),
        (("p0", 0), "port 0"),
        (("p0", 510), "port 510"),
        (("p0", 1, 0), "ring"),
    ],
)
def test_a_punt_port_that_cannot_be_is_refused(arguments: tuple, word: str):
    with pytest.raises(BadInput, match=word):
        PuntPort(*arguments)


class Desk:
    """An intake and all that is behind it; ``relaying`` are told of appended packets."""

    def __init__(self) -> None:
        self.book = MoveBook((200, 20_000), ROOM, ROOM, one_move=ROOM)
        self.intake = Intake(CODEC, self.book, self.handle, self.appended)
        self.events: list[PacketIn] = []
        self.told: list[int] = []

    def handle(self, event: PacketIn) -> Move | None:
        self.events.append(event)
        return self.book.punted(event, 0.0)[1] if isinstance(event, Punted) else None

    def appended(self, move: Move) -> None:
        self.told.append(move.epoch)


def test_the_second_packet_of_a_flow_goes_the_short_way():
    desk = Desk()
    move = desk.book.open(1, [KEYS[0]], [], [], 0.0)
    known = head(KEYS[0], 1)
    assert [desk.intake.take([(known, b"1"), (known, b"2")]), desk.intake.take([(known, b"3")])] == [1, 1]
    assert (list(move.lane), len(desk.events)) == ([b"1", b"2", b"3"], 1)


def test_a_sealed_moves_packets_are_no_longer_its_own():
    desk = Desk()
    move = desk.book.open(1, [KEYS[0]], [], [], 0.0)
    known = head(KEYS[0], 1)
    desk.intake.take([(known, b"1"), (known, b"2")])
    desk.book.seal(move)
    assert desk.intake.take([(known, b"3")]) == 0
    assert (list(move.lane), desk.book.orphans.budget.packets) == ([b"1", b"2"], 1)


def test_a_flood_at_one_move_leaves_room_to_the_others():
    desk = Desk()
    flooded = desk.book.open(1, [KEYS[0]], [], [], 0.0)
    other = desk.book.open(2, [KEYS[1]], [], [], 0.0)
    desk.intake.take([(head(KEYS[0], 1), b"x")] * 500 + [(head(KEYS[1], 1), b"y")] * 10)
    assert (len(flooded.lane), flooded.lane.dropped, len(other.lane), other.lane.dropped) == (50, 450, 10, 0)
    assert desk.book.held.budget.dropped == 450


class SameAsTheLongWay(RuleBasedStateMachine):
    """Whatever moves begin, end and are sealed between packets: lanes are those of a book that is asked each time."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.long = Desk(), Desk()
        self.epoch = 0
        self.number = 0

    @rule(
        batch=st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([1, 1, 1, 2]), st.integers(1, 2)), max_size=9)
    )
    def packets(self, batch: list[tuple[FlowKey, int, int]]):
        parts = []
        for key, reason, port in batch:
            self.number += 1
            parts.append((head(key, reason, port=port), b"%d" % self.number))
        self.short.intake.take(parts)
        for first, frame in parts:
            self.long.handle(CODEC.decode(first, frame))

    @rule(key=st.sampled_from(KEYS), bucket=st.booleans())
    def begin(self, key: FlowKey, bucket: bool):
        self.epoch += 1
        keys, buckets = ([], [key.bucket]) if bucket else ([key], [])
        free = all(
            desk.book.owner_of(each) is None and desk.book.owner_of_bucket(each.bucket) is None
            for desk in (self.short, self.long)
            for each in KEYS
            if each.bucket == key.bucket
        )
        if free:
            for desk in (self.short, self.long):
                desk.book.open(self.epoch, keys, buckets, [], 0.0)

    @rule(seal=st.booleans(), data=st.data())
    def end(self, seal: bool, data: st.DataObject):
        epochs = [move.epoch for move in self.short.book.moves()]
        if not epochs:
            return
        epoch = data.draw(st.sampled_from(epochs))
        for desk in (self.short, self.long):
            move = desk.book.get(epoch)
            assert move is not None
            if seal:
                desk.book.seal(move)
            else:
                desk.book.close(move)

    @rule()
    def expire(self):
        for desk in (self.short, self.long):
            desk.book.expire(1.0)

    @invariant()
    def same(self):
        for one, other in zip(self.short.book.moves(), self.long.book.moves(), strict=True):
            assert (one.epoch, list(one.lane), one.lane.dropped) == (other.epoch, list(other.lane), other.lane.dropped)
        for name in ("new_flows", "orphans"):
            one, other = getattr(self.short.book, name), getattr(self.long.book, name)
            assert [(key, list(one.get(key))) for key in one.lane_keys()] == [
                (key, list(other.get(key))) for key in other.lane_keys()
            ]
        self.short.book.validate()


TestSameAsTheLongWay = SameAsTheLongWay.TestCase
TestSameAsTheLongWay.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_new_flow_in_a_moving_bucket_keeps_its_packets_together():
    """Its suspended packets stand behind those that came while nobody had it, not in the bucket's lane."""
    desk = Desk()
    key = KEYS[0]
    move = desk.book.open(1, [], [key.bucket], [], 0.0)
    desk.intake.take([(head(key, 1), b"1"), (head(key, 1), b"2"), (head(key, 2), b"3"), (head(key, 1), b"4")])
    waiting = desk.book.new_flows.get(key)
    assert waiting is not None
    assert (list(move.lane), list(waiting)) == ([b"1", b"2"], [b"3", b"4"])
    assert desk.book.punted(Punted(key, b"5", new=False), 0.0)[0] is Kept.WAITING


@pytest.mark.integ
@pytest.mark.timeout(130)
@pytest.mark.parametrize("case", ["lanes", "overflow", "sending", "link", "missing"])
def test_on_a_real_interface(namespaces: None, case: str):
    program = Path(__file__).with_name("namespace_punt.py")
    result = subprocess.run(
        [sys.executable, str(program), case],
        cwd=program.parents[2], env={"PYTHONPATH": str(program.parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr


@pytest.mark.integ
@pytest.mark.slow
@pytest.mark.timeout(190)
@pytest.mark.parametrize("target", ["embedded", "bmv2"])
def test_moves_over_a_punt_port_lose_double_and_reorder_nothing(namespaces: None, target: str):
    """Random moves of flows and buckets under load, with the packets of suspended flows through the punt port."""
    program = [bmv2_from_path()] if target == "bmv2" else []
    script = Path(__file__).with_name("namespace_moves.py")
    with subprocess.Popen(
        [sys.executable, str(script), *program],
        cwd=script.parents[2], env={**os.environ, "PYTHONPATH": str(script.parents[2])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, complaints = process.communicate(timeout=180)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its switch goes with it
    assert (process.returncode, said) == (0, "problems {} lost (0, 0, 0)\n"), complaints
