"""Exactly one owner of every flow, whatever the control network does to the messages.

Three guests, a model orchestrator that journals one decision per move, and links that lose, repeat, delay and reorder.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from guestlib import FlowMigrated, FlowMissing, Guest
from guestlib.instructions import Instruction, Reply, ToOrchestrator, ToPeer
from splitmerge import wire
from splitmerge.messages import (
    AllStaged,
    Commit,
    Committed,
    Discard,
    Discarded,
    Export,
    Exported,
    Message,
    Refused,
    Release,
    Released,
    Scope,
    Thaw,
    Thawed,
)
from splitmerge.tag import Tag, TagKind
from tests.guestlib.conftest import Count, frame_of, key_of

REPLICAS = (1, 2, 3)
ORCHESTRATOR = 0


def _flows_sharing_buckets() -> list[int]:
    """Six flow numbers, of which two pairs share a bucket."""
    seen: dict[int, int] = {}
    pairs: list[int] = []
    number = 0
    while len(pairs) < 4:
        other = seen.setdefault(key_of(number).bucket, number)
        if other != number:
            pairs += [other, number]
        number += 1
    return [*pairs, number + 1, number + 2]


FLOWS = _flows_sharing_buckets()
ALIASED = FLOWS[-1]
ALIAS = key_of(60000)


def _roundtrip(message: Message) -> Message:
    decoder = wire.Decoder()
    decoder.receive_data(wire.encode(message))
    decoded = decoder.next_message()
    assert decoded is not None
    return decoded


@dataclass
class Move:
    epoch: int
    source: int
    target: int
    scope: Scope
    flows: list[int]
    commit: bool | None = None  # the journalled decision
    pinned: set[bytes] = field(default_factory=set)
    left: set[str] = field(default_factory=set)  # requests of the decision without an answer
    done: bool = False

    def requests(self) -> list[tuple[int, Message]]:
        """What the orchestrator repeats now."""
        if self.commit is None:
            export = Export(
                epoch=self.epoch, scope=self.scope, target=self.target, address=str(self.target), deadline=1.0
            )
            return [(self.source, export)]
        if "commit" in self.left:
            return [(self.target, Commit(epoch=self.epoch, scope=self.scope))]
        if "release" in self.left:
            return [(self.source, Release(epoch=self.epoch, scope=self.scope))]
        thaw = (self.source, Thaw(epoch=self.epoch, scope=self.scope))
        discard = (self.target, Discard(epoch=self.epoch))
        return [thaw] * ("thaw" in self.left) + [discard] * ("discard" in self.left)


class Cluster(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.guests: dict[int, Guest] = {}
        self.flying: list[tuple[int, int, Message]] = []  # (from, to, message)
        self.moves: dict[int, Move] = {}
        self.epoch = 0
        self.home = dict.fromkeys(FLOWS, 1)
        self.bucket_home: dict[int, int] = defaultdict(lambda: 1)
        self.packets = dict.fromkeys(FLOWS, 0)
        self.armed: dict[int, float] = {}
        self.refs: list[tuple[int, int]] = []
        self.alive: set[int] = set()

    @initialize()
    def start(self) -> None:
        # Small, so that a few flows are many: several slices, several parts, a window that closes.
        self.patch = pytest.MonkeyPatch()
        for name in ("exports.SLICE", "target.SLICE", "exports.PART_FLOWS", "exports.WINDOW"):
            self.patch.setattr(f"guestlib.moves.{name}", 1)
        for replica in REPLICAS:
            guest = Guest()
            guest.register_state(Count)
            guest.on_timer("t", self._fired)
            guest.begin(replica, f"incarnation {replica}")
            guest.now = self.now
            self.guests[replica] = guest
        for flow in FLOWS:
            self._create(flow)

    def _create(self, flow: int) -> None:
        aliases = [ALIAS] if flow == ALIASED else []
        self.guests[self.home[flow]].create_flow(key_of(flow), Count(), aliases=aliases)
        self.packets[flow] = 0
        self.alive.add(flow)

    def _fired(self, guest: Guest, key: bytes) -> None:
        flow = next(flow for flow in FLOWS if key_of(flow) == key)
        assert self.now >= self.armed.pop(flow), "too early, or a second time"
        assert guest.has_flow(key)

    def _owners(self, flow: int) -> list[int]:
        return [replica for replica, guest in self.guests.items() if guest.has_flow(key_of(flow))]

    def _moving(self, flow: int) -> bool:
        return any(flow in move.flows for move in self.moves.values() if not move.done)

    # -- carrying out --------------------------------------------------------------------------------------

    def _carry_out(self, origin: int, peer: int, steps: list[Instruction]) -> None:
        for step in steps:
            match step:
                case ToOrchestrator(message):
                    self.flying.append((origin, ORCHESTRATOR, message))
                case ToPeer(address, message):
                    self.flying.append((origin, int(address), message))
                case Reply(message):
                    self.flying.append((origin, peer, message))
                case other:
                    raise AssertionError(other)

    def _arrive(self, origin: int, to: int, message: Message) -> None:
        message = _roundtrip(message)
        if to == ORCHESTRATOR:
            self._decide(origin, message)
        else:
            self._carry_out(to, origin, self.guests[to].handle(message, self.now))

    def _decide(self, origin: int, message: Message) -> None:
        move = self.moves[message.epoch]
        match message:
            case AllStaged() if move.commit is None:
                self._journal(move, commit=True)
            case Exported(pinned=pinned) if move.commit is None:
                move.pinned = set(pinned)
                self._journal(move, commit=True)
            case Exported(pinned=pinned):
                assert not move.commit or move.pinned == set(pinned), "the target said that all was there"
            case Refused(request="Export") if move.commit is None:
                self._journal(move, commit=False)
            case Refused(request=request) if move.commit is not None and not move.done:
                assert request == "Export", f"the decision was refused: {message}"
            case Committed():
                self._answered(move, "commit")
            case Released():
                self._answered(move, "release")
            case Thawed():
                self._answered(move, "thaw")
            case Discarded():
                self._answered(move, "discard")

    def _journal(self, move: Move, *, commit: bool) -> None:
        move.commit = commit
        move.left = {"commit", "release"} if commit else {"thaw", "discard"}

    def _answered(self, move: Move, what: str) -> None:
        move.left.discard(what)
        if move.left or move.done:
            return
        move.done = True
        owner = move.target if move.commit else move.source
        end = Tag(TagKind.END, move.epoch, 1).push(frame_of(0))
        assert self.guests[owner].plane.handle(end, self.now) == []
        if move.commit:
            self.home.update({flow: move.target for flow in move.flows if bytes(key_of(flow)) not in move.pinned})
            self.bucket_home.update(dict.fromkeys(move.scope.buckets, move.target))

    def _begin(self, source: int, target: int, scope: Scope, flows: list[int]) -> None:
        self.epoch += 1
        move = self.moves[self.epoch] = Move(self.epoch, source, target, scope, flows)
        self._send_requests(move)

    def _send_requests(self, move: Move) -> None:
        self.flying += [(ORCHESTRATOR, to, message) for to, message in move.requests()]

    # -- rules ---------------------------------------------------------------------------------------------

    @rule(flow=st.sampled_from(FLOWS), more=st.sampled_from(FLOWS), hop=st.integers(1, 2))
    def move_keys(self, flow: int, more: int, hop: int) -> None:
        source = self.home[flow]
        flows = [f for f in {flow, more} if self.home[f] == source]
        if any(map(self._moving, flows)):
            return
        keys = tuple(bytes(key_of(f)) for f in flows)
        self._begin(source, (source + hop - 1) % 3 + 1, Scope(keys=keys), flows)

    @rule(flow=st.sampled_from(FLOWS[:-1]), hop=st.integers(1, 2))
    def move_bucket(self, flow: int, hop: int) -> None:
        bucket = key_of(flow).bucket
        flows = [f for f in FLOWS if key_of(f).bucket == bucket]
        if any(map(self._moving, flows)):
            return
        source = self.bucket_home[bucket]
        moved = [f for f in flows if self.home[f] == source]
        self._begin(source, (source + hop - 1) % 3 + 1, Scope(buckets=(bucket,)), moved)

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 1000))
    def deliver(self, which: int) -> None:
        self._arrive(*self.flying.pop(which % len(self.flying)))

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 1000))
    def duplicate(self, which: int) -> None:
        self._arrive(*self.flying[which % len(self.flying)])

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 1000))
    def lose(self, which: int) -> None:
        self.flying.pop(which % len(self.flying))

    @rule()
    def repeat_requests(self) -> None:
        for move in self.moves.values():
            if not move.done:
                self._send_requests(move)

    @rule(which=st.integers(0, 1000))
    def give_up(self, which: int) -> None:
        undecided = [move for move in self.moves.values() if move.commit is None]
        if undecided:
            move = undecided[which % len(undecided)]
            self._journal(move, commit=False)
            self._send_requests(move)

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for replica, guest in self.guests.items():
            guest.fire_timers(self.now)
            self._carry_out(replica, ORCHESTRATOR, guest.poll(self.now))

    @rule(flow=st.sampled_from(FLOWS), replica=st.sampled_from(REPLICAS), timeout=st.sampled_from([None, 0.3, 1.0]))
    def packet(self, flow: int, replica: int, timeout: float | None) -> None:
        key = ALIAS if flow == ALIASED else key_of(flow)
        guest = self.guests[replica]
        guest.now = self.now
        try:
            with guest.flow(key) as state:
                state.packets += 1
                self.packets[flow] += 1
                if timeout is not None:
                    guest.flow_timer(key, timeout, "t")
                    self.armed[flow] = self.now + timeout
        except (FlowMissing, FlowMigrated):
            assert replica not in self._owners(flow)

    @rule(flow=st.sampled_from(FLOWS))
    def begin_transaction(self, flow: int) -> None:
        for owner in self._owners(flow):
            self.guests[owner].get_flow(key_of(flow))
            self.refs.append((owner, flow))

    @precondition(lambda self: self.refs)
    @rule(which=st.integers(0, 1000))
    def end_transaction(self, which: int) -> None:
        owner, flow = self.refs.pop(which % len(self.refs))
        self.guests[owner].put_flow(key_of(flow))

    @rule(flow=st.sampled_from(FLOWS))
    def delete(self, flow: int) -> None:
        for owner in self._owners(flow):
            self.guests[owner].delete_flow(key_of(flow))
            self.alive.discard(flow)
            self.armed.pop(flow, None)

    @rule(flow=st.sampled_from(FLOWS))
    def create(self, flow: int) -> None:
        if flow not in self.alive and not self._moving(flow) and not any(f == flow for _, f in self.refs):
            self._create(flow)

    # -- properties ----------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_owner(self) -> None:
        for flow in FLOWS:
            owners = self._owners(flow)
            assert len(owners) <= 1
            for owner in owners:
                assert self.guests[owner].table.find(key_of(flow)).state.packets == self.packets[flow]
            if flow in self.alive and not self._moving(flow):
                assert owners == [self.home[flow]]
        for guest in self.guests.values():
            guest.table.validate_state()

    def teardown(self) -> None:
        if not self.guests:
            return
        try:
            self._quiesce()
        finally:
            self.patch.undo()

    def _quiesce(self) -> None:
        while self.refs:
            self.end_transaction(0)
        for _ in range(20):
            self.repeat_requests()
            self.pass_time(0.6)
            while self.flying:
                self.deliver(0)
        assert all(move.done for move in self.moves.values())
        self.at_most_one_owner()
        assert not self.armed, "a timer was lost"


Cluster.TestCase.settings = settings(
    stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


TestCluster = Cluster.TestCase
