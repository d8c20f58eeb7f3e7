"""What a VMM agent answers and does, whatever a replica is made of: sans-IO; `orchestrator.vmm.life` is its table.

Requests are idempotent by replica: a second CreateReplica for a living one is answered like the first, a DestroyReplica
for one that has ended says how it ended. Ids are never used twice, so what has ended is not created again.

    core.handle(CreateReplica(…), now) -> [Make(replica, slot)]    then core.made(replica, pid, now) or core.failed(…)
    core.handle(DestroyReplica(…), now) -> [End(replica)]          Kill follows at its deadline (`timer`, `tick`)
    core.ended(replica, status) -> [Tell(ReplicaGone(…))]
    core.greeting() -> what to say on every new connection: who lives, who has ended
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from orchestrator.vmm.life import Action, Event, State, step
from splitmerge.messages import AgentError, CreateReplica, DestroyReplica, Message, ReplicaCreated, ReplicaGone

REMEMBERED = 1024
"""Ended replicas whose status is kept."""
KILL_AGAIN = 1.0
"""Seconds between two tries to end a replica by force."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to the orchestrator, if it is there: `AgentCore.greeting` repeats what matters."""

    message: Message


@dataclass(frozen=True, slots=True)
class Make:
    """Make this replica on this slot; then call `AgentCore.made` or `AgentCore.failed`."""

    replica: int
    slot: int


@dataclass(frozen=True, slots=True)
class End:
    """Ask this replica to end; `AgentCore.ended` follows when it has."""

    replica: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End this replica by force."""

    replica: int


Instruction = Tell | Make | End | Kill


@dataclass(slots=True)
class _Replica:
    slot: int
    state: State = State.ASKED
    pid: int = 0
    create_request: int = 0
    destroy_request: int = 0
    due: float | None = None
    """When it is ended by force."""


class AgentCore:
    """Who lives, and who has ended. ``slots``: those there are."""

    def __init__(self, slots: frozenset[int]) -> None:
        self._slots = slots
        self._here: dict[int, _Replica] = {}
        self._ended: OrderedDict[int, str] = OrderedDict()

    @property
    def living(self) -> dict[int, int]:
        """replica → pid of those made and not ended."""
        return {number: each.pid for number, each in self._here.items() if each.pid}

    @property
    def busy(self) -> bool:
        """Whether there are replicas, or some are being made."""
        return bool(self._here)

    @property
    def timer(self) -> float | None:
        """When to call `tick`."""
        return min((each.due for each in self._here.values() if each.due is not None), default=None)

    def greeting(self) -> list[Message]:
        """What the orchestrator may have missed."""
        told: list[Message] = [
            ReplicaCreated(request=replica, replica=replica, pid=pid) for replica, pid in self.living.items()
        ]
        return told + [ReplicaGone(replica=replica, status=status) for replica, status in self._ended.items()]

    def handle(self, message: Message, now: float) -> list[Instruction]:
        """A request of the orchestrator; other messages are ignored. ``now`` in seconds."""
        match message:
            case CreateReplica():
                return self._create(message, now)
            case DestroyReplica():
                return self._destroy(message, now)
            case _:
                return []

    def _create(self, request: CreateReplica, now: float) -> list[Instruction]:
        replica, slot, number = request.replica, request.slot, request.request
        if replica in self._ended:
            return [Tell(AgentError(request=number, reason=f"replica {replica} has ended: {self._ended[replica]}"))]
        if replica not in self._here:
            if slot not in self._slots:
                return [Tell(AgentError(request=number, reason=f"there is no slot {slot}: {sorted(self._slots)}"))]
            taken = next((other for other, each in self._here.items() if each.slot == slot), None)
            if taken is not None:
                return [Tell(AgentError(request=number, reason=f"slot {slot} has replica {taken}"))]
            self._here[replica] = _Replica(slot)
        self._here[replica].create_request = number
        return self._step(replica, Event.CREATE, now, "it is being ended")

    def _destroy(self, request: DestroyReplica, now: float) -> list[Instruction]:
        here = self._here.get(request.replica)
        if here is None:
            status = self._ended.get(request.replica, "its agent does not know it")
            return [Tell(ReplicaGone(request=request.request, replica=request.replica, status=status))]
        here.destroy_request = request.request
        if here.due is None:
            here.due = now + request.deadline
        return self._step(request.replica, Event.DESTROY, now)

    def destroy_all(self, now: float, deadline: float) -> list[Instruction]:
        """The agent is to end: so are its replicas, by force after ``deadline`` seconds."""
        requests = [DestroyReplica(request=r, replica=r, deadline=deadline) for r in self._here]
        return [instruction for request in requests for instruction in self._destroy(request, now)]

    def tick(self, now: float) -> list[Instruction]:
        """End by force what has not ended in time; again each second, should that not do."""
        out: list[Instruction] = []
        for replica, each in list(self._here.items()):
            if each.due is not None and now >= each.due:
                each.due = now + KILL_AGAIN
                out += self._step(replica, Event.DEADLINE, now)
        return out

    def made(self, replica: int, pid: int, now: float) -> list[Instruction]:
        """It runs, as this process (or in this process of QEMU's)."""
        self._here[replica].pid = pid
        return self._step(replica, Event.MADE, now)

    def failed(self, replica: int, reason: str, now: float) -> list[Instruction]:
        """It could not be made; nothing is left of it."""
        return self._step(replica, Event.FAILED, now, reason)

    def ended(self, replica: int, status: str, now: float) -> list[Instruction]:
        """It has ended, asked to or not."""
        return self._step(replica, Event.ENDED, now, status)

    def _step(self, replica: int, event: Event, now: float, said: str = "") -> list[Instruction]:
        here = self._here[replica]
        here.state, action = step(replica, here.state, event)
        if here.state in (State.GONE, State.FAILED):
            del self._here[replica]
        if here.state is State.GONE:
            self._ended[replica] = said
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
        match action:
            case Action.MAKE:
                return [Make(replica, here.slot)]
            case Action.END:
                return [End(replica)]
            case Action.KILL:
                return [Kill(replica)]
            case Action.SAY_CREATED:
                return [Tell(ReplicaCreated(request=here.create_request, replica=replica, pid=here.pid))]
            case Action.SAY_GONE:
                return [Tell(ReplicaGone(request=here.destroy_request, replica=replica, status=said))]
            case Action.SAY_ERROR:
                return [Tell(AgentError(request=here.create_request, reason=said))]
            case _:
                return []
