"""Who is there: greetings, and the life of a replica between orchestrator and VMM agent."""

from __future__ import annotations

from splitmerge.messages.base import PROTOCOL, Message


class Hello(Message, frozen=True, kw_only=True):
    """First message on a connection, from the side that connected."""

    protocol: int = PROTOCOL
    role: str
    """``replica`` (to the orchestrator), ``peer`` (replica to replica), ``agent`` (VMM agent to the orchestrator)."""
    replica: int = 0
    """Replica id, 1..65535; 0 for agents."""
    name: str = ""
    """For people."""
    address: str = ""
    """Where this replica's peers send state: ``unix:/path`` or ``tcp:host:port``."""
    incarnation: str = ""
    """Differs between two processes that had the same replica id."""
    kind: str = ""
    """Of an agent: what its replicas are, ``process`` or ``vm``."""
    slots: tuple[int, ...] = ()
    """Of an agent: the slots that it makes replicas on; all of them if empty."""


class Welcome(Message, frozen=True, kw_only=True):
    """Answer to `Hello`. ``epoch``: the newest epoch that the answering side knows; older ones are void."""

    protocol: int = PROTOCOL
    epoch: int = 0
    locks: str = ""
    """From the orchestrator: the lock service of SYNCH, ``etcd://host:port``; itself if empty."""
    lease: float = 5.0
    """Seconds that a lock is granted for there."""
    room: int = 0
    """From the orchestrator: frames that a port of the switch keeps until the switch comes to them; 0: not told."""


class Refused(Message, frozen=True, kw_only=True):
    """The request of this epoch was not carried out and changed nothing."""

    epoch: int
    request: str
    """Class name of the request refused."""
    reason: str
    final: bool = False
    """To ask again is of no use while the state of the flows is as it is."""


class CreateReplica(Message, frozen=True, kw_only=True):
    """Orchestrator to agent: restore a replica from the snapshot, on this slot of the topology."""

    request: int
    replica: int
    slot: int
    """Slot of the topology: names the network namespace and so the switch port."""


class ReplicaCreated(Message, frozen=True, kw_only=True):
    """Agent to orchestrator: the process (or VM) runs. The replica itself says `Hello` when it is ready."""

    request: int
    replica: int
    pid: int = 0


class DestroyReplica(Message, frozen=True, kw_only=True):
    """Orchestrator to agent: end it (after it has merged; SIGTERM, then SIGKILL at the deadline)."""

    request: int
    replica: int
    deadline: float = 5.0


class ReplicaGone(Message, frozen=True, kw_only=True):
    """Agent to orchestrator: it has ended, asked for or not."""

    request: int = 0
    replica: int
    status: str
    """``exit 0``, ``exit 1``, ``signal SIGKILL`` …"""


class AgentError(Message, frozen=True, kw_only=True):
    """Agent to orchestrator: the request failed and left nothing behind."""

    request: int
    reason: str


class Finish(Message, frozen=True, kw_only=True):
    """Orchestrator to replica: no more packets will come. Run the combiners, push, and exit."""

    request: int


class Finished(Message, frozen=True, kw_only=True):
    request: int
