"""What may go wrong, once in a run: a process is killed, the control network is cut, somebody calls the move off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from model.orchestrator import OVER, Orchestrator
from model.replica import Replicas
from model.world import CPU, NOWHERE, World, bits, emptied

FAULTS = {
    "nothing": "nothing goes wrong",
    "cancel": "somebody calls the move off",
    "orchestrator": "the orchestrator is killed, with the controller in it, and started again",
    "switch": "the switch is killed, and comes back with empty tables",
    "source": "the source is killed, and stays dead",
    "target": "the target is killed, and stays dead",
    "cut": "the connections of the control network break, replicas' with each other too, with what is on them",
    "silence": "the target, which gives packets back, gets no answer for so long that it gives up",
    "cancel+source": "the move is called off, and the source is killed",
    "cancel+target": "the move is called off, and the target is killed",
    "cancel+silence": "the move is called off, and the target gives up",
    "cancel+switch": "the move is called off, and the switch is killed",
    "cancel+orchestrator": "the move is called off, and the orchestrator is killed and started again",
}
_ONE_BY_ONE = ("stage", "staged")
"""Messages of a replica to the other that are sent once, and again only when the orchestrator asks again."""
Action = Callable[[World], None]


class Faults:
    """The faults of one kind that a run may have: each part of ``name`` once."""

    def __init__(self, name: str, control: Orchestrator, replicas: Replicas, rules: frozenset[str]) -> None:
        self.parts = [] if name == "nothing" else name.split("+")
        self.control = control
        self.replicas = replicas
        self.rules = rules

    def actions(self, w: World) -> Iterator[tuple[str, Action]]:
        """What may go wrong now, and what then repairs it."""
        for number, part in enumerate(self.parts):
            if w.faults >> number & 1:
                yield from self._of(w, part, number)
        if not w.alive:
            yield "a new orchestrator starts", self.control.restart
        if w.entry[0] == NOWHERE:
            yield "the switch is back, its tables are filled", self._reconcile
        if w.alive and w.broken and w.entry[0] != NOWHERE:
            yield "what was lost is sent again", self._repeat
        if "no-expiry" not in self.rules:
            yield from self._expiry(w)
        if "empty-hold" not in self.rules:
            yield from self._empty(w)

    def _of(self, w: World, part: str, number: int) -> Iterator[tuple[str, Action]]:
        def once(action: Action) -> Action:
            def act(w: World) -> None:
                w.faults &= ~(1 << number)
                action(w)

            return act

        match part:
            case "cancel" if w.alive and w.step in self.control.cancellable and not w.noticed:
                if "write" not in w.waits:
                    yield "fault: the move is called off", once(self.control.cancel)
            case "orchestrator" if w.alive:
                yield "fault: the orchestrator is killed", once(lambda w: _kill_orchestrator(w, True))
                if w.requests != ((), ()):
                    yield (
                        "fault: the orchestrator is killed, what it sent is lost",
                        once(lambda w: _kill_orchestrator(w, False)),
                    )
            case "switch":
                for kept in _cuts(w):
                    yield (
                        f"fault: the switch is killed, {kept} frames had left it",
                        once(partial(_kill_switch, kept=kept)),
                    )
            case "source" if w.step not in OVER:
                yield "fault: the source is killed", once(lambda w: _kill_replica(w, 0))
            case "target" if w.step not in OVER:
                yield "fault: the target is killed", once(lambda w: _kill_replica(w, 1))
            case "silence" if w.step == "returning" and any(note[0] == "end" for note in w.peers[1]):
                yield "fault: the target gives up", once(lambda w: self.replicas.give_up(w, 1))
            case "cut" if w.alive:
                yield "fault: the control network is cut", once(_cut)

    @staticmethod
    def _reconcile(w: World) -> None:
        w.entry = w.rows

    def _repeat(self, w: World) -> None:
        if w.step not in OVER and w.step != "planned":
            if "write" in w.waits:
                pass
            elif "loop" in w.waits:
                w.enqueue(CPU, ("loop", w.epoch))
            elif "acks" in w.waits:
                self.control.relay_again(w)
            self.control.begin(w)
        w.broken = False

    def _expiry(self, w: World) -> Iterator[tuple[str, Action]]:
        for which, each in enumerate(w.replicas):
            if each.alive and each.held and not each.active and each.hold == 1:
                yield f"replica {which} waits no longer", partial(self.replicas.release, which=which)

    @staticmethod
    def _empty(w: World) -> Iterator[tuple[str, Action]]:
        for which, each in enumerate(w.replicas):
            if each.alive and each.hold and each.active and not each.held:
                yield f"replica {which} waits no longer", partial(_end_hold, which=which)


def _end_hold(w: World, which: int) -> None:
    w.replica(which, hold=0)


def _kill_orchestrator(w: World, sent: bool) -> None:
    """Its memory is gone. What it sent may still arrive, at any time."""
    w.alive = False
    w.excused |= bits(w.lane) | bits(w.orphans) | bits(w.queues[CPU])
    w.queues = (w.queues[0], w.queues[1], ())
    w.lane, w.orphans, w.open, w.relayed = (), (), False, 0
    w.late_requests = w.requests if sent else ((), ())
    w.requests = w.answers = ((), ())
    w.waits = frozenset()
    w.noticed = frozenset()
    w.broken = False


def _cuts(w: World) -> list[tuple[int, int, int]]:
    """How many frames of each queue had left the switch: they are in the socket of whoever reads them."""
    first, second, cpu = (len(queue) for queue in w.queues)
    return [(i, j, k) for i in {0, first} for j in {0, second} for k in {0, cpu}]


def _kill_switch(w: World, kept: tuple[int, int, int]) -> None:
    for queue, left in zip(w.queues, kept, strict=True):
        w.excused |= bits(queue[left:])
    w.queues = (w.queues[0][: kept[0]], w.queues[1][: kept[1]], w.queues[2][: kept[2]])
    w.entry = (NOWHERE, False)
    w.broken = True


def _kill_replica(w: World, which: int) -> None:
    """What it held, what it was sent, and what it has on its connections goes with it, but for packets that it gave
    back: those may have left it already."""
    me = w.replicas[which]
    held = (*me.held, *me.late, *w.queues[which], *w.peers[0], *w.peers[1])
    w.excused |= bits(held)
    if (w.step == "resuming") == (which == w.target):
        w.excused |= bits(w.lane[: w.relayed])  # sent to it, and not acknowledged
    w.replica(which, alive=False, active=False, hold=0, held=(), late=(), staged=False, pending=0)
    w.queues = ((), w.queues[1], w.queues[2]) if which == 0 else (w.queues[0], (), w.queues[2])
    w.requests = emptied(w.requests, which)
    w.late_requests = emptied(w.late_requests, which)
    w.answers = emptied(w.answers, which)
    w.peers = ((), tuple(note for note in w.peers[1] if note[0] == "back") if which == 1 else ())


def _cut(w: World) -> None:
    """What is on the connections is lost. Packets that one replica gives the other are kept until they are there, and
    sent again (`guestlib.moves.carriers`), so that they are late and no more."""
    w.requests = w.answers = ((), ())
    first, second = (tuple(note for note in notes if note[0] not in _ONE_BY_ONE) for notes in w.peers)
    w.peers = (first, second)
    w.broken = True
