"""What belongs to flows that are to move, and which of them are in use: the answers to `Relate`.

A question with ``patience`` waits until each flow that was in use when it came has been given back once, and at most
for so long. Nothing is frozen for that and no packet waits: it is asked before a move begins, so that flows in use can
be left to a move of their own, and those that move do not wait for them.

A flow that is expected, and goes along with its group, is in use until the orchestrator has answered for its own key:
before that another replica may have a flow of the same key, and the move would take the entry away from that one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from guestlib.instructions import Instruction, ToOrchestrator
from guestlib.partitioned.flows import Flow, FlowTable
from splitmerge.messages import Relate, Related

OPEN = 256
"""Questions that may wait at once. One more, and the oldest is answered: who asked it has given it up, mostly."""
NAMED = 65536
"""Most flows in use that one answer names. Others are found when their move exports."""
LONGEST = 3600.0
"""Seconds that one waits at most, whatever is asked for."""
LOOK = 0.01
"""Seconds between two looks whether flows have been given back, where nothing else wakes the shell."""


class _Question:
    """One that waits. ``used``: flows in use ever since, by own key; ``expected``: whose own keys are not answered."""

    def __init__(self, asked: Relate, used: dict[bytes, Flow], expected: Iterable[Flow], due: float) -> None:
        self.asked = asked
        self.used = used
        self.expected = deque(expected)
        self.due = due
        for flow in used.values():
            flow.await_unpinned(self._given_back)

    def _given_back(self, flow: Flow) -> None:
        del self.used[flow.key]

    def waits(self, active: Mapping[bytes, Flow]) -> bool:
        """Whether it does, still. ``active``: the flow table's."""
        while self.expected and not _is_open(self.expected[0], active):
            self.expected.popleft()
        return bool(self.used or self.expected)

    def in_use(self, active: Mapping[bytes, Flow]) -> list[Flow]:
        """The flows that it waits for."""
        waiting = dict(self.used)
        waiting.update((flow.key, flow) for flow in self.expected if _is_open(flow, active))
        return list(waiting.values())

    def end(self) -> None:
        """Wait for nothing any more."""
        for flow in self.used.values():
            flow.await_no_more(self._given_back)


def _is_open(flow: Flow, active: Mapping[bytes, Flow]) -> bool:
    """Whether the flow is here, and its own key not answered."""
    return flow.is_unanswered and active.get(flow.key) is flow


class Relations:
    """Answers of one replica. Times in seconds."""

    def __init__(self, table: FlowTable) -> None:
        self._table = table
        self._open: dict[int, _Question] = {}
        self._looked = 0.0

    def handle(self, asked: Relate, now: float) -> list[Instruction]:
        """Answer, at once or by `poll`. A question that came already goes on; another orchestrator's ends it."""
        earlier = self._open.get(asked.request)
        if earlier is not None:
            if earlier.asked == asked:
                return []
            self._open.pop(asked.request).end()
        along = self._along(asked)
        if asked.patience is None:
            return [self._answer(asked, along, ())]
        used = self._in_use(asked, along)
        expected = islice(self._expected(asked, along), max(0, NAMED - len(used)))
        question = _Question(asked, used, expected, now + min(LONGEST, asked.patience))
        if asked.patience <= 0 or not question.waits(self._table.active):
            question.end()
            return [self._answer(asked, along, question.in_use(self._table.active))]
        out = [self._end(next(iter(self._open)))] if len(self._open) >= OPEN else []
        self._open[asked.request] = question
        self._looked = now
        return out

    def poll(self, now: float) -> list[Instruction]:
        """Answer what need not wait any more."""
        self._looked = now
        over = [number for number, each in self._open.items() if now >= each.due or not self._waits(each)]
        return [self._end(number) for number in over]

    def next_due(self) -> float | None:
        """When to call `poll`; None if nothing waits."""
        if not self._open:
            return None
        dues = [each.due if self._waits(each) else 0.0 for each in self._open.values()]
        return min(self._looked + LOOK, *dues)

    def _waits(self, question: _Question) -> bool:
        return question.waits(self._table.active)

    def _end(self, number: int) -> Instruction:
        question = self._open.pop(number)
        question.end()
        return self._answer(question.asked, self._along(question.asked), question.in_use(self._table.active))

    def _along(self, asked: Relate) -> Mapping[bytes, Flow]:
        return self._table.related(asked.scope.keys, asked.scope.buckets, asked.groups)

    def _in_use(self, asked: Relate, along: Mapping[bytes, Flow]) -> dict[bytes, Flow]:
        """Flows of the scope, and those that go along, by own key; not more than are named."""
        used = self._table.in_use(asked.scope.keys, asked.scope.buckets)
        used.update((key, flow) for key, flow in along.items() if flow.refs)
        return used if len(used) <= NAMED else dict(list(used.items())[:NAMED])

    def _expected(self, asked: Relate, along: Mapping[bytes, Flow]) -> Iterator[Flow]:
        """Flows that go along, and that the scope itself neither names nor has the buckets of, unless answered."""
        keys, buckets = frozenset(asked.scope.keys), frozenset(asked.scope.buckets)
        unanswered = (flow for flow in along.values() if flow.is_unanswered)
        return (flow for flow in unanswered if not flow.goes_with(flow.key, keys, buckets))

    def _answer(self, asked: Relate, along: Mapping[bytes, Flow], used: Iterable[Flow]) -> Instruction:
        scope = asked.scope
        covered, buckets = set(scope.keys), frozenset(scope.buckets)
        keys = (bytes(key) for flow in along.values() for key in flow.keys if not flow.goes_with(key, covered, buckets))
        flows = list(used)
        answer = Related(
            request=asked.request,
            keys=tuple(sorted(keys)),
            groups=tuple(sorted({flow.group for flow in along.values() if flow.group})),
            unknown=tuple(key for key in scope.keys if key not in self._table.active),
            used=tuple(bytes(key) for flow in flows for key in flow.keys),
            aliases=tuple(bytes(alias) for flow in flows for alias in flow.aliases),
        )
        return ToOrchestrator(answer)
