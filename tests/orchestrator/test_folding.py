"""Parts of ended replicas, from the guest library through hub and journal, and through restarts of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from guestlib import LOCAL, PUSH, Guest
from guestlib.instructions import ToOrchestrator
from orchestrator.journal import Journal, ReplicaRow
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
        self.path, self.guests = path, dict[int, Guest]()
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.path)
        self.shared = SharedState(self.journal, self.journal.load(), self.send)
        self.shared.hub._last_words = 0.0
        self.shared.begin()

    def restart(self) -> None:
        self.shared.close()
        self.journal.close()
        self.start()

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
    found = await service.shared.find("hits", service.guests)
    total = unite([msgspec.msgpack.decode(each.value, type=Hits) for each in found.elements])
    assert total.count == sum(range(2, 102)) + 100
    assert [total.seen.count(rest) for rest in range(3)] == [33, 33, 34]
    assert max(sizes) <= 6 and service.shared.hub.kept <= 6 and service.shared.hub.late > 0
    service.shared.close()
    service.journal.close()
