"""SYNCH on both sides: clients, the lock service with its journal, and messages on links that do what they like."""

from __future__ import annotations

from collections.abc import Callable

from guestlib import SYNCH, Guest, LockLost
from guestlib.coherence.history import Operation, Outcome, check_linearizable, operations_of
from guestlib.instructions import Await, Instruction, ToLocks, Waiting
from orchestrator.coherence.hub import Tell
from orchestrator.coherence.locks import LEASE, KeepLock, LockRow, Locks, Step
from splitmerge.errors import Timeout
from splitmerge.messages import Message
from tests.guestlib.conftest import Count
from tests.guestlib.lossy import LossyWorld

KEY = "k"


def make(replica: int = 1) -> Guest:
    guest = Guest()
    guest.register_state(Count)
    guest.create_shared(KEY, Count())
    guest.begin(replica, f"i{replica}")
    return guest


def said(steps: list[Instruction]) -> list[Message]:
    assert all(isinstance(step, ToLocks) for step in steps)
    return [step.message for step in steps]


class Client:
    """A replica that runs transactions one after another. While ``paused`` it does nothing at all."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.guest = make(number)
        self.paused = False
        self.sequence: Waiting | None = None
        self.awaited: Await | None = None
        self.value: Count | None = None
        self.events: dict[str, tuple[float, object]] = {}


class World(LossyWorld):
    """Clients, a lock service with its journal, and messages on their way."""

    def __init__(self, service: Callable[..., Locks] = Locks) -> None:
        super().__init__()
        self.service = service
        self.locks = service()
        self.journal: dict[str, LockRow] = {}
        self.clients = {number: Client(number) for number in (1, 2, 3)}
        self.clients_ever = len(self.clients)
        self.unburied: list[int] = []
        """Replicas that have crashed, which the service does not know yet."""
        self.written = 0
        self.operations: list[Operation] = []

    # What clients do.

    def get(self, client: Client) -> None:
        client.events = {"begin": (self._tick(), KEY)}
        client.sequence = client.guest.coherent.get(KEY, SYNCH, self.now, 5.0)
        self._go_on(client, next)

    def put(self, client: Client) -> None:
        assert client.value is not None
        self.written += 1
        client.value.packets = self.written
        client.value = None
        client.events["write"] = (self._tick(), self.written)
        client.sequence = client.guest.coherent.write(KEY, self.now)
        self._go_on(client, next)

    def drop(self, client: Client) -> None:
        client.guest.drop_shared(KEY)
        client.value = None
        self._over(client)

    def time_out(self, client: Client) -> None:
        self._go_on(client, lambda sequence: sequence.throw(Timeout("the test", 1.0)))

    def _go_on(self, client: Client, how: Callable[[Waiting], Await]) -> None:
        assert client.sequence is not None
        try:
            client.awaited = how(client.sequence)
        except StopIteration as stop:
            client.sequence = client.awaited = None
            self._got(client, stop.value) if "read" not in client.events else self._over(client, Outcome.WRITTEN)
        except LockLost:
            self._over(client, Outcome.NOT_WRITTEN)
        except Timeout:
            self._over(client, Outcome.UNKNOWN)
        else:
            self._send(client, client.awaited.steps)

    def _got(self, client: Client, found: Count) -> None:
        client.value = found
        client.events["read"] = (self._tick(), found.packets)

    def _over(self, client: Client, outcome: Outcome | None = None) -> None:
        client.sequence = client.awaited = None
        if outcome is not None:
            client.events["end"] = (self._tick(), outcome.value)
        self.operations += operations_of(str(client.number), client.events)
        client.events = {}

    def crash(self, client: Client) -> None:
        del self.clients[client.number]
        self.unburied.append(client.number)
        if client.events:
            self._over(client)
        self.clients_ever += 1
        self.clients[self.clients_ever] = Client(self.clients_ever)

    # What the service and the network do.

    def bury(self, which: int = 0) -> None:
        self._do(self.locks.gone(self.unburied.pop(which), self.now))

    def crash_service(self) -> None:
        self.locks = self.service(kept=self.journal.items())
        self.locks.restart(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for client in self.clients.values():
            if not client.paused:
                self._send(client, client.guest.poll(self.now))
        self._do(self.locks.tick(self.now))

    def deliver(self, index: int, *, keep: bool = False) -> None:
        replica, message, to_replica = self.flying[index]
        client = self.clients.get(replica)
        if to_replica and client is not None and client.paused:
            return  # it waits in the socket
        if not keep:
            del self.flying[index]
        if not to_replica:
            if client is not None or replica in self.unburied:  # as `SharedState.handle`
                self._do(self.locks.handle(replica, message, self.now))
        elif client is not None:
            self._send(client, client.guest.handle(message, self.now))
            if client.awaited is not None and client.awaited.done():
                self._go_on(client, lambda sequence: sequence.send(self.now))

    def _send(self, client: Client, steps: list[Instruction]) -> None:
        self.flying += [(client.number, message, False) for message in said(steps)]

    def _do(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case KeepLock(key, row):
                    self.journal[key] = row
                case Tell(replica, message):
                    self.flying.append((replica, message, True))

    def judge(self) -> None:
        """Everybody comes to an end, one more reads the value, and all of it must be explained.

        Each client may keep the others waiting for one lease, if what it said when it gave up was lost, and so may each
        crashed one that nobody has buried; those that are buried may not.
        """
        for client in self.clients.values():
            client.paused = False
        leases = len(self.clients) + len(self.unburied) + 1
        for _ in range((8 + 1) * leases):  # a lease is given on when time passes the next time
            self.deliver_all()
            for client in list(self.clients.values()):
                if client.value is not None:
                    self.put(client)
            self.pass_time(LEASE / 8)
        assert not any(client.events for client in self.clients.values()), "somebody waits for ever"
        last = next(iter(self.clients.values()))
        self.get(last)
        self.deliver_all()
        assert last.value is not None
        self.drop(last)
        assert check_linearizable(self.operations, 0) is not None, "\n".join(map(str, self.operations))
