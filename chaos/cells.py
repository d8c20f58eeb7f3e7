"""What is tried: which component is struck, in which step, of which kind of move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

COMPONENTS = {
    "orchestrator": "SIGKILL to the orchestrator, with the controller in it; the lab starts a new one",
    "switch": "SIGKILL to the switch; the lab starts a new one, with empty tables",
    "source": "SIGKILL to the source replica",
    "target": "SIGKILL to the target replica",
    "agent": "SIGKILL to the VMM agent; its replicas die with it, and a new agent makes new ones",
    "control": "the connections of the orchestrator with replicas and agent, and of the replicas with one another, "
    "end with what is in them, and none can be made for a second",
    "apart": "the same for 4 s, longer than the orchestrator waits (`deadlines.reconnect`): replicas are ended",
    "link": "the controller's connection to the switch ends, and its punt port is down, for a second; the switch stays",
}
FAR = {"far": "SIGKILL to the switch that the target is behind; only where there are several"}
SHARED = frozenset({"orchestrator", "switch", "far"})
"""Components whose loss touches every flow; of the others, only those of the replicas that die."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of move and its steps. Those of ``back`` are reached by calling it off in ``cancel_in``."""

    buffer: str
    guarantee: str
    forward: tuple[str, ...]
    back: tuple[str, ...]
    cancel_in: str
    """The step in which the move is called off."""
    buffers: frozenset[str]
    """Steps in which packets may be in the controller's hands."""
    source_has: frozenset[str]
    """Steps in which the source may have packets that nobody else has, or is sent some."""
    target_has: frozenset[str]
    """Steps in which the target may."""
    network: frozenset[str]
    """Steps that need the switch, or in which packets come from it to the controller; in these its link is cut."""
    apart: frozenset[str]
    """Steps in which replicas are cut off for longer than they may: before the decision, after it, and on the way
    back. What follows is told by who is ended, and hardly by the step."""
    passes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Steps that such a move may go past without entering them, and why."""
    without: str = ""
    """Why steps that other kinds have are not among its own."""
    by_key: bool = False
    """A few flows move, with all of their groups and their second keys, and not all that the source has."""
    chosen: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)
    """Component → steps in which it is struck, where that is not `strikes`' rule."""

    @property
    def name(self) -> str:
        """As the command line names it."""
        return f"{self.buffer}/{self.guarantee}" + ("/keys" if self.by_key else "")

    @property
    def options(self) -> dict[str, str]:
        """Fields of a request for such a move."""
        return {"guarantee": self.guarantee} | ({} if self.buffer == "none" else {"buffer": self.buffer})

    @property
    def ordered(self) -> bool:
        """Whether such a move promises order."""
        return self.guarantee == "order-preserving"

    @property
    def steps(self) -> tuple[str, ...]:
        """All of them, in order."""
        return (*self.forward, *self.back)

    def strikes(self, component: str) -> tuple[str, ...]:
        """Steps in which this component is struck."""
        rules = {} if self.by_key else {"link": self.network, "apart": self.apart}
        others: frozenset[str] = frozenset() if self.by_key else frozenset(self.steps)
        wanted = self.chosen.get(component, rules.get(component, others))
        return tuple(step for step in self.steps if step in wanted)


_PASSES = {"exporting": "the source had exported before its marker was back: DRAINING leads to COMMITTING at once"}
_UNBUFFERED = (
    "the switch points to the source until SWITCHING, so nothing is recalled, gathered or returned when it is called "
    "off. RESTORING follows only where the target dies in SWITCHING and the switch has not answered yet."
)
_NOT_CPU = "nothing reaches the target before the decision, so nothing is recalled, gathered or returned from there."


def _set(steps: str) -> frozenset[str]:
    return frozenset(steps.split())


def _kind(
    name: str, forward: str, back: str, cancel_in: str, *, buffers: str, source_has: str, target_has: str,
    network: str, apart: str, without: str,
) -> Kind:  # fmt: skip
    buffer, _, guarantee = name.partition("/")
    return Kind(
        buffer, guarantee, tuple(forward.split()), tuple(back.split()), cancel_in, _set(buffers), _set(source_has),
        _set(target_has), _set(network), _set(apart), _PASSES if "draining" in forward else {}, without,
    )  # fmt: skip


def _cpu(guarantee: str) -> Kind:
    kind = _kind(
        f"cpu/{guarantee}",
        "planned suspending draining exporting committing resuming releasing done",
        "clearing thawing restoring discarding undone",
        "suspending",
        buffers="suspending draining exporting committing resuming releasing clearing thawing restoring discarding",
        source_has="planned suspending draining clearing restoring discarding undone",
        target_has="resuming releasing done",
        network="suspending draining committing resuming clearing restoring",
        apart="draining committing thawing",
        without=_NOT_CPU,
    )
    if guarantee == "loss-free":  # both replicas die whatever the guarantee: once on each way is enough
        return replace(kind, chosen={"agent": _set("resuming restoring")})
    return kind


_WHOLE = (
    _cpu("order-preserving"),
    _cpu("loss-free"),
    _kind(
        "replica/order-preserving",
        "planned preparing redirecting draining exporting committing releasing done",
        "recalling clearing thawing gathering returning sealing restoring discarding undone",
        "redirecting",
        buffers="recalling clearing thawing gathering returning sealing restoring discarding",
        source_has="planned preparing redirecting draining recalling clearing gathering returning sealing restoring "
        "discarding undone",
        target_has="redirecting draining exporting committing releasing done recalling clearing thawing gathering "
        "returning",
        network="redirecting draining committing recalling clearing gathering restoring",
        apart="redirecting committing gathering",
        without="RESUMING follows COMMITTING only where the scope is suspended: after a new orchestrator took the move "
        "up.",
    ),
    _kind(
        "none/no-buffer",
        "planned exporting committing forwarding switching settling releasing done",
        "thawing discarding undone",
        "exporting",
        buffers="",
        source_has="planned exporting committing forwarding switching settling thawing discarding undone",
        target_has="forwarding switching settling releasing done",
        network="committing switching settling",
        apart="exporting forwarding thawing",
        without=_UNBUFFERED,
    ),
    _kind(
        "none/none",
        "planned exporting committing switching settling releasing done",
        "thawing discarding undone",
        "exporting",
        buffers="",
        source_has="planned exporting committing switching settling releasing done thawing discarding undone",
        target_has="switching settling releasing done",
        network="committing switching settling",
        apart="exporting switching thawing",
        without=_UNBUFFERED,
    ),
)
_BY_KEY = {
    "cpu/order-preserving": {
        "orchestrator": "draining resuming thawing",
        "switch": "suspending committing",
        "source": "draining restoring",
        "target": "exporting resuming",
        "control": "exporting committing",
        "link": "resuming",
    },
    "cpu/loss-free": {"orchestrator": "committing", "source": "thawing", "target": "resuming", "control": "resuming"},
    "replica/order-preserving": {
        "orchestrator": "redirecting committing gathering",
        "switch": "committing returning",
        "source": "draining gathering",
        "target": "redirecting committing",
        "control": "exporting returning",
        "link": "recalling",
    },
    "none/no-buffer": {
        "orchestrator": "forwarding switching",
        "switch": "switching",
        "source": "exporting",
        "target": "switching",
        "control": "forwarding",
    },
    "none/none": {"orchestrator": "switching", "source": "exporting", "target": "committing", "control": "settling"},
}
"""Kind → component → steps in which moves by key are struck: before the decision, after it, and on the way back."""
RESERVING = "reserving"
"""A step of moves by key alone, and of those without a buffer: each component is struck in it."""


def _by_key(kind: Kind) -> Kind:
    reserves = kind.buffer == "none"
    forward = (kind.forward[0], RESERVING, *kind.forward[1:]) if reserves else kind.forward
    struck = {component: _set(steps) for component, steps in _BY_KEY[kind.name].items()}
    chosen = struck | {each: struck.get(each, frozenset()) | {RESERVING} for each in COMPONENTS if reserves}
    # A flow that stays is the source's in every step: it may die with packets of that one.
    source_has = frozenset((*forward, *kind.back))
    return replace(kind, forward=forward, source_has=source_has, by_key=True, chosen=chosen, without="")


KINDS = {each.name: each for each in (*_WHOLE, *map(_by_key, _WHOLE))}
"""Name → kind. RELEASING and DISCARDING are journalled while the last answers of the relay may be under way."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One strike."""

    kind: Kind
    component: str
    step: str

    @property
    def cancel_in(self) -> str:
        """The step in which the move is called off first; empty if it is not."""
        return self.kind.cancel_in if self.step in self.kind.back else ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind.name} {self.step} {self.component}"


def cells(
    kinds: list[str] | None = None,
    components: list[str] | None = None,
    steps: list[str] | None = None,
    *,
    several: bool = False,
) -> list[Cell]:
    """The matrix, or the part of it that is named. ``several``: there are several switches."""
    return [
        Cell(KINDS[kind], component, step)
        for kind in kinds or KINDS
        for component in components or (*COMPONENTS, *(FAR if several else ()))
        for step in KINDS[kind].strikes(component)
        if not steps or step in steps
    ]


_CPU, _REPLICA, _LOSS_FREE = "cpu/order-preserving", "replica/order-preserving", "cpu/loss-free"
_FORWARD, _NONE = "none/no-buffer", "none/none"
SAMPLE = (
    (_CPU, "orchestrator", "resuming"), (_REPLICA, "switch", "draining"), (_CPU, "source", "draining"),
    (_REPLICA, "control", "returning"), (_REPLICA, "orchestrator", "draining"), (_FORWARD, "orchestrator", "switching"),
    (_REPLICA, "target", "committing"), (_REPLICA, "agent", "redirecting"), (_LOSS_FREE, "link", "resuming"),
)  # fmt: skip
"""What `make test` tries: each component but `apart`, which takes its time, the orchestrator before and after the
decision, every buffer, both ways."""
RING_SAMPLE = (
    (_CPU, "orchestrator", "draining"), (_CPU, "orchestrator", "resuming"), (_CPU, "switch", "suspending"),
    (_CPU, "far", "draining"), (_CPU, "far", "resuming"), (_CPU, "source", "draining"), (_CPU, "target", "committing"),
    (_CPU, "control", "restoring"), (_CPU, "link", "resuming"), (_REPLICA, "orchestrator", "redirecting"),
    (_REPLICA, "orchestrator", "committing"), (_REPLICA, "switch", "redirecting"), (_REPLICA, "far", "redirecting"),
    (_REPLICA, "far", "recalling"), (_REPLICA, "target", "committing"), (_REPLICA, "source", "gathering"),
    (_REPLICA, "agent", "draining"), (_FORWARD, "orchestrator", "switching"), (_FORWARD, "switch", "switching"),
    (_FORWARD, "far", "forwarding"), (_FORWARD, "source", "committing"), (_NONE, "orchestrator", "switching"),
    (_NONE, "control", "settling"),
)  # fmt: skip
