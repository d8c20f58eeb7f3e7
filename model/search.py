"""Every state that any interleaving reaches, breadth first, so that a counterexample is a shortest one.

result = search(CONFIGURATIONS["cpu/order-preserving"], packets=3, faults=("orchestrator",))
assert result.violation is None
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from model.faults import Faults
from model.orchestrator import OVER, Orchestrator
from model.replica import Replicas
from model.rules import RULES, Configuration
from model.world import CPU, NOWHERE, Replica, Snapshot, Violation, World, rest, snapshot

Action = Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What a search found. ``violation`` is None if every state is as it should be."""

    configuration: str
    packets: int
    fault: str
    without: tuple[str, ...]
    states: int
    transitions: int
    ends: int
    """States in which nothing happens any more; each was checked."""
    seconds: float
    violation: str | None
    trace: tuple[str, ...]
    """Actions that lead to the violation, a shortest sequence."""


class Unfinished(Exception):
    """The search was given up: more states than allowed."""


class Model:
    """The actions of one configuration."""

    def __init__(self, kind: Configuration, packets: int, fault: str, without: frozenset[str] = frozenset()) -> None:
        self.kind = kind
        self.packets = packets
        rules = frozenset(RULES) - without
        self.replicas = Replicas(kind, rules)
        self.orchestrator = Orchestrator(kind, rules, self.replicas)
        self.faults = Faults(fault, self.orchestrator, self.replicas, rules)

    def initial(self) -> Snapshot:
        """Replica 0 has the flow."""
        return snapshot(World(replicas=(Replica(active=True), Replica()), faults=(1 << len(self.faults.parts)) - 1))

    def actions(self, w: World) -> Iterator[tuple[str, Action]]:
        """What can happen next."""
        if w.sent < self.packets:
            yield f"packet {w.sent + 1} reaches the switch", self._inject
        for which in (0, 1):
            yield from self._of_replica(w, which)
        if w.alive:
            yield from self._of_orchestrator(w)
        yield from self.faults.actions(w)

    def _of_replica(self, w: World, which: int) -> Iterator[tuple[str, Action]]:
        if not w.replicas[which].alive:
            return
        name = "source" if which == 0 else "target"
        if w.queues[which]:
            yield f"the {name} reads {_show(w.queues[which][0])}", lambda w: self.replicas.frame(w, which)
        if w.requests[which]:
            yield f"{w.requests[which][0][0]} reaches the {name}", lambda w: self._request(w, which)
        if w.late_requests[which]:
            yield f"a late {w.late_requests[which][0][0]} reaches the {name}", lambda w: self._late_request(w, which)
        if w.peers[1 - which]:
            yield f"{_show(w.peers[1 - which][0])} reaches the {name} from its peer", lambda w: self._peer(w, which)

    def _of_orchestrator(self, w: World) -> Iterator[tuple[str, Action]]:
        control = self.orchestrator
        if w.queues[CPU]:
            yield f"the controller reads {_show(w.queues[CPU][0])}", control.packet_in
        for which in (0, 1):
            if w.answers[which]:
                yield (
                    f"{w.answers[which][0][0]} reaches the orchestrator",
                    partial(self._answer, which=which),
                )
            if not w.replicas[which].alive and which not in w.noticed and "write" not in w.waits:
                yield f"the end of replica {which} is noticed", partial(control.notice, which=which)
        if w.step == "planned" and not w.noticed and w.journal == "planned" and w.epoch == 1:
            yield "the move begins", control.start
        elif "write" in w.waits:
            yield f"the switch is written: {w.step}", control.write
        elif w.step in OVER | {"planned"} and w.owner in w.noticed and len(w.noticed) == 1:
            yield "what the dead replica owned is moved", control.heir

    def _inject(self, w: World) -> None:
        w.sent += 1
        replica, suspended = w.entry
        if replica == NOWHERE:
            w.excused |= 1 << w.sent  # the dead switch's
        elif suspended and not w.alive:
            w.excused |= 1 << w.sent  # the dead controller's
        elif suspended:
            w.enqueue(CPU, w.sent)
        else:
            w.toward(replica, w.sent)

    def _request(self, w: World, which: int) -> None:
        note = w.requests[which][0]
        w.requests = rest(w.requests, which)
        self.replicas.request(w, which, note)

    def _late_request(self, w: World, which: int) -> None:
        note = w.late_requests[which][0]
        w.late_requests = rest(w.late_requests, which)
        answers = w.answers
        self.replicas.request(w, which, note)
        w.answers = answers  # on a connection that nobody reads any more

    def _peer(self, w: World, which: int) -> None:
        note = w.peers[1 - which][0]
        w.peers = rest(w.peers, 1 - which)
        self.replicas.peer(w, 1 - which, note)

    def _answer(self, w: World, which: int) -> None:
        kind = w.answers[which][0][0]
        w.answers = rest(w.answers, which)
        self.orchestrator.answer(w, which, kind)

    # -- invariants ------------------------------------------------------------------------------------------

    def check(self, w: World) -> None:
        """Of every state. :raises Violation: if the flow is in use at two replicas."""
        if all(each.alive and each.active for each in w.replicas):
            raise Violation("the flow is in use at both replicas")

    def check_end(self, w: World) -> None:
        """Of a state in which nothing happens any more. :raises Violation: saying what is not as it should be."""
        if w.step not in OVER | {"planned"}:
            raise Violation(f"the move is stuck in {w.step}, waiting for {', '.join(sorted(w.waits))}")
        missing = [packet for packet in range(1, w.sent + 1) if not (w.done | w.excused | w.dropped) >> packet & 1]
        if missing and len(w.noticed) < 2:
            raise Violation(f"packet {missing[0]} is lost, and nobody who died held it")
        for which, each in enumerate(w.replicas):
            if each.alive and (each.hold or each.held):
                raise Violation(f"replica {which} holds packets for ever")
        if len(w.noticed) == 2:
            return
        owner = w.replicas[w.owner]
        if not (owner.alive and owner.active):
            raise Violation(f"the owner, replica {w.owner}, does not have the flow")
        if w.entry != (w.owner, False):
            raise Violation(f"the switch says {w.entry}, the owner is replica {w.owner}")


def _show(frame: object) -> str:
    if isinstance(frame, int):
        return f"packet {frame}"
    assert isinstance(frame, tuple)
    return " ".join(str(part) for part in frame)


def search(
    kind: Configuration,
    packets: int = 3,
    fault: str = "nothing",
    without: frozenset[str] = frozenset(),
    *,
    limit: int = 5_000_000,
    watch: Callable[[World, World], None] | None = None,
) -> Result:
    """Visit every state. ``watch`` sees every transition. :raises Unfinished: if there are more than ``limit``."""
    model = Model(kind, packets, fault, without)
    started = time.perf_counter()
    first = model.initial()
    parents: dict[Snapshot, tuple[Snapshot | None, str]] = {first: (None, "")}
    left = deque([first])
    transitions = ends = 0
    violation: str | None = None
    trace: tuple[str, ...] = ()
    try:
        while left:
            state = left.popleft()
            model.check(World(*state))
            moved = False
            for label, action in model.actions(World(*state)):
                transitions += 1
                w = World(*state)
                moved = moved or not label.startswith("fault:")
                try:
                    action(w)
                except Violation as error:
                    raise _Found(str(error), state, label) from None
                following = snapshot(w)
                if watch is not None:
                    watch(World(*state), w)
                if following not in parents:
                    parents[following] = (state, label)
                    left.append(following)
            if not moved:
                ends += 1
                _at(model.check_end, state)
            if len(parents) > limit:
                raise Unfinished(f"{kind.name}, {packets} packets, fault {fault}: more than {limit} states")
    except _Found as found:
        violation, trace = found.text, _trace(parents, found.state, found.label)
    except Violation as error:
        violation, trace = str(error), _trace(parents, state, "")
    return Result(
        configuration=kind.name,
        packets=packets,
        fault=fault,
        without=tuple(sorted(without)),
        states=len(parents),
        transitions=transitions,
        ends=ends,
        seconds=time.perf_counter() - started,
        violation=violation,
        trace=trace,
    )


class _Found(Exception):
    def __init__(self, text: str, state: Snapshot, label: str) -> None:
        super().__init__(text)
        self.text = text
        self.state = state
        self.label = label


def _at(check: Callable[[World], None], state: Snapshot) -> None:
    check(World(*state))


def _trace(parents: dict[Snapshot, tuple[Snapshot | None, str]], state: Snapshot, last: str) -> tuple[str, ...]:
    labels = [last] if last else []
    at: Snapshot | None = state
    while at is not None:
        at, label = parents[at]
        if label:
            labels.append(label)
    return tuple(reversed(labels))
