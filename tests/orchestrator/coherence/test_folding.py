"""Parts of ended replicas, from the guest library through hub and journal, and through restarts of both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guestlib import LOCAL, PUSH, Guest
from guestlib.instructions import ToOrchestrator
from orchestrator.coherence.hub import COLLECTED_MOST
from orchestrator.errors import JournalError
from orchestrator.journal import Journal, ReplicaRow
from orchestrator.replicas.fleet import Fleet, ReplicaState
from orchestrator.shared import SharedState
from splitmerge.messages import Message, SharedPush


class Hits(msgspec.Struct):
    count: int = 0
    seen: list[int] = []


def unite(parts: Sequence[Hits]) -> Hits:
    return Hits(sum(part.count for part in parts), sorted(number for part in parts for number in part.seen))


class Service:
    """The orchestrator's side, with a journal; the guests are reached at once."""

    def __init__(self, path: Path) -> None:
        self.path, self.guests, self.faults = path, dict[int, Guest](), list[JournalError]()
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.path)
        self.shared = SharedState(self.journal, self.journal.load(), self.send, fault=self.faults.append)
        self.shared.hub._last_words = 0.0
        self.shared.begin()

    def restart(self) -> None:
        self.shared.close()
        self.journal.close()
        self.start()

    def fails_once(self, method: str) -> None:
        """The next such entry of this process."""
        works = getattr(self.journal, method)

        def fail(*arguments: Any, **named: Any) -> None:
            setattr(self.journal, method, works)
            raise JournalError("journal", "the disk is full")

        setattr(self.journal, method, fail)

    async def total(self) -> Hits:
        """Over the parts of ended replicas and those that live."""
        found = await self.shared.find("hits", self.guests)
        return unite([msgspec.msgpack.decode(each.value, type=Hits) for each in found.elements])

    def send(self, replica: int, message: Message) -> None:
        if (guest := self.guests.get(replica)) is not None:
            self.take(replica, guest.handle(message, 0.0))

    def take(self, replica: int, steps: Sequence[object]) -> None:
        for step in steps:
            assert isinstance(step, ToOrchestrator)
            self.shared.handle(replica, step.message, list(self.guests))

    def born(self, number: int) -> Guest:
        guest = self.guests[number] = Guest()
        guest.register_state(Hits)
        guest.create_shared("hits", Hits(), unite)
        guest.begin(number, f"i{number}")
        self.journal.put_replica(ReplicaRow(number, 0, 0, "live", f"i{number}"))
        return guest

    def ends(self, number: int) -> SharedPush:
        """Its last words."""
        (step,) = self.guests[number].coherent.finish(0.0)
        assert isinstance(step, ToOrchestrator) and isinstance(step.message, SharedPush)
        self.take(number, [step])
        del self.guests[number]
        self.journal.drop_replica(number)
        self.shared.gone(number)
        return step.message


async def test_what_generations_of_replicas_counted_is_one_part_and_all_there(tmp_path: Path) -> None:
    service = Service(tmp_path / "journal.db")
    last = service.born(1)
    late: list[tuple[int, SharedPush]] = []
    sizes = []
    for number in range(2, 102):
        guest = service.born(number)
        with guest.shared("hits", LOCAL) as hits:
            hits.count += number
            hits.seen.append(number % 3)
        with last.shared("hits", PUSH) as hits:
            hits.count += 1
        service.take(1, last.poll(0.0))
        late.append((number, service.ends(number)))
        if number % 10 == 0:
            service.restart()
        for former, words in late[-8:]:  # said again, long after
            service.shared.handle(former, words, list(service.guests))
        sizes.append(len(service.journal.load().finals["hits"]))
    total = await service.total()
    assert total.count == sum(range(2, 102)) + 100
    assert [total.seen.count(rest) for rest in range(3)] == [33, 33, 34]
    assert max(sizes) <= 6 and service.shared.hub.kept <= 6 and service.shared.hub.late > 0
    service.shared.close()
    service.journal.close()


def counts(service: Service, number: int, count: int = 1) -> None:
    """A replica counts, and pushes at once."""
    guest = service.guests[number]
    with guest.shared("hits", PUSH) as hits:
        hits.count += count
    service.take(number, guest.poll(0.0))


async def test_what_is_folded_and_cannot_be_written_down_is_counted_once_by_the_next_process(tmp_path: Path) -> None:
    service = Service(tmp_path / "journal.db")
    last = service.born(1)
    for number in range(2, 6):
        service.born(number)
        counts(service, number, 10**number)
        service.ends(number)
    service.fails_once("keep_folded")
    for _ in range(5):  # the disk has room again, but this process knows what the journal does not
        counts(service, 1)
    assert len(service.faults) == 1
    with pytest.raises(JournalError, match="disk is full"):
        await service.total()
    service.restart()
    service.take(1, last.poll(1.0))
    for number in range(6, 10):
        service.born(number)
        counts(service, number, 10**number)
        service.ends(number)
    counts(service, 1)
    assert service.shared.hub.folded > 0
    service.restart()
    assert (await service.total()).count == sum(10**number for number in range(2, 10)) + 6
    service.shared.close()
    service.journal.close()


async def test_a_push_that_cannot_be_written_down_is_not_confirmed_before_the_next_process_has_it(
    tmp_path: Path,
) -> None:
    service = Service(tmp_path / "journal.db")
    guest = service.born(1)
    service.fails_once("keep_final")
    counts(service, 1, 7)
    service.take(1, guest.poll(1.0))  # the same version again
    assert guest.coherent.unconfirmed == 1 and "hits" not in service.journal.load().finals
    service.restart()
    service.take(1, guest.poll(2.0))
    assert guest.coherent.unconfirmed == 0 and len(service.journal.load().finals["hits"]) == 1
    assert (await service.total()).count == 7 and len(service.faults) == 1
    service.shared.close()
    service.journal.close()


async def test_who_waits_for_an_object_hears_that_it_cannot_be_written_down(tmp_path: Path) -> None:
    service = Service(tmp_path / "journal.db")
    service.born(1)
    waiting = asyncio.ensure_future(service.shared.find("hits", [1, 99]))
    await asyncio.sleep(0)
    service.fails_once("keep_final")
    counts(service, 1)
    with pytest.raises(JournalError):
        await asyncio.wait_for(waiting, 2.0)
    service.shared.close()
    service.journal.close()


async def test_a_replica_has_not_ended_before_what_it_left_is_written_down(tmp_path: Path) -> None:
    service = Service(tmp_path / "journal.db")
    fleet = Fleet(service.journal, {1: 1})
    fleet.load([ReplicaRow(1, 1, 1, "live", "i1")])
    fleet.on_gone = service.shared.gone
    service.born(1)
    with service.guests[1].shared("hits", LOCAL) as hits:
        hits.seen = list(range(COLLECTED_MOST))
    assert len((await service.total()).seen) == COLLECTED_MOST and "hits" not in service.journal.load().finals
    service.fails_once("keep_final")
    with pytest.raises(JournalError):
        fleet.set_state(fleet.replicas[1], ReplicaState.GONE)
    assert service.journal.load().replicas[1].state == fleet.replicas[1].state.value == "live" and service.faults
    service.shared.close()
    service.journal.close()
