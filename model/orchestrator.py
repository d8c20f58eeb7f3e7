"""What the orchestrator and the controller in it do: one move after the other, step by step.

A step is entered (journalled, its request sent), waits for what `World.waits` names, and is left when nothing is left
to wait for. Writes to the switch are actions of their own, so that anything may happen between the journal and them.
"""

from __future__ import annotations

from model.replica import Replicas
from model.rules import Configuration
from model.world import CPU, NOWHERE, Violation, World, put

DECIDED = frozenset({"committing", "forwarding", "switching", "resuming", "draining-late", "releasing", "done"})
OVER = frozenset({"done", "undone"})
_FORWARD = {
    "cpu": "planned suspending draining exporting committing resuming releasing done",
    "replica": "planned preparing redirecting exporting committing releasing done",
    "no-buffer": "planned exporting committing forwarding switching draining-late releasing done",
    "none": "planned exporting committing switching draining-late releasing done",
}
_BACK = {
    "cpu": "clearing thawing restoring discarding undone",
    "replica": "clearing thawing restoring returning discarding undone",
    "no-buffer": "thawing discarding undone",
    "none": "thawing discarding undone",
}
_WAITS = {
    "suspending": "write", "draining": "echo", "exporting": "exported", "committing": "committed", "preparing": "held",
    "redirecting": "write", "switching": "write", "resuming": "write loop acks", "releasing": "released",
    "draining-late": "echo", "forwarding": "forwarding", "clearing": "echo", "thawing": "thawed",
    "restoring": "write loop acks", "returning": "echo returned", "discarding": "discarded", "flushing": "echo",
}  # fmt: skip
_REQUESTS = {
    "exporting": "export", "committing": "commit", "preparing": "hold", "releasing": "release", "thawing": "thaw",
    "discarding": "discard", "forwarding": "forward",
}  # fmt: skip
_TO_TARGET = frozenset({"committing", "preparing", "discarding", "returning"})


class Orchestrator:
    """One configuration's steps under the rules in force."""

    def __init__(self, configuration: Configuration, rules: frozenset[str], replicas: Replicas) -> None:
        self.kind = configuration
        self.rules = rules
        self.replicas = replicas
        path = configuration.buffer if configuration.buffer != "none" else configuration.guarantee
        self._forward = _FORWARD[path].split()
        self._back = _BACK[path].split()
        if path == "replica" and "thaw-first" not in rules:
            self._back = ["clearing", "restoring", "thawing", "returning", "discarding", "undone"]
        self.path = path
        self.cancellable = frozenset(self._forward) - DECIDED - {"planned"}
        """Steps in which the move can be called off."""

    # -- steps -------------------------------------------------------------------------------------------------

    def enter(self, w: World, step: str) -> None:
        """Journal a step and begin it."""
        w.step = step
        if "journal" in self.rules or step in OVER or step == "exporting":
            w.journal = step
        w.waits = frozenset(_WAITS.get(step, "").split())
        if step in ("restoring",) and self.path == "replica":
            w.waits = frozenset({"write"})
        if step == "exporting" and self.path == "replica" and "drain" in self.rules:
            w.waits |= {"echo"}
        if step == "returning" and "return" not in self.rules:
            w.waits = frozenset({"unheld"})
        elif step == "returning" and "return-drain" not in self.rules:
            w.waits = frozenset({"returned"})
        if step in OVER:
            self._over(w)
            return
        self.begin(w)
        if not w.waits:
            self.leave(w)

    def start(self, w: World) -> None:
        """The move's first step."""
        self.enter(w, self._next(w, "planned"))

    def begin(self, w: World) -> None:
        """What is done at the beginning of a step, and again when it may have been lost."""
        if "echo" in w.waits:
            # A marker goes out through the port of whoever is to be drained.
            w.toward(self.to_drain(w), ("marker", w.epoch))
        self.ask(w)

    @staticmethod
    def to_drain(w: World) -> int:
        """The replica whose echo the step waits for."""
        owner_to_be = w.step == "flushing" and (w.journal in DECIDED or w.orphan)
        return w.target if w.step == "returning" or owner_to_be else w.source

    def ask(self, w: World) -> None:
        """Send the step's request."""
        if not w.waits - {"write", "loop", "acks", "echo"}:
            return
        if w.step == "returning":
            self._ask_returning(w)
            return
        epochs = {w.epoch} if self.path == "cpu" and w.step in ("committing", "thawing") else set()
        which = w.target if w.step in _TO_TARGET else w.source
        base = 1 if not w.orphan else w.epoch
        for epoch in sorted({base} | epochs):
            w.requests = put(w.requests, which, (_REQUESTS[w.step], epoch))

    def _ask_returning(self, w: World) -> None:
        if "unheld" in w.waits:
            w.requests = put(w.requests, w.source, ("unhold", w.epoch))
        elif "echo" not in w.waits:
            w.requests = put(w.requests, w.target, ("return", w.epoch))

    def leave(self, w: World) -> None:
        """Everything that the step waited for is there."""
        step = w.step
        if step in ("draining", "clearing") or (step == "exporting" and self.path in ("cpu", "replica")):
            w.drained = True
        if step == "flushing":
            w.drained = True
            self.enter(w, self._after_flush(w))
        elif step == "switching" and self.path == "replica":
            self.enter(w, "done")
        elif step == "committing" and self.path == "replica" and w.rows != (w.target, False):
            self.enter(w, "switching")  # the source died while the move was being called off
        elif step in self._forward:
            self.enter(w, self._next(w, step))
        elif step == "restoring" and self.path == "replica" and w.target in w.noticed:
            self._unhold(w)
        else:
            following = self._back[self._back.index(step) + 1]
            self.enter(w, "undone" if following == "discarding" and w.target in w.noticed else following)

    @staticmethod
    def _after_flush(w: World) -> str:
        return "committing" if w.journal in DECIDED or w.orphan else "thawing"

    def _next(self, w: World, step: str) -> str:
        following = self._forward[self._forward.index(step) + 1]
        skipped = {"draining"} if "drain" not in self.rules else set()
        skipped |= {"draining-late"} if "drain-late" not in self.rules else set()
        skipped |= {"preparing"} if "prepare" not in self.rules else set()
        skipped |= {"forwarding"} if "forward" not in self.rules else set()
        if w.orphan or w.source in w.noticed:
            skipped |= {"draining", "exporting", "forwarding", "draining-late", "releasing"}
        while following in skipped:
            following = self._forward[self._forward.index(following) + 1]
        return following

    def cancel(self, w: World) -> None:
        """Call it off, as somebody's wish or because of what has failed."""
        if w.step == "preparing":
            self.enter(w, "discarding" if w.target not in w.noticed else "undone")
        elif self._back[0] != "clearing" or w.drained or "clear" not in self.rules:
            self.enter(w, self._called_off)
        else:
            self.enter(w, "clearing")

    @property
    def _called_off(self) -> str:
        """The first step, after CLEARING, of a move that is called off."""
        return self._back[1] if self._back[0] == "clearing" else self._back[0]

    def _unhold(self, w: World) -> None:
        """Nobody will give anything back: the source goes on with what it holds."""
        w.step = w.journal = "returning"
        w.waits = frozenset({"unheld"})
        self.ask(w)

    def _over(self, w: World) -> None:
        w.waits = frozenset()
        w.owner = w.target if w.step == "done" else w.source
        stray = [frame for frame in w.queues[1 - w.owner] if isinstance(frame, int)]
        if stray and w.replicas[1 - w.owner].alive:
            raise Violation(f"the move is over, and packet {stray[0]} is still on its way to the former owner")
        if w.open:
            left = w.lane[w.relayed :]
            w.open, w.lane, w.relayed = False, (), 0
            w.orphans = (left if "keep-buffer" in self.rules else ()) + w.orphans
        w.drained = False

    def heir(self, w: World) -> None:
        """Give what a dead replica owned to the other one: a move without a source."""
        w.source, w.orphan, w.epoch = w.owner, True, w.epoch + 1
        self.enter(w, {"cpu": "suspending", "replica": "preparing"}.get(self.path, "committing"))

    # -- the network -------------------------------------------------------------------------------------------

    def write(self, w: World) -> None:
        """The step's write to the switch."""
        match w.step:
            case "suspending" | "flushing":
                w.rows = (w.source, True)
                self._open(w)
            case "restoring":
                w.rows = (w.source, False)
            case _:
                w.rows = (w.target, False)
        if w.step == "resuming":
            self._open(w)
        if w.entry[0] != NOWHERE:
            w.entry = w.rows
        w.waits -= {"write"}
        if "loop" in w.waits:
            if "loop" in self.rules:
                w.enqueue(CPU, ("loop", w.epoch))
                if not self.kind.ordered:
                    self._relay(w)
            else:
                w.waits -= {"loop"}
                w.open = False
                self._relay(w, end=True)
        self._left(w)

    def _open(self, w: World) -> None:
        if not w.open:
            w.open = True
            w.lane, w.orphans = w.lane + w.orphans, ()

    def _relay(self, w: World, *, end: bool = False) -> None:
        """Send what the lane has, and END once it is sealed."""
        to = w.target if w.step == "resuming" else w.source
        first = w.relayed
        for number, packet in enumerate(w.lane[first:], first + 1):
            w.toward(to, ("relayed", w.epoch, number, packet))
        if end:
            w.toward(to, ("end", w.epoch, len(w.lane) + 1))
        w.relayed = len(w.lane)

    def relay_again(self, w: World) -> None:
        """Everything that was not acknowledged, from the beginning: the replica knows what it has."""
        w.relayed = 0
        self._relay(w, end="loop" not in w.waits)

    def packet_in(self, w: World) -> None:
        """The controller reads what the switch sent up."""
        frame = w.dequeue(CPU)
        if isinstance(frame, int):
            if w.open:
                w.lane += (frame,)
            else:
                w.orphans += (frame,)
            return
        assert isinstance(frame, tuple)
        if frame[1] != w.epoch:
            return
        match frame:
            case ("echo", _, which):
                if which == self.to_drain(w) and "echo" in w.waits:
                    self._arrived(w, "echo")
                    if w.step == "returning" and "returned" in w.waits:
                        self.ask(w)
            case ("loop", _) if "loop" in w.waits:
                w.waits -= {"loop"}
                self._relay(w, end=True)
            case ("ack", _, number) if "acks" in w.waits and "loop" not in w.waits:
                if number < len(w.lane) + 2:
                    self.relay_again(w)
                    return
                w.lane, w.relayed, w.open = (), 0, False
                self._arrived(w, "acks")

    def _arrived(self, w: World, what: str) -> None:
        w.waits -= {what}
        self._left(w)

    def _left(self, w: World) -> None:
        if not w.waits:
            self.leave(w)

    # -- answers -----------------------------------------------------------------------------------------------

    def answer(self, w: World, which: int, kind: str) -> None:
        """A replica's answer. One that nobody waits for, or from the wrong replica, means nothing."""
        if kind not in w.waits:
            return
        asked = w.target if w.step in _TO_TARGET and kind != "unheld" else w.source
        if which != asked:
            return
        pending = [note for note in w.requests[which] if note[0] in ("commit", "thaw")]
        if kind in ("committed", "thawed") and pending:
            return  # asked under two epochs: the second answer counts
        self._arrived(w, kind)

    # -- deaths ------------------------------------------------------------------------------------------------

    def notice(self, w: World, which: int) -> None:
        """A replica's end is confirmed."""
        w.noticed |= {which}
        if w.step in OVER or w.step == "planned":
            return
        if w.step == "flushing":
            if which != self.to_drain(w):
                return
            w.step = self._after_flush(w)
        if len(w.noticed) == 2:
            self.enter(w, "done" if w.step in DECIDED else "undone")
        elif which == w.source:
            self._source_gone(w)
        else:
            self._target_gone(w)

    def _source_gone(self, w: World) -> None:
        if (w.step == "committing" and w.waits) or w.orphan:
            return
        if w.step in ("resuming", "switching"):
            return
        if w.step == "preparing":
            return
        if w.step == "committing":
            self.enter(w, "committing")
            return
        if w.step == "forwarding":
            self.enter(w, "switching")
        elif w.step in DECIDED:
            self.enter(w, "done")
        elif w.step in self._forward:
            self.enter(w, "committing")
        elif w.step == "discarding":
            return
        elif self.path == "replica" and "keep-held" in self.rules:
            self.enter(w, "committing")
        else:
            self.enter(w, "discarding")

    def _target_gone(self, w: World) -> None:
        if w.step in ("committing", "forwarding") and not w.orphan:
            self.enter(w, "thawing")
        elif w.step in ("restoring", "clearing", "thawing"):
            return
        elif w.step == "returning":
            self._unhold(w)
        elif w.step == "discarding":
            self.enter(w, "undone")
        elif w.step in ("resuming", "switching"):
            self.enter(w, "releasing" if w.source not in w.noticed else "done")
        elif w.step in DECIDED:
            return
        else:
            self.cancel(w)

    # -- restart -----------------------------------------------------------------------------------------------

    def restart(self, w: World) -> None:
        """A new process, with nothing but the journal; the switch is reconciled with the rows it has from there."""
        w.alive = True
        if "fresh" in self.rules or self.path != "cpu":
            w.epoch += 1
        step = w.journal
        w.step = step
        rows = w.source
        if w.orphan:
            self._restart_orphan(w)
            return
        if self.path == "replica" and "rows" in self.rules:
            there = ("switching", "redirecting", "exporting", "clearing", "thawing", "committing", "releasing", "done")
            rows = w.target if step in there else w.source
        elif step in ("switching", "draining-late", "releasing", "done"):
            rows = w.target
        suspended = self.path == "cpu" and step in (
            "suspending", "draining", "exporting", "committing", "resuming", "clearing", "thawing", "restoring",
        )  # fmt: skip
        w.rows = (rows, suspended)
        if w.entry[0] != NOWHERE:
            w.entry = w.rows
        if suspended:
            self._open(w)
        self._again(w, step, suspended)

    def _restart_orphan(self, w: World) -> None:
        w.rows = (w.source, self.path == "cpu")
        if w.entry[0] != NOWHERE:
            w.entry = w.rows
        if self.path == "cpu":
            self._open(w)
            self._flush(w)
        else:
            self.enter(w, "preparing" if self.path == "replica" else "committing")

    def _again(self, w: World, step: str, suspended: bool) -> None:
        if step in OVER:
            self._over(w)
        elif step == "planned":
            w.owner = w.source
        elif suspended:
            w.drained = False
            self._flush(w)
        elif step in ("committing", "forwarding") or step in DECIDED:
            self.enter(w, step)
        elif step == "preparing":
            self.enter(w, "discarding")
        elif step in ("restoring", "returning", "discarding"):
            self.enter(w, step)
        elif "clear" in self.rules and self.path == "replica":
            self.enter(w, "clearing")
        else:
            self.enter(w, "thawing")

    def _flush(self, w: World) -> None:
        """What the former process relayed to the owner stands in front of this marker."""
        w.step, w.waits = "flushing", frozenset({"echo"})
        if "flush" in self.rules:
            self.begin(w)
        else:
            self.leave(w)
