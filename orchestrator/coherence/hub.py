"""The hub of coherent state: newest contribution of every origin to every object (§3.1).

Each replica writes only its own element, under its incarnation, with growing versions. A pull asks the others for
theirs, waits until all have answered or ended or the deadline has passed, and gets one element per origin; the
combiner runs in the replica that pulled. An ended replica's last known element stays: what it counted is neither lost
nor, as nobody else writes under its origin, counted twice.

Elements of ended replicas do not pile up: when there are several, a replica that has the object combines them into one
(`SharedFold`), whose origin is `ENDED`. The one replaces the others in one step, here and in the journal. What comes of
them afterwards, repeated or late, is of a replica that has ended and whose time for last words (`LAST_WORDS`) is over:
it is not taken, so nothing is counted twice.

What this process has confirmed or shown to anybody is journalled first, so that a new process knows it too: what a
replica pushed is not forgotten with the replica, and no value that was pulled goes back, whoever of those that have a
part in it is killed; the asker, whose own part comes with its question, among them. Only large elements that a pull
collects (tables, not counters) are journalled no sooner than their replica ends.

Sans-IO: `Hub.handle` and `Hub.tick` return instructions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from splitmerge.messages import (
    ENDED,
    Message,
    SharedCollect,
    SharedCollected,
    SharedElement,
    SharedFold,
    SharedFolded,
    SharedPull,
    SharedPulled,
    SharedPush,
    SharedPushed,
)

logger = logging.getLogger("orchestrator")

HERE = 0
"""Asker that stands for this process (the REST API)."""
REPEAT = 0.5
"""Seconds after which a replica that has not answered is asked again."""
COLLECTED_MOST = 64 * 1024
"""Bytes of an element that is journalled whenever a pull has collected it; a larger one when its replica ends."""
KEYS_MOST = 10_000
"""Coherent objects that the hub keeps; parts of further ones are not taken, which `Hub.refused` counts."""
ANSWER_MOST = 15 * 1024 * 1024
"""Bytes of the elements in one answer to a pull: it must fit a frame of the control network."""
FOLD_FROM = 4
"""Elements of one object and of ended replicas, what was folded before among them, at which they become one."""
FOLD_MOST = 4 * 1024 * 1024
"""Bytes of elements that are folded at a time."""
FOLD_DEADLINE = 2.0
"""Seconds until another replica is asked to."""
FOLD_PAUSE = 60.0
"""Seconds until that is tried again of an object whose parts nobody could combine."""
LAST_WORDS = 10.0
"""Seconds for which what an ended replica had sent still counts: its end is told over another connection."""


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


@dataclass(frozen=True, slots=True)
class KeepFolded:
    """Write this element to the journal, and remove those of the origins that are in it, in one transaction."""

    key: str
    element: SharedElement
    origins: tuple[str, ...]


Instruction = Tell | Keep | KeepFolded | Found


@dataclass(slots=True)
class _Fold:
    request: int
    replica: int
    elements: tuple[SharedElement, ...]
    ask_again: float
    deadline: float


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
    ``owners``: of the origins of replicas that have not ended, as far as an earlier process knew them.
    """

    def __init__(
        self, deadline: float = 2.0, kept: Iterable[tuple[str, Sequence[SharedElement]]] = (), first: int = 1,
        owners: Mapping[str, int] | None = None, *, fold_from: int = FOLD_FROM, last_words: float = LAST_WORDS,
    ) -> None:  # fmt: skip
        self._deadline = deadline
        self._elements: dict[str, dict[str, SharedElement]] = {}
        self._unkept: dict[tuple[str, str], int] = {}
        """Elements, by key and origin, that are not journalled as they are, and their replicas."""
        self._pulls: dict[int, _Pull] = {}
        self._fold_from, self._last_words = fold_from, last_words
        self._next_collect = first
        self.refused = 0
        """Elements of more objects than `KEYS_MOST`: not taken; pushes, and pulls that come with one, not answered."""
        self.folded = 0
        """Elements of ended replicas that have gone into another one."""
        self.late = 0
        """Elements that came too long after their replica's end, and were not taken."""
        self._owners = dict(owners or {})
        """By origin: replicas that may still write under it."""
        self._ended: dict[int, float] = {}
        """Until when what an ended replica had sent counts."""
        self._folds: dict[str, _Fold] = {}
        self._not_before: dict[str, float] = {}
        self._asked: dict[str, int] = {}
        """By object: the replica that was asked to fold last."""
        for key, elements in kept:
            self._elements[key] = {element.origin: element for element in elements}

    @property
    def timer(self) -> float | None:
        """When to call `tick`."""
        waiting: tuple[_Pull | _Fold, ...] = (*self._pulls.values(), *self._folds.values())
        return min((min(each.deadline, each.ask_again) for each in waiting), default=None)

    @property
    def kept(self) -> int:
        """Elements of all objects and origins."""
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
        self._close(now)
        living = frozenset(living)
        match message:
            case SharedPush(key=key, element=element, final=final) if self._may_write(replica, element, living):
                ends = {replica} if final else set()
                return self._push(replica, message) + self._fold(key, living - ends or living, now)
            case SharedPull(key=key) if (given := self._given(replica, message, living)) is not None:
                pulled = self._pull(replica, message.request, key, living, now, message.deadline)
                return given + pulled + self._fold(key, living, now)
            case SharedCollected(request=request, key=key, element=element, known=known):
                if (pull := self._pulls.get(request)) is not None:
                    pull.known |= known
                kept: list[Instruction] = []
                if element is not None and self._may_write(replica, element, living):
                    kept = self._collected(replica, key, element, living)
                return kept + self._answered(request, replica)
            case SharedFolded():
                return self._folded(replica, message, now)
            case _:
                return []

    def _close(self, now: float) -> None:
        """Replicas that ended long ago write no more."""
        over = {replica for replica, until in self._ended.items() if now >= until}
        if over:
            self._ended = {replica: until for replica, until in self._ended.items() if replica not in over}
            self._owners = {origin: owner for origin, owner in self._owners.items() if owner not in over}

    def _may_write(self, replica: int, element: SharedElement, living: frozenset[int]) -> bool:
        if replica in living or replica in self._ended:
            self._owners[element.origin] = replica
            return True
        self.late += 1
        return False

    def pull_here(self, request: int, key: str, living: Iterable[int], now: float) -> list[Instruction]:
        """The same for this process; ends in `Found`."""
        return self._pull(HERE, request, key, living, now, self._deadline)

    def gone(self, replica: int, now: float) -> list[Instruction]:
        """A replica has ended: nobody waits for it any more, and what is known of it must not be forgotten."""
        self._close(now)
        self._ended[replica] = now + self._last_words
        self._folds = {key: fold for key, fold in self._folds.items() if fold.replica != replica}
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
        for key, fold in list(self._folds.items()):
            if now >= fold.deadline:
                del self._folds[key]
            elif now >= fold.ask_again:
                fold.ask_again = now + REPEAT
                out.append(self._ask_to_fold(key, fold))
        return out

    # -- parts of ended replicas -------------------------------------------------------------------------------

    def _fold(self, key: str, living: frozenset[int], now: float) -> list[Instruction]:
        """Have one of these replicas combine what ended ones have left of an object, if that has become much."""
        if key in self._folds or not living or now < self._not_before.get(key, now):
            return []
        left = [each for each in self.elements(key) if each.origin not in self._owners]
        if len(left) < self._fold_from:
            return []
        chosen: list[SharedElement] = []
        size = 0
        for each in sorted(left, key=lambda each: len(each.value)):
            size += len(each.value)
            if size <= FOLD_MOST:
                chosen.append(each)
        if len(chosen) < 2:
            return []
        request = self._next_collect
        self._next_collect += 1
        # In turn: one that does not answer, or has no such object, must not be asked for ever.
        last = self._asked.get(key, HERE)
        replica = self._asked[key] = min((each for each in living if each > last), default=min(living))
        fold = self._folds[key] = _Fold(request, replica, tuple(chosen), now + REPEAT, now + FOLD_DEADLINE)
        return [self._ask_to_fold(key, fold)]

    def _ask_to_fold(self, key: str, fold: _Fold) -> Instruction:
        return Tell(fold.replica, SharedFold(request=fold.request, key=key, elements=fold.elements))

    def _folded(self, replica: int, message: SharedFolded, now: float) -> list[Instruction]:
        key, fold = message.key, self._folds.get(message.key)
        if fold is None or (fold.request, fold.replica) != (message.request, replica):
            return []
        del self._folds[key]
        known = self._elements[key]
        if not message.kind:
            logger.warning("shared object %r: replica %d cannot combine what ended replicas have left", key, replica)
            self._not_before[key] = now + FOLD_PAUSE
            return []
        if any(known.get(each.origin) != each for each in fold.elements):
            return []
        for each in fold.elements:
            del known[each.origin]
        earlier = known.get(ENDED)
        version = 1 + max((each.version for each in (*fold.elements, *([earlier] if earlier else []))), default=0)
        self.folded += len(fold.elements)
        origins = tuple(each.origin for each in fold.elements)
        origin = ENDED if earlier is None else f"{ENDED} {message.request}"  # one that was too large to be in it
        element = SharedElement(origin=origin, version=version, kind=message.kind, value=message.value)
        known[origin] = element
        return [KeepFolded(key, element, tuple(each for each in origins if each != origin))]

    def _push(self, replica: int, push: SharedPush) -> list[Instruction]:
        key, origin = push.key, push.element.origin
        kept = self._keep(key, push.element)
        if key not in self._elements:
            return []
        if self._unkept.pop((key, origin), None) is not None:  # a pull had collected this version, or a newer one
            kept = [Keep(key, self._elements[key][origin])]
        return [*kept, Tell(replica, SharedPushed(request=push.request))]

    def _collected(self, replica: int, key: str, element: SharedElement, living: Iterable[int]) -> list[Instruction]:
        kept = self._keep(key, element)
        if kept and len(element.value) > COLLECTED_MOST and replica in living:
            self._unkept[key, element.origin] = replica
            return []
        return kept

    def _given(self, asker: int, pull: SharedPull, living: frozenset[int]) -> list[Instruction] | None:
        """Take the asker's own part. None if it cannot be kept: then nobody may be shown it, so there is no answer."""
        if pull.element is None:
            return []
        if not self._may_write(asker, pull.element, living):
            return None
        kept = self._collected(asker, pull.key, pull.element, living)
        return kept if pull.key in self._elements else None

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
        size = sum(len(each.value) for each in found)
        if size > ANSWER_MOST:
            logger.error("shared object %r: its parts have %d bytes: too many for an answer to PULL", pull.key, size)
            answer = SharedPulled(request=pull.request, key=pull.key, elements=(), missing=missing, too_large=size)
            return Tell(pull.asker, answer)
        return Tell(pull.asker, SharedPulled(request=pull.request, key=pull.key, elements=found, missing=missing))
