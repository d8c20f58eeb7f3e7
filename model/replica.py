"""What a replica does with a frame from the switch, a request, or its peer's message."""

from __future__ import annotations

from model.rules import Configuration
from model.world import CPU, Note, Violation, World, bits, emptied, put


class Replicas:
    """The data-plane side and the moves of `guestlib`, for one flow. ``rules`` are those in force."""

    def __init__(self, configuration: Configuration, rules: frozenset[str]) -> None:
        self.kind = configuration
        self.rules = rules
        self.holds = "hold" in rules

    # -- packets -------------------------------------------------------------------------------------------

    def process(self, w: World, which: int, packet: int) -> None:
        """The middlebox gets a packet. :raises Violation: if it has had it, or a younger one, or has no state."""
        if w.done >> packet & 1:
            raise Violation(f"packet {packet} is processed twice")
        if self.kind.ordered and packet < w.last:
            raise Violation(f"packet {packet} is processed after packet {w.last}")
        if not w.replicas[which].active:
            self._create(w, which, packet)
        w.done |= 1 << packet
        w.last = max(w.last, packet) if self.kind.ordered else 0

    def _create(self, w: World, which: int, packet: int) -> None:
        other = w.replicas[1 - which]
        if other.alive and (other.active or other.fate == "frozen"):
            raise Violation(f"packet {packet} makes the flow anew at replica {which}: replica {1 - which} has it")
        w.replica(which, active=True, fate="here")

    def frame(self, w: World, which: int) -> None:
        """It reads the next frame."""
        frame = w.dequeue(which)
        if isinstance(frame, int):
            self._direct(w, which, frame)
            return
        assert isinstance(frame, tuple)
        if frame[0] == "marker":
            self._marker(w, which, frame[1])
        else:
            self._relayed(w, which, frame)

    def _direct(self, w: World, which: int, packet: int) -> None:
        me = w.replicas[which]
        if me.hold:
            w.replica(which, held=(*me.held, packet))
        elif me.active or me.fate in ("", "here"):
            self.process(w, which, packet)
        else:
            self._late(w, which, packet)

    def _late(self, w: World, which: int, packet: int) -> None:
        """The flow is frozen or gone."""
        me = w.replicas[which]
        if self.kind.guarantee == "none":
            w.dropped |= 1 << packet
        elif self.kind.guarantee == "no-buffer" and "wait" in self.rules and (me.fate == "frozen" or me.forwards):
            if me.forwards:
                w.to_peer(which, ("forward", packet))
            else:
                w.replica(which, late=(*me.late, packet))
        else:
            raise Violation(f"packet {packet} reaches replica {which}, behind the marker: the flow is {me.fate} there")

    def _marker(self, w: World, which: int, epoch: int) -> None:
        w.replica(which, met=max(epoch, w.replicas[which].met))
        w.enqueue(CPU, ("echo", epoch, which))
        if w.replicas[which].pending:
            w.replica(which, pending=0)
            self._freeze(w, which, epoch)

    def _relayed(self, w: World, which: int, frame: tuple[object, ...]) -> None:
        kind, epoch, number = frame[:3]
        assert isinstance(epoch, int) and isinstance(number, int)
        me = w.replicas[which]
        expected = me.expected[1] if me.expected[0] == epoch else 1
        if number != expected and "numbers" in self.rules:
            if kind == "end":  # what is missing is sent again
                w.enqueue(CPU, ("ack", epoch, expected))
            return
        w.replica(which, expected=(epoch, number + 1))
        if kind == "relayed":
            packet = frame[3]
            assert isinstance(packet, int)
            self.process(w, which, packet)
            return
        if me.hold == epoch:
            self.release(w, which)
        w.enqueue(CPU, ("ack", epoch, number + 1))

    def release(self, w: World, which: int) -> None:
        """Held packets become due."""
        held = w.replicas[which].held
        w.replica(which, hold=0, held=())
        for packet in held:
            self.process(w, which, packet)

    def hold(self, w: World, which: int, epoch: int) -> None:
        """Direct packets wait from now on. An older hold is over."""
        if not self.holds:
            return
        me = w.replicas[which]
        if me.hold and me.hold != epoch:
            self.release(w, which)
        w.replica(which, hold=epoch)

    # -- requests ------------------------------------------------------------------------------------------

    def request(self, w: World, which: int, note: Note) -> None:
        """A message of the orchestrator arrives."""
        kind, epoch = note[0], note[1]
        me = w.replicas[which]
        over = epoch in me.ended and "fence" in self.rules
        if kind in ("hold", "commit", "thaw") and epoch not in me.ended and epoch < max(me.ended, default=0):
            return  # refused: something newer has been decided
        match kind:
            case "hold" if over:
                pass
            case "hold":
                w.replica(which, hold=epoch)
                self._answer(w, which, "held")
            case "export":
                self._export(w, which, epoch)
            case "commit":
                self._commit(w, which, note)
            case "thaw":
                self._thaw(w, which, note)
            case "release":
                self._release(w, which, epoch)
            case "discard":
                over = me.hold == epoch
                w.replica(which, staged=False, ended=me.ended | {epoch}, hold=0 if over else me.hold,
                          held=() if over else me.held)  # fmt: skip
                self._answer(w, which, "discarded")
            case "return":
                self._return(w, which)
            case "seal":
                w.replica(which, sealed=True)
                self._answer(w, which, "sealed")
            case "forward":
                self._forward(w, which)
            case _:
                raise AssertionError(kind)

    @staticmethod
    def _answer(w: World, which: int, kind: str) -> None:
        if w.alive:
            w.answers = put(w.answers, which, (kind,))

    def _export(self, w: World, which: int, epoch: int) -> None:
        me = w.replicas[which]
        if epoch in me.ended:
            return
        if self.kind.buffer == "replica" and me.met < epoch and "drain" in self.rules:
            w.replica(which, pending=epoch)
        elif me.fate == "frozen":
            if w.peers[which]:
                return  # it is on its way
            if w.replicas[1 - which].staged:
                self._answer(w, which, "exported")
            else:
                w.to_peer(which, ("stage", epoch))
        else:
            self._freeze(w, which, epoch)

    def _freeze(self, w: World, which: int, epoch: int) -> None:
        if "freeze" in self.rules:
            w.replica(which, active=False, fate="frozen")
        w.to_peer(which, ("stage", epoch))
        if "staged" not in self.rules:
            self._answer(w, which, "exported")

    def _commit(self, w: World, which: int, note: Note) -> None:
        _, epoch, holds = note
        me = w.replicas[which]
        if epoch in me.ended:
            self._answer(w, which, "committed")
            return
        if w.replicas[1 - which].active and w.replicas[1 - which].alive:
            raise Violation(f"replica {which} takes the flow over while replica {1 - which} uses it")
        if not me.staged and not me.active and w.replicas[1 - which].alive:
            raise Violation(f"replica {which} takes the flow over without its state, and the source lives")
        w.replica(which, active=True, fate="here", staged=False, ended=me.ended | {epoch})
        if self.kind.buffer == "replica":
            self.release(w, which)
        if holds:
            self.hold(w, which, epoch)
        self._answer(w, which, "committed")

    def _thaw(self, w: World, which: int, note: Note) -> None:
        _, epoch, holds = note
        me = w.replicas[which]
        if epoch in me.ended:
            self._answer(w, which, "thawed")
            return
        late = me.late
        frozen = me.fate == "frozen"
        w.replica(
            which, active=me.active or frozen, fate="here", pending=0, late=(), forwards=False, ended=me.ended | {epoch}
        )
        for packet in late:
            self.process(w, which, packet)
        if holds:
            self.hold(w, which, epoch)
        self._answer(w, which, "thawed")

    def _release(self, w: World, which: int, epoch: int) -> None:
        if any(note[0] == "forward" for note in w.peers[which]):
            w.requests = put(w.requests, which, ("release", epoch))  # not before its peer has all of it
            return
        w.replica(which, fate="gone", forwards=False, ended=w.replicas[which].ended | {epoch})
        self._answer(w, which, "released")

    def _return(self, w: World, which: int) -> None:
        """What is held goes back to the source."""
        me = w.replicas[which]
        if me.hold:
            w.to_peer(which, *(("back", packet) for packet in me.held), ("end",))
            w.replica(which, hold=0, held=())
        elif not any(note[0] == "end" for note in w.peers[which]):
            self._answer(w, which, "returned")

    def give_up(self, w: World, which: int) -> None:
        """What was to go back may yet arrive, and its peer may have no time to say so: it is counted as lost."""
        w.excused |= bits(w.peers[which])
        kept = tuple(note for note in w.peers[which] if note[0] != "end")
        w.peers = put(emptied(w.peers, which), which, *kept)
        self._answer(w, which, "returned")

    def _forward(self, w: World, which: int) -> None:
        me = w.replicas[which]
        if "forward" in self.rules:
            w.to_peer(which, *(("forward", packet) for packet in me.late))
            w.replica(which, late=(), forwards=True)
        self._answer(w, which, "forwarding")

    # -- peers ---------------------------------------------------------------------------------------------

    def peer(self, w: World, sender: int, note: Note) -> None:
        """A peer's message arrives."""
        which = 1 - sender
        me = w.replicas[which]
        match note[0]:
            case "stage":
                if note[1] not in me.ended:
                    w.replica(which, staged=True)
                    w.to_peer(which, ("staged", note[1]))
                    self._answer(w, which, "all staged")
            case "staged":
                if (me.fate == "frozen" or "freeze" not in self.rules) and note[1] not in me.ended:
                    self._answer(w, which, "exported")
            case "back" if me.sealed:
                pass
            case "back":
                if not me.active:
                    raise Violation(f"packet {note[1]} comes back to replica {which}, which does not have the flow")
                self.process(w, which, note[1])
            case "end":
                self._answer(w, sender, "returned")
            case "forward":
                self.process(w, which, note[1])
            case _:
                raise AssertionError(note)
