"""What is tried: which component is struck, in which step, of which kind of move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COMPONENTS = {
    "orchestrator": "SIGKILL to the orchestrator, with the controller in it; the lab starts a new one",
    "switch": "SIGKILL to the switch; the lab starts a new one, with empty tables",
    "source": "SIGKILL to the source replica",
    "target": "SIGKILL to the target replica",
    "agent": "SIGKILL to the VMM agent; its replicas die with it, and a new agent makes new ones",
    "control": "every connection of the control network is reset, and none can be made for a second",
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
    passes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Steps that such a move may go past without entering them, and why."""
    without: str = ""
    """Why steps that other kinds have are not among its own."""

    @property
    def name(self) -> str:
        """As the command line names it."""
        return f"{self.buffer}/{self.guarantee}"

    @property
    def options(self) -> dict[str, str]:
        """Fields of a request for such a move."""
        return {"guarantee": self.guarantee} | ({} if self.buffer == "none" else {"buffer": self.buffer})

    @property
    def ordered(self) -> bool:
        """Whether such a move promises order."""
        return self.guarantee == "order-preserving"


_PASSES = {"exporting": "the source had exported before its marker was back: DRAINING leads to COMMITTING at once"}
_UNBUFFERED = (
    "the switch points to the source until SWITCHING, so nothing is recalled, gathered or returned when it is called "
    "off. RESTORING follows only where the target dies in SWITCHING and the switch has not answered yet."
)


def _kind(name: str, forward: str, back: str, cancel_in: str, buffers: str, without: str = "") -> Kind:
    buffer, _, guarantee = name.partition("/")
    return Kind(
        buffer, guarantee, tuple(forward.split()), tuple(back.split()), cancel_in, frozenset(buffers.split()),
        _PASSES if "draining" in forward else {}, without,
    )  # fmt: skip


KINDS = {
    each.name: each
    for each in (
        _kind(
            "cpu/order-preserving",
            "planned suspending draining exporting committing resuming releasing done",
            "clearing thawing restoring discarding undone",
            "suspending",
            "suspending draining exporting committing resuming releasing clearing thawing restoring discarding",
            "nothing reaches the target before the decision, so nothing is recalled, gathered or returned from there.",
        ),
        _kind(
            "replica/order-preserving",
            "planned preparing redirecting draining exporting committing releasing done",
            "recalling clearing thawing gathering returning restoring discarding undone",
            "redirecting",
            "recalling clearing thawing gathering returning restoring discarding",
            "RESUMING follows COMMITTING only where the scope is suspended: after a new orchestrator took the move up.",
        ),
        _kind(
            "none/no-buffer",
            "planned exporting committing forwarding switching settling releasing done",
            "thawing discarding undone",
            "exporting",
            "",
            _UNBUFFERED,
        ),
        _kind(
            "none/none",
            "planned exporting committing switching settling releasing done",
            "thawing discarding undone",
            "exporting",
            "",
            _UNBUFFERED,
        ),
    )
}
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
        for step in (*KINDS[kind].forward, *KINDS[kind].back)
        if not steps or step in steps
    ]


_CPU, _REPLICA = "cpu/order-preserving", "replica/order-preserving"
SAMPLE = (
    (_CPU, "orchestrator", "resuming"), (_CPU, "switch", "draining"), (_CPU, "source", "draining"),
    (_CPU, "control", "restoring"), (_REPLICA, "orchestrator", "draining"), (_REPLICA, "orchestrator", "recalling"),
    (_REPLICA, "target", "committing"), (_REPLICA, "agent", "redirecting"), (_REPLICA, "source", "gathering"),
)  # fmt: skip
"""What `make test` tries: each component, the orchestrator before and after the decision, both buffers, both ways."""
_FORWARD, _NONE = "none/no-buffer", "none/none"
RING_SAMPLE = (
    (_CPU, "orchestrator", "draining"), (_CPU, "orchestrator", "resuming"), (_CPU, "switch", "suspending"),
    (_CPU, "far", "draining"), (_CPU, "far", "resuming"), (_CPU, "source", "draining"), (_CPU, "target", "committing"),
    (_CPU, "control", "restoring"), (_REPLICA, "orchestrator", "redirecting"), (_REPLICA, "orchestrator", "committing"),
    (_REPLICA, "switch", "redirecting"), (_REPLICA, "far", "redirecting"), (_REPLICA, "far", "recalling"),
    (_REPLICA, "target", "committing"), (_REPLICA, "source", "gathering"), (_REPLICA, "agent", "draining"),
    (_FORWARD, "orchestrator", "switching"), (_FORWARD, "switch", "switching"), (_FORWARD, "far", "forwarding"),
    (_FORWARD, "source", "committing"), (_NONE, "orchestrator", "switching"), (_NONE, "control", "settling"),
)  # fmt: skip
"""What is tried with several switches: ``python -m chaos --topology three-switches --sample``."""
