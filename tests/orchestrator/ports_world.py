"""Replicas' guests, the registrar and what tells buckets from mixed ones, joined by links that are slow: no I/O.

The switch is a table; moves are carried out message by message, as `orchestrator.migration` does at its best. What is
under test is real: guests, `Registrar`, `Placement`, `Locks`, `Owned`, `Endings`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast

from guestlib import FlowExists, FlowMigrated, Guest
from guestlib.instructions import Instruction, ToOrchestrator, ToPeer
from orchestrator.moves.placement import Locks, Placement
from orchestrator.moves.registrar import Registrar
from orchestrator.ownership.endings import Endings
from orchestrator.ownership.owned import Owned
from splitmerge import messages as m
from splitmerge.colocation import Outside, PortRange, choose
from splitmerge.flowkey import UDP, FlowKey
from tests.guestlib.conftest import Count

SERVER = bytes((198, 51, 100, 7))
OUTSIDE = Outside(bytes((192, 0, 2, 1)), SERVER, 53, UDP)
PORTS = PortRange(1024, 8191)
"""Few enough that two replicas that find one free in a bucket soon find the same."""


def inside(number: int) -> FlowKey:
    return FlowKey.of(UDP, bytes((10, 0, 1, 1 + number // 60000)), 1000 + number % 60000, SERVER, 53)


def flows_of_buckets(buckets: int, each: int) -> dict[int, list[FlowKey]]:
    """So many flows in each of so many buckets."""
    found: dict[int, list[FlowKey]] = {}
    number = 0
    while len(found) < buckets or any(len(flows) < each for flows in found.values()):
        key = inside(number)
        if key.bucket in found or len(found) < buckets:
            flows = found.setdefault(key.bucket, [])
            if len(flows) < each:
                flows.append(key)
        number += 1
    return found


async def _nothing_waits(replica: int, keys: Collection[bytes]) -> None:
    raise AssertionError(f"{len(keys)} keys had packets before replica {replica} asked for them")


class World:
    """``flows``: by bucket; the buckets are spread over the replicas."""

    def __init__(self, flows: Mapping[int, list[FlowKey]], replicas: tuple[int, ...] = (1, 2, 3)) -> None:
        self.flows = flows
        self.replicas = replicas
        self.guests = {replica: self._guest(replica) for replica in replicas}
        self.down: dict[int, deque[m.Message]] = {replica: deque() for replica in replicas}
        self.up: dict[int, deque[m.Message]] = {replica: deque() for replica in replicas}
        self.buckets = {bucket: replicas[at % len(replicas)] for at, bucket in enumerate(flows)}
        self.entries: dict[bytes, int] = {}
        self.now = 0.0
        self.refused = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self._numbers = iter(range(1, 1 << 30))
        self._moves: dict[int, SimpleNamespace] = {}
        self._answers: dict[tuple[int, int], asyncio.Future[m.Message]] = {}
        self.placement, self.locks = Placement(self.buckets), Locks()
        mover = cast(
            Any, SimpleNamespace(locks=self.locks, running=lambda: list(self._moves.values()), wait=self._over)
        )
        self.owned = Owned(self.placement, mover, self._send)
        self.placement.on_whole = self.owned.may_be_whole
        journal = cast(Any, SimpleNamespace(place_second=lambda *_: None, forget=lambda *_: None))
        network = cast(Any, self)
        self.registrar = Registrar(
            journal, self.placement, self.locks, network, self._over, self._keeps, _nothing_waits,
            self.owned.may_be_mixed,
        )  # fmt: skip
        self.endings = Endings(journal, self.placement, mover, network, self._bring_home, self._holds, self._later)
        for replica in replicas:
            self.owned.tell(replica)
            self.hear(replica)

    def _guest(self, replica: int) -> Guest:
        guest = Guest()
        guest.register_state(Count)
        guest.on_refused(self._refused)
        guest.begin(replica, f"i{replica}")
        return guest

    def _refused(self, guest: Guest, key: FlowKey, second: FlowKey) -> None:
        self.refused += 1
        if guest.has_flow(key):
            guest.delete_flow(key)

    # -- the switch ------------------------------------------------------------------------------------------

    def waiting(self, keys: Iterable[bytes]) -> frozenset[bytes]:
        """No packet comes before its key has an entry."""
        return frozenset()

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        await asyncio.sleep(0)
        self.entries.update(keys)

    async def forget(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.entries.pop(key, None)

    def leads(self, key: FlowKey) -> int:
        return self.entries.get(key, self.buckets.get(key.bucket, 0))

    # -- links -----------------------------------------------------------------------------------------------

    def _send(self, replica: int, message: m.Message) -> None:
        self.down[replica].append(message)

    def hear(self, replica: int) -> None:
        """The replica takes one message."""
        if self.down[replica]:
            self._carry_out(replica, self.guests[replica].handle(self.down[replica].popleft(), self.now))

    def say(self, replica: int) -> None:
        """The orchestrator takes one message of the replica's."""
        if not self.up[replica]:
            return
        match self.up[replica].popleft():
            case m.AddKeys() as asked:
                self._later(self.registrar.add(replica, asked, lambda answer: self._send(replica, answer)))
            case m.FlowsGone(keys=keys):
                self.registrar.gone(replica, keys)
                self._later(self.endings.gone(replica, keys))
            case m.AllStaged():
                pass  # here the source's word of it decides
            case message:
                number = getattr(message, "request", 0) if isinstance(message, m.FlowList | m.Related) else 0
                waiting = self._answers.pop((replica, number or getattr(message, "epoch", 0)), None)
                if waiting is not None:
                    waiting.set_result(message)

    def poll(self, replica: int) -> None:
        """Time passes for a replica."""
        self.now += 0.1
        guest = self.guests[replica]
        self._carry_out(replica, guest.poll(self.now))
        if (gone := guest.take_gone()) is not None:
            self.up[replica].append(gone)

    def _carry_out(self, replica: int, steps: list[Instruction]) -> None:
        for step in steps:
            match step:
                case ToOrchestrator(message):
                    self.up[replica].append(message)
                case ToPeer(address, message):
                    *told, reply = self.guests[int(address)].handle(message, self.now)
                    self._carry_out(int(address), told)
                    self._carry_out(replica, self.guests[replica].handle(cast(Any, reply).message, self.now))

    async def _ask(self, replica: int, number: int, message: m.Message) -> m.Message:
        self._answers[replica, number] = answer = asyncio.get_running_loop().create_future()
        self._send(replica, message)
        return await answer

    async def _keeps(self, replica: int, wanted: m.SecondKey) -> bool:
        number = next(self._numbers)
        answer = await self._ask(replica, number, m.Claim(request=number, key=wanted.key, flow=wanted.flow))
        return wanted.key in cast(m.FlowList, answer).keys

    async def _holds(self, replica: int, key: bytes) -> bool:
        return self.guests[replica].has_flow(key)

    def _later(self, work: Any, name: str = "") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        task.result()

    # -- moves -----------------------------------------------------------------------------------------------

    async def _over(self, epoch: int) -> None:
        if (move := self._moves.get(epoch)) is not None:
            await move.over.wait()

    async def _bring_home(self, source: int, target: int, keys: Iterable[bytes]) -> None:
        await self._move(m.Scope(keys=tuple(keys)), source, target, commit=True)

    def move(self, scope: m.Scope, source: int, target: int, *, commit: bool = True) -> None:
        """Begin a move, as a task."""
        if source != target:
            self._later(self._move(scope, source, target, commit=commit))

    def _mine(self, scope: m.Scope, source: int) -> m.Scope:
        buckets = self.placement.scope_of_buckets(scope.buckets, source)
        keys = {key for key in scope.keys if self.placement.owner(key) == source}
        return m.Scope(keys=tuple(sorted(keys.union(buckets.keys))), buckets=buckets.buckets)

    async def _whole(self, scope: m.Scope, source: int) -> m.Scope | None:
        """None: something that goes along is not the source's to give away, or not yet."""
        related = await self._related(scope, source)
        if self.placement.elsewhere(source, related.keys):
            return None
        return m.Scope(keys=tuple(sorted({*scope.keys, *related.keys})), buckets=scope.buckets)

    async def _related(self, scope: m.Scope, source: int, patience: float | None = None) -> m.Related:
        number = next(self._numbers)
        return cast(
            m.Related, await self._ask(source, number, m.Relate(request=number, scope=scope, patience=patience))
        )

    async def _move(self, wanted: m.Scope, source: int, target: int, *, commit: bool) -> None:
        while (scope := self._mine(wanted, source)) != m.Scope():
            if (holder := self.locks.holder(scope)) is not None:
                await self._over(holder)
                continue
            with self.registrar.planning(scope):
                whole = await self._whole(scope, source)
                if whole is not None and self.locks.holder(whole) is None and self._mine(wanted, source) == scope:
                    await self._carry(next(self._numbers), whole, source, target, commit=commit)
                    return
            if whole is None:  # what is asked for the flows of a scope must not wait for whoever waits for that
                await self._related(scope, source, patience=1.0)

    async def _carry(self, epoch: int, scope: m.Scope, source: int, target: int, *, commit: bool) -> None:
        self.locks.take(epoch, scope)
        self._moves[epoch] = SimpleNamespace(plan=SimpleNamespace(scope=scope, target=target), over=asyncio.Event())
        export = m.Export(epoch=epoch, scope=scope, target=target, address=str(target), deadline=0.2, late="never")
        exported = await self._ask(source, epoch, export)
        if commit and isinstance(exported, m.Exported) and not exported.pinned:
            whole = self.placement.whole_with(scope, target)
            await self._ask(target, epoch, m.Commit(epoch=epoch, scope=scope, hold=False, whole=whole))
            self.entries.update(dict.fromkeys(scope.keys, target))
            self.buckets.update(dict.fromkeys(scope.buckets, target))
            await self._ask(source, epoch, m.Release(epoch=epoch, scope=scope))
            self.placement.own(scope.buckets, target)
            self.placement.place(dict.fromkeys(scope.keys, target))
        else:
            await self._ask(source, epoch, m.Thaw(epoch=epoch, scope=scope, hold=False))
            await self._ask(target, epoch, m.Discard(epoch=epoch))
        self.locks.free(epoch)
        self._moves.pop(epoch).over.set()
        self.owned.tell_the_rest()
        self.owned.may_be_mixed(source, target)

    # -- flows -----------------------------------------------------------------------------------------------

    def begin(self, key: FlowKey, start: int, group: str = "") -> None:
        """A packet of a flow inside comes to whom it leads to: it begins there, or gets one more port."""
        replica = self.leads(key)
        guest = self.guests[replica]
        found = guest.colocated_port(OUTSIDE, key, PORTS, start)
        if found is None:
            return
        try:
            if guest.has_flow(key):
                guest.add_alias(key, found[1])
            else:
                guest.create_flow(key, Count(), aliases=[found[1]], group=group)
        except (FlowMigrated, FlowExists):
            return

    def expect(self, replica: int, home: FlowKey, start: int, group: str = "", *, away: bool = False) -> None:
        """A flow is expected outside, at any replica. ``away``: in that bucket, though others are here."""
        guest = self.guests[replica]
        if away:
            found = choose(OUTSIDE, home.bucket, PORTS, guest.has_flow, start)
        else:
            found = guest.colocated_port(OUTSIDE, home, PORTS, start)
        try:
            if found is not None:
                guest.create_flow(found[1], Count(), group=group, expected=True)
        except (FlowMigrated, FlowExists):
            return

    def end(self, replica: int, number: int) -> None:
        """One of the replica's flows ends."""
        flows = sorted(flow.key for flow in self.guests[replica].table.flows())
        if flows:
            self.guests[replica].delete_flow(flows[number % len(flows)])

    def check(self) -> None:
        """No key is at two replicas that both let its packets out; and where it is its packets come."""
        found: dict[bytes, int] = {}
        for replica, guest in self.guests.items():
            guest.table.validate_state()
            for key, flow in guest.table.active.items():
                if key in (flow.pending or ()):
                    continue
                assert found.setdefault(key, replica) == replica, f"{FlowKey(key)} is at {found[key]} and {replica}"
                if self._settled(key, flow.key) and key != flow.key:
                    assert self.leads(FlowKey(key)) == replica, f"{FlowKey(key)} of {replica} leads elsewhere"

    def _settled(self, *keys: bytes) -> bool:
        return self.locks.holder(m.Scope(keys=keys)) is None

    async def settle(self) -> None:
        """Everything arrives."""
        quiet = 0
        for _ in range(2000):
            quiet = 0 if self.tasks or any(self.up.values()) or any(self.down.values()) else quiet + 1
            if quiet > 4:  # what is to be told or asked again has been
                break
            for replica in self.replicas:
                self.poll(replica)
                while self.down[replica] or self.up[replica]:  # questions are repeated faster than one is taken
                    self.hear(replica)
                    self.say(replica)
            await asyncio.sleep(0)
        self.check()
        assert not self.tasks and not any(self.up.values())
