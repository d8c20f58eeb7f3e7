"""The VMM agents that are connected: which slots are whose, what replicas they make there, and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Set

from orchestrator.errors import AgentFailed, ScalingFailed, SlotsLeaving
from orchestrator.replicas.sessions import Session
from splitmerge.messages import Message
from splitmerge.tls import agent_name

REPEAT = 0.5
"""Seconds until an unanswered request is sent again."""
SEE_LOG = "see the agent's log"
OUT = "scale-out"
MORE_SLOTS = "scale in, or start with more slots"
FOR_KIND = {
    "vm": "a lab started with --vm-slots has one, or leave the kind out",
    "process": "a lab started with --slots has one, or leave the kind out",
}


class Agents:
    """``slots``: all that there are, in the order in which they are used."""

    def __init__(self, slots: Iterable[int]) -> None:
        self.connected: list[Session] = []
        """Each makes replicas on slots of its own."""
        self.here = asyncio.Event()
        """Set while there is one."""
        self.met = 0
        """Connections of agents to this process: more than there are agents, if one restarted."""
        self._slots = tuple(slots)
        self._kinds: dict[int, str] = {}
        self._answers: dict[tuple[type[Message], int], asyncio.Future[Message]] = {}

    # -- who is here -------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        """An agent is here; another connection of the same name is closed."""
        for other in [each for each in self.connected if each.peer.name == session.peer.name]:
            self.remove(other)
            other.close("another agent of this name has connected")
        self.met += 1
        slots = session.peer.slots or self._slots
        self._kinds.update(dict.fromkeys(slots, session.peer.kind))
        self.connected.append(session)
        self.here.set()

    def remove(self, session: Session) -> bool:
        """A connection has ended; whether it was an agent's."""
        if session not in self.connected:
            return False
        self.connected.remove(session)
        if not self.connected:
            self.here.clear()
        return True

    def of_slot(self, slot: int) -> Session | None:
        """The agent that makes replicas on this slot, if it is here."""
        return next((each for each in self.connected if _serves(each, slot)), None)

    def maker(self, name: str | None, slot: int) -> Session | None:
        """The agent that was asked to make a replica, by its certified name, if it is here; that of its slot if none
        was asked (None), or one without a certificate (empty)."""
        if name is None:
            return self.of_slot(slot)
        if name:
            return next((each for each in self.connected if certified_name(each) == name), None)
        nameless = (each for each in self.connected if not certified_name(each))
        return next((each for each in nameless if _serves(each, slot)), None)

    # -- slots -------------------------------------------------------------------------------------------------

    def kind_of(self, slot: int) -> str:
        """What the slot's agent makes, or made when it was last here: ``process`` or ``vm``; empty if unknown."""
        return self._kinds.get(slot, "")

    def free_slot(self, used: set[int], kind: str, leaving: Set[int] = frozenset()) -> int:
        """The first slot that is not used and whose agent is connected, or the first one if none is.

        ``kind``: what the agent must make; empty: anything. ``leaving``: used ones that will soon not be.
        :raises SlotsLeaving: there is none, and will be. :raises ScalingFailed: there is none; with what to do.
        """
        free = [slot for slot in self._slots if slot not in used]
        if not free:
            raise self._full(f"all {len(self._slots)} slots are used", kind, leaving)
        agents = {slot: self.of_slot(slot) for slot in free}
        fitting = [slot for slot, agent in agents.items() if agent is not None and kind in ("", agent.peer.kind)]
        if not fitting and kind:
            problem, remedy = f"no free slot has an agent of kind {kind!r}", self._for_kind(used, kind)
            raise self._full(problem, kind, leaving) if remedy == MORE_SLOTS else ScalingFailed(OUT, problem, remedy)
        return (fitting or free)[0]

    def _full(self, problem: str, kind: str, leaving: Set[int]) -> ScalingFailed:
        back = [str(slot) for slot in sorted(leaving) if kind in ("", self.kind_of(slot))]
        if not back:
            return ScalingFailed(OUT, problem, MORE_SLOTS)
        return SlotsLeaving(OUT, f"{problem}; replicas on slots {', '.join(back)} are being ended", "wait for that")

    def _for_kind(self, used: set[int], kind: str) -> str:
        """What to do about there being no free slot for this kind."""
        of_kind = {slot for slot, its in self._kinds.items() if its == kind}
        if not of_kind:
            had = ", ".join(sorted(set(filter(None, self._kinds.values())))) or "none"
            return f"there are agents of kind: {had}; {FOR_KIND.get(kind, 'leave the kind out')}"
        return MORE_SLOTS if of_kind <= used else f"its agent is away: {SEE_LOG}"

    # -- questions and answers ---------------------------------------------------------------------------------

    async def ask(self, replica: int, answer: type[Message], send: Callable[[], object]) -> Message:
        """Send again and again until this comes about the replica. :raises AgentFailed: the agent says so."""
        future = asyncio.get_running_loop().create_future()
        self._answers[answer, replica] = future
        try:
            return await until_answered(future, send)
        finally:
            self._answers.pop((answer, replica), None)

    def answered(self, replica: int, message: Message) -> None:
        """An answer about this replica has come."""
        waiting = self._answers.get((type(message), replica))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def failed(self, replica: int, reason: str) -> None:
        """An agent cannot do what it was asked about this replica."""
        for (_, about), future in list(self._answers.items()):
            if about == replica and not future.done():
                future.set_exception(AgentFailed("agent", reason, SEE_LOG))


def _serves(agent: Session, slot: int) -> bool:
    """Whether the slot is this agent's: one that names none has all of them."""
    return slot in agent.peer.slots or not agent.peer.slots


def certified_name(agent: Session) -> str:
    """The name that certificates of this agent have; empty if it came without one."""
    return agent_name(agent.peer.name) if agent.certified is not None else ""


async def until_answered(future: asyncio.Future[Message], send: Callable[[], object]) -> Message:
    """Send again and again until the answer has come."""
    while True:
        send()
        done, _ = await asyncio.wait([future], timeout=REPEAT)
        if done:
            return future.result()
