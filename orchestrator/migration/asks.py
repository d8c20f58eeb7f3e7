"""What each step asks a replica, and what it asks of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.migration.events import Drain, Instruction, Redirect, Reserve, Resume, Suspend
from orchestrator.migration.plan import NOBODY, Plan
from orchestrator.migration.steps import Path, Step
from splitmerge import messages as m


@dataclass(frozen=True, slots=True)
class Ask:
    """A request and what answers it."""

    replica: int
    message: m.Message
    answer: type[m.Message]
    epoch: int


@dataclass(frozen=True, slots=True)
class Situation:
    """What requests depend on. ``relay``: the epoch of holding and relaying; ``fenced``: the scope is suspended;
    ``references``: seconds that the source may wait for flows in use."""

    plan: Plan
    relay: int
    fenced: bool
    references: float
    source_gone: bool = False
    target_gone: bool = False

    @property
    def fresh(self) -> bool:
        """A new process took the move up: it holds and relays under an epoch of its own."""
        return self.relay != self.plan.fence


_LATE = {Path.FORWARD: "keep", Path.NONE: "drop"}


def export(now: Situation) -> Ask:
    """Export: at once, or when the marker shows that nothing of the scope is on its way to the source any more."""
    plan = now.plan
    late = _LATE.get(plan.path, "never")
    packets, size = plan.options.room if late == "keep" else (0, 0)
    message = m.Export(
        epoch=plan.fence,
        scope=plan.scope,
        target=plan.target,
        address=plan.address,
        deadline=now.references,
        after=late == "never",
        late=late,  # type: ignore[arg-type]  # the values of _LATE
        packets=packets,
        bytes=size,
    )
    return Ask(plan.source, message, m.Exported, plan.fence)


def _prepare(now: Situation) -> list[Ask]:
    plan, (packets, size) = now.plan, now.plan.options.room
    message = m.Prepare(epoch=plan.fence, scope=plan.scope, packets=packets, bytes=size)
    return [Ask(plan.target, message, m.Prepared, plan.fence)]


def _commit(now: Situation) -> list[Ask]:
    """Under the move's own epoch, which settles who owns the state; then, if another, under the one of holding.

    Direct packets are held where younger ones are buffered at the controller; what the target kept is released.
    """
    plan = now.plan
    holds = plan.ordered if plan.path is Path.CPU else now.fenced
    epochs = {plan.fence: holds and not (now.fresh and plan.path is Path.REPLICA)}
    if now.fresh and plan.path in (Path.CPU, Path.REPLICA):
        epochs[now.relay] = holds
    commits = [m.Commit(epoch=epoch, scope=plan.scope, hold=hold) for epoch, hold in epochs.items()]
    return [Ask(plan.target, commit, m.Committed, commit.epoch) for commit in commits]


def _thaw(now: Situation) -> list[Ask]:
    plan = now.plan
    holds = plan.path in (Path.CPU, Path.REPLICA)
    epochs = (plan.fence, now.relay) if holds and now.fresh else (plan.fence,)
    thaws = [m.Thaw(epoch=epoch, scope=plan.scope, hold=holds) for epoch in epochs]
    return [Ask(plan.source, thaw, m.Thawed, thaw.epoch) for thaw in thaws]


def _forward(now: Situation) -> list[Ask]:
    plan = now.plan
    return [Ask(plan.source, m.Forward(epoch=plan.fence, address=plan.address), m.Forwarding, plan.fence)]


def _release(now: Situation) -> list[Ask]:
    plan = now.plan
    release = m.Release(epoch=plan.fence, scope=plan.scope, carry=not now.target_gone)
    return [Ask(plan.source, release, m.Released, plan.fence)]


def _return(now: Situation) -> list[Ask]:
    plan = now.plan
    return [Ask(plan.target, m.Return(epoch=plan.fence, address=plan.home), m.Returned, plan.fence)]


def _seal(now: Situation) -> list[Ask]:
    plan = now.plan
    return [Ask(plan.source, m.Seal(epoch=plan.fence), m.Sealed, plan.fence)]


def _discard(now: Situation) -> list[Ask]:
    plan = now.plan
    return [Ask(plan.target, m.Discard(epoch=plan.fence), m.Discarded, plan.fence)]


ASKS: Mapping[Step, Callable[[Situation], list[Ask]]] = {
    Step.PREPARING: _prepare,
    Step.EXPORTING: lambda now: [export(now)],
    Step.COMMITTING: _commit,
    Step.FORWARDING: _forward,
    Step.RELEASING: _release,
    Step.THAWING: _thaw,
    Step.RETURNING: _return,
    Step.SEALING: _seal,
    Step.DISCARDING: _discard,
}

ANSWERS = (
    m.Prepared, m.AllStaged, m.Exported, m.Committed, m.Forwarding, m.Released, m.Discarded, m.Thawed, m.Returned,
    m.Sealed, m.Refused,
)  # fmt: skip
"""All that replicas answer, and the target's word that comes before the source's; a test compares them with `ASKS`."""


def operation(step: Step, now: Situation) -> Instruction:
    """What the network is asked for on entering one of `steps.NETWORK`."""
    plan, relay = now.plan, now.relay
    match step:
        case Step.RESERVING:
            return Reserve(relay, plan.scope.keys, plan.source)
        case Step.SUSPENDING | Step.RECALLING:
            return Suspend(relay, plan.scope, plan.source)
        case Step.REDIRECTING | Step.SWITCHING:
            return Redirect(relay, plan.scope, plan.source, plan.target)
        case Step.DRAINING | Step.CLEARING | Step.SETTLING:
            return Drain(relay, plan.source)
        case Step.GATHERING:
            return Drain(relay, plan.target)
        case Step.RESTORING if plan.path in _LATE:  # nothing is suspended; the entries that came along go back, too
            return Redirect(relay, plan.scope, plan.source, plan.source)
        case Step.RESUMING:
            # Who has nowhere else to go, and gets no entry, is left out: the others do not wait for room in the switch.
            return Resume(relay, plan.scope, plan.target, plan.ordered, new=plan.source == NOBODY or now.source_gone)
        case _:
            return Resume(relay, plan.scope, plan.source)
