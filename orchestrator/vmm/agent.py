"""What a VMM agent answers and does, whatever a replica is made of: sans-IO.

Requests are idempotent by replica: a second CreateReplica for a living one is answered like the first, a DestroyReplica
for one that has ended says how it ended. Ids are never used twice, so what has ended is not created again.

    core.handle(CreateReplica(…)) -> [Create(replica, slot)]      then core.created(replica, pid) or core.failed(…)
    core.handle(DestroyReplica(…), now) -> [Signal(pid, SIGTERM)]  SIGKILL follows at its deadline (`timer`, `tick`)
    core.ended(pid, status) -> [Tell(ReplicaGone(…))]
    core.greeting() -> what to say on every new connection: who lives, who has ended
"""

from __future__ import annotations

import signal
from collections import OrderedDict
from dataclasses import dataclass

from splitmerge.messages import AgentError, CreateReplica, DestroyReplica, Message, ReplicaCreated, ReplicaGone

REMEMBERED = 1024
"""Ended replicas whose status is kept."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to the orchestrator, if it is there: `AgentCore.greeting` repeats what matters."""

    message: Message


@dataclass(frozen=True, slots=True)
class Create:
    """Make this replica on this slot, and call `AgentCore.created` or `AgentCore.failed`."""

    replica: int
    slot: int
    request: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send this signal to this process (group)."""

    pid: int
    number: signal.Signals


Instruction = Tell | Create | Signal


@dataclass(slots=True)
class _Living:
    pid: int
    slot: int
    kill_at: float | None = None
    request: int = 0
    """Of the DestroyReplica that it is being ended for."""


class AgentCore:
    """Who lives, and who has ended. ``slots``: those there are."""

    def __init__(self, slots: frozenset[int]) -> None:
        self._slots = slots
        self._living: dict[int, _Living] = {}
        self._ended: OrderedDict[int, str] = OrderedDict()

    @property
    def living(self) -> dict[int, int]:
        """replica → pid."""
        return {replica: each.pid for replica, each in self._living.items()}

    @property
    def timer(self) -> float | None:
        """When to call `tick`."""
        return min((each.kill_at for each in self._living.values() if each.kill_at is not None), default=None)

    def greeting(self) -> list[Message]:
        """What the orchestrator may have missed."""
        told: list[Message] = [
            ReplicaCreated(request=replica, replica=replica, pid=each.pid) for replica, each in self._living.items()
        ]
        return told + [ReplicaGone(replica=replica, status=status) for replica, status in self._ended.items()]

    def handle(self, message: Message, now: float) -> list[Instruction]:
        """A request of the orchestrator; other messages are ignored. ``now`` in seconds."""
        match message:
            case CreateReplica():
                return self._create(message)
            case DestroyReplica():
                return self._destroy(message, now)
            case _:
                return []

    def _create(self, request: CreateReplica) -> list[Instruction]:
        replica, slot, number = request.replica, request.slot, request.request
        if (living := self._living.get(replica)) is not None:
            return [Tell(ReplicaCreated(request=number, replica=replica, pid=living.pid))]
        if replica in self._ended:
            return [Tell(AgentError(request=number, reason=f"replica {replica} has ended: {self._ended[replica]}"))]
        if slot not in self._slots:
            return [Tell(AgentError(request=number, reason=f"there is no slot {slot}: {sorted(self._slots)}"))]
        taken = next((other for other, each in self._living.items() if each.slot == slot), None)
        if taken is not None:
            return [Tell(AgentError(request=number, reason=f"slot {slot} has replica {taken}"))]
        return [Create(replica, slot, number)]

    def created(self, create: Create, pid: int) -> list[Instruction]:
        """The process runs."""
        self._living[create.replica] = _Living(pid, create.slot)
        return [Tell(ReplicaCreated(request=create.request, replica=create.replica, pid=pid))]

    def failed(self, create: Create, reason: str) -> list[Instruction]:
        """It could not be made; nothing is left of it."""
        return [Tell(AgentError(request=create.request, reason=reason))]

    def _destroy(self, request: DestroyReplica, now: float) -> list[Instruction]:
        living = self._living.get(request.replica)
        if living is None:
            status = self._ended.get(request.replica, "never lived here")
            return [Tell(ReplicaGone(request=request.request, replica=request.replica, status=status))]
        living.request = request.request
        if living.kill_at is not None:
            return []
        living.kill_at = now + request.deadline
        return [Signal(living.pid, signal.SIGTERM)]

    def destroy_all(self, now: float, deadline: float) -> list[Instruction]:
        """The agent is to end: so are its replicas, by force after ``deadline`` seconds."""
        requests = [DestroyReplica(request=r, replica=r, deadline=deadline) for r in self._living]
        return [instruction for request in requests for instruction in self._destroy(request, now)]

    def tick(self, now: float) -> list[Instruction]:
        """End by force what has not ended in time; again each second, should the signal not do."""
        out: list[Instruction] = []
        for each in self._living.values():
            if each.kill_at is not None and now >= each.kill_at:
                each.kill_at = now + 1.0
                out.append(Signal(each.pid, signal.SIGKILL))
        return out

    def ended(self, pid: int, status: str) -> list[Instruction]:
        """A process has ended; other processes than replicas' are ignored."""
        replica = next((number for number, each in self._living.items() if each.pid == pid), None)
        if replica is None:
            return []
        living = self._living.pop(replica)
        self._ended[replica] = status
        if len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        return [Tell(ReplicaGone(request=living.request, replica=replica, status=status))]
