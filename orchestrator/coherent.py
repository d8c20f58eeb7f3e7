"""The hub of coherent state: newest contribution of every origin to every object (§3.1).

Each replica writes only its own element, under its incarnation, with growing versions. A pull asks the others for
theirs, waits until all have answered or ended or the deadline has passed, and gets one element per origin; the
combiner runs in the replica that pulled. An ended replica's last known element stays: what it counted is neither lost
nor, as nobody else writes under its origin, counted twice.

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
KEYS_MOST = 10_000
"""Coherent objects that the hub keeps; pushes of further ones are not answered, and counted in `Hub.refused`."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this message to this replica."""

    replica: int
    message: Message


@dataclass(frozen=True, slots=True)
class Keep:
    """Write this last contribution to the journal before anything that follows."""

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


Instruction = Tell | Keep | Found


@dataclass(slots=True)
class _Pull:
    asker: int
    request: int
    key: str
    waiting: set[int]
    deadline: float


class Hub:
    """The newest elements, and the pulls under way. ``deadline``: seconds that a pull waits for the others."""

    def __init__(self, deadline: float = 2.0, kept: Iterable[tuple[str, Sequence[SharedElement]]] = ()) -> None:
        self._deadline = deadline
        self._elements: dict[str, dict[str, SharedElement]] = {}
        self._pulls: dict[int, _Pull] = {}
        self._next_collect = 1
        self.refused = 0
        for key, elements in kept:
            for element in elements:
                self._keep(key, element)

    @property
    def timer(self) -> float | None:
        """When to call `tick`."""
        return min((pull.deadline for pull in self._pulls.values()), default=None)

    def keys(self) -> tuple[str, ...]:
        """Names of all objects known, sorted."""
        return tuple(sorted(self._elements))

    def elements(self, key: str) -> tuple[SharedElement, ...]:
        """Newest known element of every origin, by origin."""
        return tuple(element for _, element in sorted(self._elements.get(key, {}).items()))

    def handle(self, replica: int, message: Message, living: Iterable[int], now: float) -> list[Instruction]:
        """A replica's message; other kinds than the hub's are ignored. ``living``: connected replicas."""
        match message:
            case SharedPush():
                return self._push(replica, message)
            case SharedPull(request=request, key=key):
                return self._pull(replica, request, key, living, now)
            case SharedCollected(request=request, key=key, element=element):
                if element is not None:
                    self._keep(key, element)
                return self._answered(request, replica)
            case _:
                return []

    def pull_here(self, request: int, key: str, living: Iterable[int], now: float) -> list[Instruction]:
        """The same for this process; ends in `Found`."""
        return self._pull(HERE, request, key, living, now)

    def gone(self, replica: int) -> list[Instruction]:
        """A replica has ended: nobody waits for it any more."""
        told: list[Instruction] = []
        for collect, pull in list(self._pulls.items()):
            if pull.asker == replica:
                del self._pulls[collect]
            else:
                told += self._answered(collect, replica)
        return told

    def tick(self, now: float) -> list[Instruction]:
        """Answer the pulls whose deadline has passed with what is known."""
        due = [collect for collect, pull in self._pulls.items() if now >= pull.deadline]
        return [self._answer(self._pulls.pop(collect)) for collect in due]

    def _push(self, replica: int, push: SharedPush) -> list[Instruction]:
        if not self._keep(push.key, push.element):
            return []
        told: list[Instruction] = [Tell(replica, SharedPushed(request=push.request))]
        return [Keep(push.key, self._elements[push.key][push.element.origin]), *told] if push.final else told

    def _keep(self, key: str, element: SharedElement) -> bool:
        if key not in self._elements and len(self._elements) >= KEYS_MOST:
            self.refused += 1
            return False
        known = self._elements.setdefault(key, {})
        held = known.get(element.origin)
        if held is None or element.version > held.version:
            known[element.origin] = element
        return True

    def _pull(self, asker: int, request: int, key: str, living: Iterable[int], now: float) -> list[Instruction]:
        if any(pull.asker == asker and pull.request == request for pull in self._pulls.values()):
            return []
        pull = _Pull(asker, request, key, {r for r in living if r != asker}, now + self._deadline)
        if not pull.waiting:
            return [self._answer(pull)]
        collect = self._next_collect
        self._next_collect += 1
        self._pulls[collect] = pull
        return [Tell(replica, SharedCollect(request=collect, key=key)) for replica in sorted(pull.waiting)]

    def _answered(self, collect: int, replica: int) -> list[Instruction]:
        pull = self._pulls.get(collect)
        if pull is None:
            return []
        pull.waiting.discard(replica)
        return [] if pull.waiting else [self._answer(self._pulls.pop(collect))]

    def _answer(self, pull: _Pull) -> Instruction:
        found = self.elements(pull.key)
        if pull.asker == HERE:
            return Found(pull.request, pull.key, found, tuple(sorted(pull.waiting)))
        return Tell(pull.asker, SharedPulled(request=pull.request, key=pull.key, elements=found))
