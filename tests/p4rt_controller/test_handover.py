"""Suspend and resume over tables that do at once what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

import pytest

from p4rt_controller.errors import SwitchUnavailable
from p4rt_controller.handover import Handover
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.packets import Punted
from p4rt_controller.relay import RelaySender, RelaySettings
from p4rt_controller.scopes import steer
from p4rt_controller.tables import Steer, Table, TableState
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope

ROOM = (100, 100_000)
HERE, ELSEWHERE = (FlowKey.parse(f"udp,10.0.0.1:{port},10.0.0.2:9") for port in (1, 2))
BUCKETS = tuple({HERE.bucket, ELSEWHERE.bucket})


class Tables:
    """`Switches`: one that is never away. What is delivered is kept by replica."""

    def __init__(self) -> None:
        self.book = MoveBook(ROOM, ROOM, ROOM)
        self.desired = TableState()
        self.got: dict[int, list[bytes]] = {}
        self.done: list[str] = []
        """Writes and markers, in order."""
        self.refusal: Exception | None = None
        """What a write ends in."""
        for bucket in BUCKETS:
            self.desired.put(Table.BUCKET, bucket, Steer(1))

    def check_registered(self, replica: int) -> None:
        pass

    def entries(self, epoch: int, buckets: Iterable[int], wanted: Callable[[Steer], bool]) -> set[FlowKey]:
        return {key for key in self.apart(buckets) if (value := self.desired.flow(key)) is not None and wanted(value)}

    def left_suspended(self, epoch: int, buckets: Iterable[int]) -> set[FlowKey]:
        suspended = self.entries(epoch, buckets, lambda steer: steer.suspended)
        return {key for key in suspended if self.desired.flow(key) == self.desired.bucket(key.bucket)}

    def apart(self, buckets: Iterable[int]) -> set[FlowKey]:
        return {key for bucket in buckets for key in self.desired.flows_of_bucket(bucket)}

    def point(self, keys: Collection[FlowKey], buckets: Collection[int], value: Steer) -> Awaitable[object]:
        steer(self.desired, keys, buckets, value)
        return self._answer()

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        self.done.append("written")
        asyncio.get_running_loop().call_soon(self.done.append, "turn over")

    def mark(self, epoch: int, replica: int) -> None:
        self.done.append(f"mark {epoch} {replica}")

    def unmark(self, epoch: int) -> None:
        self.done.append(f"unmark {epoch}")

    async def loop(self, epoch: int) -> int:
        return 1

    async def deliver(
        self, move: Move, target: int, seal: Callable[[], Awaitable[None]] | None, busy: Callable[[], bool]
    ) -> None:
        self.got.setdefault(target, []).extend(move.lane)
        move.lane.clear()
        move.relay = RelaySender(move.lane, RelaySettings(4, 1.0, 1.0), 0.0)

    async def forget(self, keys: Iterable[bytes]) -> int:
        return 0

    def punt(self, key: FlowKey, frame: bytes) -> None:
        self.book.punted(Punted(key, frame, new=False), 0.0)


async def test_what_waits_for_a_flow_with_an_owner_of_its_own_does_not_go_where_its_bucket_goes() -> None:
    """The flow's replica has died in a move of it; its bucket, another one's, moves before the flow finds an owner."""
    tables = Tables()
    handover = Handover(tables.book, tables)
    await handover.suspend(1, Scope(keys=(bytes(ELSEWHERE),)), 2, None, mark=False)
    tables.punt(ELSEWHERE, b"1")
    tables.book.abandon(tables.book.moves()[0], 0.0)
    tables.punt(ELSEWHERE, b"2")  # as before; a packet that cannot be read would not be kept by the move's end
    scope = Scope(buckets=BUCKETS)
    await handover.suspend(2, scope, 1, None, mark=False)
    tables.punt(ELSEWHERE, b"3")
    tables.punt(HERE, b"4")
    await handover.resume(2, scope, 3, ordered=True, new=False, busy=bool)
    assert tables.got == {3: [b"4"]}
    await handover.resume(3, Scope(keys=(bytes(ELSEWHERE),)), 4, ordered=True, new=False, busy=bool)
    assert tables.got == {3: [b"4"], 4: [b"2", b"3"]}
    tables.book.validate()


async def test_the_sources_marker_follows_the_answer_to_the_write_and_no_earlier_one_counts():
    tables = Tables()
    handover = Handover(tables.book, tables)
    scope = Scope(buckets=BUCKETS)
    await handover.redirect(5, scope, 1, 2, mark=True)
    await asyncio.sleep(0)
    assert tables.done == ["unmark 5", "written", "mark 5 1", "turn over"]
    tables.done.clear()
    await handover.suspend(5, scope, 1, None, mark=True)  # called off: the marker sent before is before this write
    await asyncio.sleep(0)
    assert tables.done == ["unmark 5", "written", "mark 5 1", "turn over"]
    tables.done.clear()
    await handover.resume(5, scope, 1, ordered=True, new=False, busy=bool)
    handover.abandon(5)
    await asyncio.sleep(0)
    assert tables.done == ["unmark 5", "written", "unmark 5", "turn over"]


async def test_a_write_that_fails_is_followed_by_no_marker():
    tables = Tables()
    tables.refusal = SwitchUnavailable("write", "the connection broke")
    handover = Handover(tables.book, tables)
    with pytest.raises(SwitchUnavailable):
        await handover.redirect(5, Scope(buckets=BUCKETS), 1, 2, mark=True)
    assert tables.done == ["unmark 5"]
