"""The hub of coherent state: newest contribution of every origin to every object (§3.1).

Each replica writes only its own element, under its incarnation, with growing versions. A pull asks the others for
theirs, waits until all have answered or ended or the deadline has passed, and gets one element per origin; the
combiner runs in the replica that pulled. An ended replica's last known element stays: what it counted is neither lost
nor, as nobody else writes under its origin, counted twice.

What this process has confirmed or shown to anybody is journalled first, so that a new process knows it too: what a
replica pushed is not forgotten with the replica, and no value that was pulled goes back. Only large elements that a
pull collects (tables, not counters) are journalled no sooner than their replica ends.

Sans-IO: `Hub.handle` and `Hub.tick` return instructions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splitmerge.messages import (
    Message,
    SharedCollect,
    SharedCollected,
    SharedElement,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
)

HERE = 0
"""Asker that stands for this process (the REST API)."""
REPEAT = 0.5
"""Seconds after which a replica that has not answered is asked again."""
COLLECTED_MOST = 64 * 1024
"""Bytes of an element that is journalled whenever a pull has collected it; a larger one when its replica ends."""
KEYS_MOST = 10_000
"""Coherent objects that the hub keeps; pushes of further ones are not answered, and counted in `Hub.refused`."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this message to this replica."""

    replica: int
    message: Message


@dataclass(frozen=True, slots=True)
class Keep:
    """Write this contribution to the journal before anything that follows."""

    key: str
    element: SharedElement


@dataclass(frozen=True, slots=True)
class Found:
    """Answer to `Hub.pull_here`."""

    request: int
    key: str
    elements: tuple[SharedElement, ...]
    missing: tuple[int, ...]
    """Replicas that did not answer by the deadline: their elements may be old."""
    known: bool = True
    """Somebody has, or had, such an object, though perhaps nothing in it yet."""


Instruction = Tell | Keep | Found


@dataclass(slots=True)
class _Pull:
    asker: int
    request: int
    key: str
    waiting: set[int]
    deadline: float
    ask_again: float
    known: bool = False


class Hub:
    """The newest elements, and the pulls under way. ``deadline``: seconds that a pull from here waits for replicas.

    ``first``: larger than any number of an earlier process's collects, or a late answer to those would be one to ours.
    """

    def __init__(
        self, deadline: float = 2.0, kept: Iterable[tuple[str, Sequence[SharedElement]]] = (), first: int = 1
    ) -> None:
        self._deadline = deadline
        self._elements: dict[str, dict[str, SharedElement]] = {}
        self._unkept: dict[tuple[str, str], int] = {}
        """Elements, by key and origin, that are not journalled as they are, and their replicas."""
        self._pulls: dict[int, _Pull] = {}
        self._next_collect = first
        self.refused = 0
        for key, elements in kept:
            self._elements[key] = {element.origin: element for element in elements}

    @property
    def timer(self) -> float | None:
        """When to call `tick`."""
        return min((min(pull.deadline, pull.ask_again) for pull in self._pulls.values()), default=None)

    @property
    def kept(self) -> int:
        """Elements of all objects and origins, ended ones too. It never gets less."""
        return sum(map(len, self._elements.values()))

    @property
    def kept_bytes(self) -> int:
        """Bytes of their values."""
        return sum(len(each.value) for known in self._elements.values() for each in known.values())

    def keys(self) -> tuple[str, ...]:
        """Names of all objects known, sorted."""
        return tuple(sorted(self._elements))

    def elements(self, key: str) -> tuple[SharedElement, ...]:
        """Newest known element of every origin, by origin."""
        return tuple(element for _, element in sorted(self._elements.get(key, {}).items()))

    def handle(self, replica: int, message: Message, living: Iterable[int], now: float) -> list[Instruction]:
        """A replica's message; other kinds than the hub's are ignored.

        ``living``: replicas that have not ended, whether or not they can be reached now.
        """
        match message:
            case SharedPush():
                return self._push(replica, message)
            case SharedPull(request=request, key=key, deadline=deadline):
                return self._pull(replica, request, key, living, now, deadline)
            case SharedCollected(request=request, key=key, element=element, known=known):
                if (pull := self._pulls.get(request)) is not None:
                    pull.known |= known
                kept = self._collected(replica, key, element, living) if element is not None else []
                return kept + self._answered(request, replica)
            case _:
                return []

    def pull_here(self, request: int, key: str, living: Iterable[int], now: float) -> list[Instruction]:
        """The same for this process; ends in `Found`."""
        return self._pull(HERE, request, key, living, now, self._deadline)

    def gone(self, replica: int) -> list[Instruction]:
        """A replica has ended: nobody waits for it any more, and what is known of it must not be forgotten."""
        late = [place for place, owner in self._unkept.items() if owner == replica]
        told: list[Instruction] = []
        for key, origin in late:
            del self._unkept[key, origin]
            told.append(Keep(key, self._elements[key][origin]))
        for collect, pull in list(self._pulls.items()):
            if pull.asker == replica:
                del self._pulls[collect]
            else:
                told += self._answered(collect, replica)
        return told

    def tick(self, now: float) -> list[Instruction]:
        """Answer the pulls whose deadline has passed with what is known; ask again who has not answered others."""
        due = [collect for collect, pull in self._pulls.items() if now >= pull.deadline]
        out = [self._answer(self._pulls.pop(collect)) for collect in due]
        for collect, pull in self._pulls.items():
            if now >= pull.ask_again:
                pull.ask_again = now + REPEAT
                out += self._collect(collect, pull)
        return out

    def _push(self, replica: int, push: SharedPush) -> list[Instruction]:
        kept = self._keep(push.key, push.element)
        if push.key not in self._elements:
            return []
        return [*kept, Tell(replica, SharedPushed(request=push.request))]

    def _collected(self, replica: int, key: str, element: SharedElement, living: Iterable[int]) -> list[Instruction]:
        kept = self._keep(key, element)
        if kept and len(element.value) > COLLECTED_MOST and replica in living:
            self._unkept[key, element.origin] = replica
            return []
        return kept

    def _keep(self, key: str, element: SharedElement) -> list[Instruction]:
        if key not in self._elements and len(self._elements) >= KEYS_MOST:
            self.refused += 1
            return []
        known = self._elements.setdefault(key, {})
        held = known.get(element.origin)
        if held is not None and element.version <= held.version:
            return []
        known[element.origin] = element
        self._unkept.pop((key, element.origin), None)
        return [Keep(key, element)]

    def _pull(
        self, asker: int, request: int, key: str, living: Iterable[int], now: float, deadline: float
    ) -> list[Instruction]:
        if any(pull.asker == asker and pull.request == request for pull in self._pulls.values()):
            return []
        pull = _Pull(asker, request, key, {r for r in living if r != asker}, now + deadline, now + REPEAT)
        if not pull.waiting:
            return [self._answer(pull)]
        collect = self._next_collect
        self._next_collect += 1
        self._pulls[collect] = pull
        return self._collect(collect, pull)

    def _collect(self, collect: int, pull: _Pull) -> list[Instruction]:
        return [Tell(replica, SharedCollect(request=collect, key=pull.key)) for replica in sorted(pull.waiting)]

    def _answered(self, collect: int, replica: int) -> list[Instruction]:
        pull = self._pulls.get(collect)
        if pull is None:
            return []
        pull.waiting.discard(replica)
        return [] if pull.waiting else [self._answer(self._pulls.pop(collect))]

    def _answer(self, pull: _Pull) -> Instruction:
        found, missing = self.elements(pull.key), tuple(sorted(pull.waiting))
        if pull.asker == HERE:
            return Found(pull.request, pull.key, found, missing, pull.known or bool(found))
        return Tell(pull.asker, SharedPulled(request=pull.request, key=pull.key, elements=found, missing=missing))
