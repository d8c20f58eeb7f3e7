"""What the orchestrator and the controller in it do: one move after the other, step by step.

A step is entered (journalled, its request sent), waits for what `World.waits` names, and is left when nothing is left
to wait for. Writes to the switch are actions of their own, so that anything may happen between the journal and them.
"""

from __future__ import annotations

from model.replica import Replicas
from model.rules import Configuration
from model.world import CPU, NOWHERE, Violation, World, put

DECIDED = frozenset({"committing", "forwarding", "switching", "resuming", "settling", "releasing", "done"})
OVER = frozenset({"done", "undone"})
_FORWARD = {
    "cpu": "planned suspending draining exporting committing resuming releasing done",
    "replica": "planned preparing redirecting exporting committing releasing done",
    "no-buffer": "planned reserving exporting committing forwarding switching settling releasing done",
    "none": "planned reserving exporting committing switching settling releasing done",
}
_BACK = {
    "cpu": "clearing thawing restoring discarding undone",
    "replica": "recalling clearing thawing gathering returning sealing restoring discarding undone",
    "no-buffer": "thawing discarding undone",
    "none": "thawing discarding undone",
}
_WAITS = {
    "reserving": "write", "suspending": "write", "draining": "echo", "exporting": "exported",
    "committing": "committed", "preparing": "held",
    "redirecting": "write", "switching": "write", "resuming": "write loop acks", "releasing": "released",
    "settling": "echo", "forwarding": "forwarding", "recalling": "write", "clearing": "echo", "thawing": "thawed",
    "gathering": "echo", "returning": "returned", "sealing": "sealed",
    "restoring": "write loop acks", "discarding": "discarded",
}  # fmt: skip
_FENCED = frozenset(_WAITS) - {"preparing", "releasing", "discarding", "switching", "settling", "forwarding"}
"""Steps of the ways with a buffer in which a new process suspends the scope before anything else."""
_REQUESTS = {
    "exporting": "export", "committing": "commit", "preparing": "hold", "releasing": "release", "thawing": "thaw",
    "discarding": "discard", "forwarding": "forward", "returning": "return",
    "sealing": "seal",
}  # fmt: skip
_ANSWERS = frozenset({
    "exported", "committed", "held", "released", "forwarding", "thawed", "returned", "sealed", "discarded",
})  # fmt: skip
_BUFFERED = ("cpu", "replica")
_TO_TARGET = frozenset({"committing", "preparing", "discarding", "returning"})


class Orchestrator:
    """One configuration's steps under the rules in force."""

    def __init__(self, configuration: Configuration, rules: frozenset[str], replicas: Replicas) -> None:
        self.kind = configuration
        self.rules = rules
        self.replicas = replicas
        path = configuration.buffer if configuration.buffer != "none" else configuration.guarantee
        self._forward = _FORWARD[path].split()
        self._behind = {"cpu": {"draining", "resuming"}, "replica": {"exporting", "resuming"}}.get(path, set())
        """Steps that do not wait for the journal: a new process may find the one before, which is what it always finds
        here."""
        self._back = _BACK[path].split()
        if path == "replica" and "thaw-first" not in rules:
            self._back = [
                "recalling", "clearing", "gathering", "returning", "restoring", "thawing", "discarding", "undone",
            ]  # fmt: skip
        self.path = path
        self.cancellable = frozenset(self._forward) - DECIDED - {"planned"}
        """Steps in which the move can be called off."""

    # -- steps -------------------------------------------------------------------------------------------------

    def enter(self, w: World, step: str) -> None:
        """Journal a step, unless that may come later, and begin it."""
        w.step = step
        if step not in self._behind and ("journal" in self.rules or step in OVER or step == "exporting"):
            w.journal = step
        w.waits = frozenset(_WAITS.get(step, "").split())
        if step == "exporting" and self.path == "replica" and "drain" in self.rules:
            w.waits |= {"echo"}
        if "echo" in w.waits:
            w.waits = w.waits - {"echo"} | {f"echo{w.target if step == 'gathering' else w.source}"}
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
        for which in (0, 1):
            if f"echo{which}" in w.waits:
                w.toward(which, ("marker", w.epoch))
        if w.waits & _ANSWERS:
            self.ask(w)

    def ask(self, w: World) -> None:
        """Send the step's request: under the move's own epoch, and under the one of holding if that is another."""
        which = w.target if w.step in _TO_TARGET else w.source
        own = w.epoch if w.orphan else 1
        holds = self.kind.ordered and (self.path == "cpu" or w.open)
        epochs = {own} | ({w.epoch} if w.step in ("committing", "thawing") and self.path in _BUFFERED else set())
        for epoch in sorted(epochs):
            w.requests = put(w.requests, which, (_REQUESTS[w.step], epoch, holds and epoch == w.epoch))

    def leave(self, w: World) -> None:
        """Everything that the step waited for is there."""
        step = w.step
        if step in ("draining", "clearing") or (step == "exporting" and self.path in ("cpu", "replica")):
            w.drained = True
        if step == "flushing":
            self._flushed(w)
        elif step == "suspending" and w.orphan:
            self.enter(w, "committing")
        elif step == "committing" and self.path == "replica" and w.open:
            self.enter(w, "resuming")
        elif step == "gathering" and w.source in w.noticed:
            self.enter(w, "committing" if "keep-held" in self.rules else "discarding")
        elif step in self._forward or step == "resuming":
            self.enter(w, self._next(w, step))
        else:
            self.enter(w, self._next_back(w, step))

    def _next_back(self, w: World, step: str) -> str:
        following = self._back[self._back.index(step) + 1]
        known = w.drained and self.path == "cpu"
        skipped = {"clearing"} if known or "clear" not in self.rules else set()
        skipped |= {"gathering"} if "return-drain" not in self.rules else set()
        skipped |= {"gathering", "returning"} if "return" not in self.rules else set()
        skipped |= {"sealing"} if "seal" not in self.rules else set()
        if w.target in w.noticed:
            skipped |= {"gathering", "returning", "discarding"}
        while following in skipped:
            following = self._back[self._back.index(following) + 1]
        return following

    def _flushed(self, w: World) -> None:
        """Go on where the journal says; but replicas may have died meanwhile."""
        w.step, w.drained = "committing" if w.journal in DECIDED or w.orphan else "thawing", True
        if w.step == "thawing" and w.source in w.noticed:
            self._source_gone(w)
        elif w.step == "committing" and w.target in w.noticed and not w.orphan:
            self._target_gone(w)
        else:
            self.enter(w, w.step)

    def _next(self, w: World, step: str) -> str:
        if step == "resuming":
            return "done" if w.orphan or w.source in w.noticed else "releasing"
        following = self._forward[self._forward.index(step) + 1]
        skipped = {"draining"} if "drain" not in self.rules else set()
        skipped |= {"settling"} if "drain-late" not in self.rules else set()
        skipped |= {"preparing"} if "prepare" not in self.rules else set()
        skipped |= {"forwarding"} if "forward" not in self.rules else set()
        if w.orphan or w.source in w.noticed:
            skipped |= {"draining", "exporting", "forwarding", "settling", "releasing"}
        while following in skipped:
            following = self._forward[self._forward.index(following) + 1]
        return following

    def cancel(self, w: World) -> None:
        """Call it off, as somebody's wish or because of what has failed."""
        if w.step == "preparing":
            self.enter(w, "discarding" if w.target not in w.noticed else "undone")
        elif w.step == "reserving":
            self.enter(w, "undone")
        elif self._back[0] == "clearing" and (w.drained or "clear" not in self.rules):
            self.enter(w, self._next_back(w, "clearing"))
        else:
            self.enter(w, self._back[0])

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
        self.enter(w, "suspending" if self.path in _BUFFERED else "committing")

    # -- the network -------------------------------------------------------------------------------------------

    def write(self, w: World) -> None:
        """The step's write to the switch."""
        match w.step:
            case "suspending" | "recalling":
                w.rows = (w.source, True)
                self._open(w)
            case "reserving" | "restoring":
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
            case ("echo", _, which) if f"echo{which}" in w.waits:
                self._arrived(w, f"echo{which}")
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
        if kind == "all staged" and which == w.target:  # the target's word is as good as the source's
            which, kind = w.source, "exported"
        if kind not in w.waits:
            return
        asked = w.target if w.step in _TO_TARGET else w.source
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
            w.waits -= {f"echo{which}"}
            if w.waits:
                return
        if len(w.noticed) == 2:
            self.enter(w, "done" if w.step in DECIDED - {"committing"} else "undone")
        elif w.step == "flushing":
            self._flushed(w)
        elif which == w.source:
            self._source_gone(w)
        else:
            self._target_gone(w)

    def _source_gone(self, w: World) -> None:
        if w.orphan or w.step in ("resuming", "switching", "preparing", "discarding", "gathering"):
            return
        held = "returning sealing" if "keep-held" in self.rules else ""
        back = held if self.path == "replica" else "clearing thawing"
        if w.step in ("committing", "forwarding"):
            self.enter(w, "committing" if w.step == "committing" else "switching")
        elif w.step in DECIDED:
            self.enter(w, "done")
        elif w.step in self._forward or w.step in back.split():
            self.enter(w, "committing")
        elif self.path == "replica" and w.step in ("recalling", "clearing", "thawing"):
            self.enter(w, "gathering")
        else:
            self.enter(w, "discarding")

    def _target_gone(self, w: World) -> None:
        if w.orphan and w.step == "committing":
            return
        if w.step in ("committing", "forwarding"):
            self.enter(w, "recalling" if self.path == "replica" and not w.open else "thawing")
        elif w.step in ("restoring", "recalling", "clearing", "thawing", "sealing"):
            return
        elif w.step in ("gathering", "returning"):
            self.enter(w, self._next_back(w, w.step))
        elif w.step == "discarding":
            self.enter(w, "undone")
        elif w.step == "switching":  # what was written points to a dead replica; so nothing else may
            w.rows = (w.source, False)
            w.entry = w.rows if w.entry[0] != NOWHERE else w.entry
            self.enter(w, "thawing")
        elif w.step == "resuming":
            self.enter(w, "releasing" if w.source not in w.noticed else "done")
        elif w.step not in DECIDED:
            self.cancel(w)

    # -- restart -----------------------------------------------------------------------------------------------

    def restart(self, w: World) -> None:
        """A new process, with nothing but the journal; the switch is reconciled with the rows it has from there."""
        w.alive = True
        if "fresh" in self.rules or self.path not in _BUFFERED:
            w.epoch += 1
        w.step, w.drained = w.journal, False
        fenced = self.path in _BUFFERED and w.journal in _FENCED
        rows = w.target if w.journal in ("settling", "releasing", "done") else w.source
        w.rows = (rows, fenced and "suspend-again" in self.rules)
        if w.entry[0] != NOWHERE:
            w.entry = w.rows
        if fenced:
            self._open(w)
            self._flush(w)
        else:
            self._again(w)

    def _again(self, w: World) -> None:
        """Take up a step in which nothing was held back."""
        match w.journal:
            case "planned":
                pass
            case "done" | "undone":
                self._over(w)
            case "preparing":
                self.enter(w, "discarding")
            case "reserving":
                self.enter(w, "undone")
            case "exporting":
                self.enter(w, "thawing" if w.source not in w.noticed else "undone")
            case step:
                self.enter(w, step)

    def _flush(self, w: World) -> None:
        """What the former process relayed stands in front of these markers; and the target keeps all it was sent."""
        both = {"echo0", "echo1"} if self.path == "replica" else {f"echo{self._owner_to_be(w)}"}
        w.step, w.waits = "flushing", frozenset(both - ({f"echo{w.source}"} if w.orphan else set()))
        if "flush" in self.rules:
            self.begin(w)
        else:
            self.leave(w)

    @staticmethod
    def _owner_to_be(w: World) -> int:
        return w.target if w.journal in DECIDED or w.orphan else w.source
