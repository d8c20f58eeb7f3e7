"""Replicas whose moves are taken message by message, and the messages."""

from __future__ import annotations

import msgspec

from guestlib import Guest
from guestlib.instructions import Instruction, Reply, ToOrchestrator, ToPeer
from splitmerge.messages import Export, FlowRecord, Message, Refused, Scope, Stage
from tests.guestlib.conftest import Count, key_of


class Blob(msgspec.Struct):
    data: object


K1, K2 = bytes(key_of(1)), bytes(key_of(2))
SCOPE = Scope(keys=(K1,))


def make(replica: int) -> Guest:
    guest = Guest()
    guest.register_state(Count, Blob)
    guest.on_timer("idle", lambda guest, key: None)
    guest.begin(replica, f"i{replica}")
    return guest


def export(epoch: int = 5, scope: Scope = SCOPE, target: int = 2, deadline: float = 1.0) -> Export:
    return Export(epoch=epoch, scope=scope, target=target, address="unix:/t", deadline=deadline)


def stage(epoch: int = 5, part: int = 0, key: bytes = K1, kind: str = "Count", **fields: object) -> Stage:
    record = FlowRecord(key=key, kind=kind, state=msgspec.msgpack.encode(Count(3)), **fields)
    return Stage(epoch=epoch, source=1, part=part, parts=1, flows=(record,))


def said(steps: list[Instruction]) -> list[Message]:
    """The messages, wherever they go."""
    assert all(isinstance(step, ToOrchestrator | ToPeer | Reply) for step in steps)
    return [step.message for step in steps]


def refused(steps: list[Instruction]) -> str:
    (message,) = said(steps)
    assert isinstance(message, Refused)
    return message.reason
