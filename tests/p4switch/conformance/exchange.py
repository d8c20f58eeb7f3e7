"""A P4Runtime session, played to any server and written down answer by answer.

The session is ours; the recording beside it, ``exchange.json``, is what a real ``simple_switch_grpc`` answered. Record
it again, from the repository's root, with that on PATH::

    python -m tests.p4switch.conformance.exchange

Answers are canonical: match fields and parameters by id, entities sorted, no message texts, no times, no list ids.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from finsy.proto import p4r

from tests.p4switch.conformance.harness import CONFIGS, DEADLINE, HERE, NAMES, Wire, simple_switch_grpc
from tests.p4switch.conformance.messages import (
    between,
    choice,
    clones,
    counter,
    digest,
    failure,
    group,
    lpm,
    member,
    meter,
    multicast,
    one_shot,
    optional,
    packet_out,
    plain,
    sort_key,
    ternary,
)
from tests.p4switch.p4runtime.conftest import Client, Names
from topo import bmv2

RECORDING = HERE / "exchange.json"
Answer: TypeAlias = Any
_BODY = b"\x02\0\0\0\0\x0a\x02\0\0\0\0\x0b\x12\x34"


class Session:
    """Steps played to one server."""

    def __init__(self, address: str, wire: Wire) -> None:
        self.address = address
        self.wire = wire
        self.steps: list[tuple[str, Answer]] = []
        self.client = Client(address)
        self._clients = [self.client]

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def other(self) -> Client:
        """One more client."""
        self._clients.append(Client(self.address))
        return self._clients[-1]

    def step(self, name: str, call: Callable[[], Answer]) -> None:
        """Do it and note the answer."""
        try:
            answer = call()
        except grpc.RpcError as error:
            assert error.code() is not grpc.StatusCode.UNAVAILABLE, f"the server is gone after {name!r}"
            answer = failure(error)
        self.steps.append((name, answer))

    def write(self, name: str, kind: str, *entities: p4r.Entity, atomicity: int = 0) -> None:
        """A Write of updates of one kind."""
        updates = [p4r.Update(type=kind, entity=entity) for entity in entities]
        self.step(name, lambda: self.client.write(*updates, atomicity=atomicity))

    def read(self, name: str, *queries: p4r.Entity) -> None:
        """A Read."""
        self.step(name, lambda: sorted((plain(entity) for entity in self.client.read(*queries)), key=sort_key))

    def hears(self, name: str, client: Client) -> None:
        """What the stream of a client says next."""

        def call() -> Answer:
            item = client.responses.get(timeout=DEADLINE)
            return plain(item) if isinstance(item, p4r.StreamMessageResponse) else {"ended": item.code().name}

        self.step(name, call)

    def packets(self, name: str, port: int, frame: bytes, wanted: int = 1) -> None:
        """What comes out of the ports for a frame."""
        self.step(name, lambda: [[out, got.hex()] for out, got in self.wire.answers(port, frame, wanted)])


# -- the session -----------------------------------------------------------------------------------------------------


def play(address: str, wire: Wire) -> list[tuple[str, Answer]]:
    """The whole session: (step, answer)."""
    with contextlib.closing(Session(address, wire)) as session:
        _before_any_pipeline(session)
        _pipelines(session)
        _tables(session)
        _arrays(session)
        _profiles(session)
        _replication(session)
        _streams(session)
        _matching(session)
        _redirects(session)
        _splitmerge(session)
        _arbitration(session)
        return session.steps


def _before_any_pipeline(s: Session) -> None:
    names = NAMES["entities"]
    s.step("capabilities", lambda: plain(s.client.stub.Capabilities(p4r.CapabilitiesRequest(), timeout=DEADLINE)))
    s.step("get without pipeline", lambda: _get(s, "ALL"))
    s.write("write without arbitration and pipeline", "INSERT", names.entry("exact_table", b"\1"))
    s.read("read without pipeline", names.entry("exact_table"))
    s.client.arbitrate(10)
    s.hears("first primary", s.client)
    s.write("write without pipeline", "INSERT", names.entry("exact_table", b"\1"))
    backup = s.other()
    backup.arbitrate(9)
    s.hears("backup", backup)
    update = p4r.Update(type="INSERT", entity=names.entry("exact_table", b"\1"))
    s.step("write of a backup", lambda: backup.write(update))
    s.step("pipeline of a backup", lambda: backup.set_pipeline(CONFIGS["entities"]))
    same = s.other()
    same.arbitrate(10)
    s.hears("election id in use", same)
    moved = s.other()
    moved.arbitrate(3)
    s.hears("one more backup", moved)
    moved.arbitrate(3, device_id=7)
    s.hears("device id changed", moved)


def _get(s: Session, kind: str) -> Answer:
    request = p4r.GetForwardingPipelineConfigRequest(device_id=1, response_type=kind)
    config = s.client.stub.GetForwardingPipelineConfig(request, timeout=DEADLINE).config
    known = config.p4_device_config == CONFIGS["entities"].p4_device_config
    return {"cookie": config.cookie.cookie, "tables": len(config.p4info.tables), "same config": known}


def _pipelines(s: Session) -> None:
    config = p4r.ForwardingPipelineConfig()
    config.CopyFrom(CONFIGS["entities"])
    config.cookie.cookie = 0xC00C1E
    s.step("action unspecified", lambda: s.client.set_pipeline(config, "UNSPECIFIED"))
    # No Read follows VERIFY while nothing is committed: it ends the real simple_switch_grpc (1.15.5).
    s.step("verify", lambda: s.client.set_pipeline(config, "VERIFY"))
    s.step("verify and commit", lambda: s.client.set_pipeline(config))
    for kind in ("ALL", "COOKIE_ONLY", "P4INFO_AND_COOKIE", "DEVICE_CONFIG_AND_COOKIE"):
        s.step(f"get {kind}", lambda kind=kind: _get(s, kind))  # type: ignore[misc]  # bound now


def _tables(s: Session) -> None:
    n = NAMES["entities"]
    drop, go, forward = n.action("drop"), n.action("measured", b"\1"), n.action("forward", b"\1")
    match = ternary(b"\x12\0", b"\xff\0"), between(b"\1", b"\x10"), optional(b"\5")
    s.write("insert", "INSERT", n.entry("exact_table", b"\0\0\1", action=go))
    s.write("insert again", "INSERT", n.entry("exact_table", b"\1", action=go))
    s.write("modify", "MODIFY", n.entry("exact_table", b"\1", action=drop, metadata=b"note"))
    s.write("modify what is not there", "MODIFY", n.entry("exact_table", b"\2", action=drop))
    s.write("delete what is not there", "DELETE", n.entry("exact_table", b"\2"))
    s.write(
        "a batch, some wrong",
        "INSERT",
        n.entry("exact_table", b"\2", action=drop),
        n.entry("exact_table", b"\2", action=go),
        n.entry("exact_table", b"\3", action=n.action("spread", b"\1\0")),
        n.entry("exact_table", action=drop),
    )
    wrong = {
        "value too wide": n.entry("exact_table", b"\1" * 7, action=drop),
        "kind of match": n.entry("exact_table", ternary(b"\1", b"\1"), action=drop),
        "field unknown": n.entry("exact_table", b"\4", b"\4", action=drop),
        "table unknown": p4r.Entity(table_entry=p4r.TableEntry(table_id=33554431)),
        "table unset": p4r.Entity(table_entry=p4r.TableEntry()),
        "no action": n.entry("exact_table", b"\4"),
        "action unknown": n.entry("exact_table", b"\4", action=p4r.Action(action_id=1)),
        "action of another table": n.entry("exact_table", b"\4", action=n.action("learn")),
        "action default only": n.entry("exact_table", b"\4", action=n.action("only_default")),
        "parameter missing": n.entry("exact_table", b"\4", action=n.action("measured")),
        "parameter too wide": n.entry("exact_table", b"\4", action=n.action("measured", b"\2\0")),
        "parameter too many": n.entry("exact_table", b"\4", action=n.action("measured", b"\1", b"\1")),
        "priority of exact": n.entry("exact_table", b"\4", action=drop, priority=1),
        "priority missing": n.entry("ternary_table", *match, action=forward),
        "priority negative": n.entry("ternary_table", *match, action=forward, priority=-1),
        "ternary don't care": n.entry("ternary_table", ternary(b"\0", b"\0"), None, None, action=drop, priority=1),
        "ternary outside mask": n.entry("ternary_table", ternary(b"\3", b"\1"), None, None, action=drop, priority=1),
        "range reversed": n.entry("ternary_table", None, between(b"\2", b"\1"), None, action=drop, priority=1),
        "range don't care": n.entry("ternary_table", None, between(b"\0", b"\xff"), None, action=drop, priority=1),
        "lpm don't care": n.entry("lpm_table", lpm(b"\0", 0), b"\1", action=forward),
        "lpm too long": n.entry("lpm_table", lpm(b"\1", 33), b"\1", action=forward),
        "lpm trailing bits": n.entry("lpm_table", lpm(b"\1", 8), b"\1", action=forward),
        "idle timeout unsupported": n.entry("lpm_table", None, b"\1", action=forward, idle_timeout_ns=5),
        "const table": n.entry("fixed_table", b"\7", action=forward),
        "default by insert": n.entry("exact_table", is_default_action=True, action=drop),
    }
    for name, entity in wrong.items():
        s.write(f"insert refused: {name}", "INSERT", entity)
    s.write(
        "every kind of match",
        "INSERT",
        n.entry("lpm_table", lpm(b"\x0a\0\0\0", 8), b"\1", action=forward),
        n.entry("lpm_table", None, b"\1", action=drop),
        n.entry("ternary_table", *match, action=forward, priority=3),
        n.entry("ternary_table", None, None, None, action=drop, priority=1),
        n.entry("exact_table", b"\4", action=go, idle_timeout_ns=10**12, metadata=b"m"),
    )
    default = n.entry("exact_table", is_default_action=True)
    s.read("default entry at first", default)
    s.write("default entry", "MODIFY", n.entry("exact_table", is_default_action=True, action=go))
    s.read("default entry changed", default)
    s.write("default entry with an entry's action", "MODIFY", _default(n, "exact_table", n.action("only_table", b"\1")))
    s.write("default entry const", "MODIFY", _default(n, "lpm_table", drop))
    s.write("default entry of a profile", "MODIFY", _default(n, "profile_table", drop))
    s.write("default entry by delete", "DELETE", default)
    s.write("default entry as at first", "MODIFY", default)
    s.read("default entry reset", default)
    for table in ("exact_table", "lpm_table", "ternary_table", "fixed_table", "profile_table"):
        s.read(f"all of {table}", n.entry(table))
    s.read("one entry", n.entry("exact_table", b"\1"))
    s.read("no such entry", n.entry("exact_table", b"\x77"))
    s.read("two queries", n.entry("exact_table", b"\1"), n.entry("lpm_table"))
    s.read("nothing asked")
    s.read("an unknown table", p4r.Entity(table_entry=p4r.TableEntry(table_id=33554431)))
    s.write("type unspecified", "UNSPECIFIED", n.entry("exact_table", b"\1", action=drop))
    s.write("no entity", "INSERT", p4r.Entity())
    s.write("rollback", "INSERT", n.entry("exact_table", b"\5", action=drop), atomicity=1)
    s.write("dataplane atomic", "INSERT", n.entry("exact_table", b"\5", action=drop), atomicity=2)
    fill = [n.entry("exact_table", bytes([n_]), action=drop) for n_ in range(16, 24)]
    s.write("a full table", "INSERT", *fill)
    s.write("emptied", "DELETE", *fill[:3])
    s.write("delete looks at the key alone", "DELETE", n.entry("exact_table", b"\4", action=n.action("learn")))
    s.read("after all", n.entry("exact_table"))


def _default(n: Names, table: str, action: p4r.Action) -> p4r.Entity:
    return n.entry(table, is_default_action=True, action=action)


def _arrays(s: Session) -> None:
    n = NAMES["entities"]
    s.write("counter", "MODIFY", counter(n.both, 2, packet_count=3, byte_count=4))
    s.write("counter of packets", "MODIFY", counter(n.packets_only, 2, packet_count=3, byte_count=4))
    s.write("counter by insert", "INSERT", counter(n.both, 2, packet_count=3))
    s.write("counter index negative", "MODIFY", counter(n.both, -1, packet_count=3))
    s.write("counter index too large", "MODIFY", counter(n.both, 8, packet_count=3))
    s.write("counter unknown", "MODIFY", counter(12345, 1, packet_count=3))
    s.write("counter all indices", "MODIFY", counter(n.both, None, packet_count=3))
    s.read("counter read", counter(n.both, 2))
    s.read("counter array read", counter(n.both))
    s.read("counters of packets read", counter(n.packets_only))
    s.read("all counters", counter(0))
    s.read("counter index too large read", counter(n.both, 8))
    s.write("counter by delete", "DELETE", counter(n.both, 2))  # which simple_switch_grpc takes for a reset
    s.write("meter", "MODIFY", meter(n.limiter, 1, 1, 2, 3, 4))
    s.write("meter negative", "MODIFY", meter(n.limiter, 1, -1, 2, 3, 4))
    s.write("meter by insert", "INSERT", meter(n.limiter, 1, 1, 2, 3, 4))
    s.write("meter index too large", "MODIFY", meter(n.limiter, 4, 1, 2, 3, 4))
    s.read("meter read", meter(n.limiter, 1))
    s.read("meter array read", meter(n.limiter))
    s.write("meter as at first", "MODIFY", meter(n.limiter, 1))
    s.read("meter reset", meter(n.limiter, 1))
    key = n.entry("exact_table", b"\1").table_entry
    missing = n.entry("exact_table", b"\x77").table_entry
    data, config = p4r.CounterData(packet_count=7, byte_count=8), p4r.MeterConfig(cir=1, cburst=2, pir=3, pburst=4)
    counts = p4r.DirectCounterEntry
    meters = p4r.DirectMeterEntry
    s.write("direct counter", "MODIFY", p4r.Entity(direct_counter_entry=counts(table_entry=key, data=data)))
    s.write("direct counter insert", "INSERT", p4r.Entity(direct_counter_entry=counts(table_entry=key, data=data)))
    s.write("direct counter missing", "MODIFY", p4r.Entity(direct_counter_entry=counts(table_entry=missing, data=data)))
    s.read("direct counter read", p4r.Entity(direct_counter_entry=counts(table_entry=key)))
    s.read("direct counters read", p4r.Entity(direct_counter_entry=counts(table_entry={"table_id": n.exact_table})))
    s.read("direct counters of all tables", p4r.Entity(direct_counter_entry=counts(table_entry={})))
    s.read(
        "direct counter of another table",
        p4r.Entity(direct_counter_entry=counts(table_entry={"table_id": n.lpm_table})),
    )
    s.write("direct meter", "MODIFY", p4r.Entity(direct_meter_entry=meters(table_entry=key, config=config)))
    s.read("direct meter read", p4r.Entity(direct_meter_entry=meters(table_entry=key)))
    s.read("direct resources inline", n.entry("exact_table", b"\1", counter_data={}, meter_config={}))
    s.write(
        "direct resources by modify",
        "MODIFY",
        n.entry("exact_table", b"\1", action=n.action("drop"), counter_data=data),
    )
    s.read("direct resources after it", n.entry("exact_table", b"\1", counter_data={}, meter_config={}))
    s.read("register", p4r.Entity(register_entry=p4r.RegisterEntry(register_id=n.balance)))
    register = p4r.RegisterEntry(register_id=n.balance, index=p4r.Index(index=0))
    register.data.bitstring = b"\1"
    s.write("register write", "MODIFY", p4r.Entity(register_entry=register))
    s.write("value set", "MODIFY", p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=n.known)))
    s.read("value set read", p4r.Entity(value_set_entry=p4r.ValueSetEntry(value_set_id=n.known)))
    s.write("insert refused: value empty", "INSERT", n.entry("exact_table", b"", action=n.action("drop")))
    s.write("extern", "INSERT", p4r.Entity(extern_entry=p4r.ExternEntry(extern_id=1)))


def _profiles(s: Session) -> None:
    n = NAMES["entities"]
    profile, plain_one = n.spreader, n.profile
    one, two = (member(profile, k, n.action("forward", bytes([k]))) for k in (1, 2))
    s.write("members", "INSERT", one, two)
    s.write("member again", "INSERT", one)
    s.write("member unknown profile", "INSERT", member(77, 5, n.action("drop")))
    s.write("member of a foreign action", "INSERT", member(profile, 5, n.action("learn")))
    s.write("member modified", "MODIFY", member(profile, 2, n.action("forward", b"\3")))
    s.write("member missing", "MODIFY", member(profile, 9, n.action("drop")))
    s.write("member deleted missing", "DELETE", member(profile, 9))
    s.write("group", "INSERT", group(profile, 1, 1, 2, max_size=4))
    s.write("group again", "INSERT", group(profile, 1, 1))
    s.write("group missing", "MODIFY", group(profile, 7, 1))
    s.write("group deleted missing", "DELETE", group(profile, 7))
    s.write("group empty", "INSERT", group(profile, 3, max_size=4))
    s.write("group weight 0", "MODIFY", group(profile, 3, 1, weight=0))
    s.write("entries", "INSERT", choice(n, "selector_table", b"\1", action_profile_group_id=1))
    s.write("entry by member", "INSERT", choice(n, "selector_table", b"\2", action_profile_member_id=2))
    s.write("entry by missing member", "INSERT", choice(n, "profile_table", b"\3", action_profile_member_id=9))
    s.write("entry by group, no selector", "INSERT", choice(n, "profile_table", b"\3", action_profile_group_id=1))
    s.write("entry with action", "INSERT", n.entry("profile_table", b"\3", action=n.action("drop")))
    s.write("member in use", "DELETE", one)
    s.write("group in use", "DELETE", group(profile, 1))
    s.read("members read", member(profile, 0))
    s.read("one member read", member(profile, 2))
    s.read("groups read", group(profile, 0))
    s.read("groups of all profiles", group(0, 0))
    s.read("entries read", n.entry("selector_table"))
    s.write("group loses a member", "MODIFY", group(profile, 1, 2, max_size=4))
    s.write(
        "all gone",
        "DELETE",
        n.entry("selector_table", b"\1"),
        n.entry("selector_table", b"\2"),
        group(profile, 1),
        group(profile, 3),
        one,
        two,
    )
    sets = one_shot(n, "selector_table", b"\1", (n.action("forward", b"\1"), 1), (n.action("forward", b"\2"), 2))
    s.write("one shot", "INSERT", sets)
    s.read("one shot read", n.entry("selector_table"))
    s.read("one shot shows no members", member(profile, 0))
    s.write("one shot and members do not mix", "INSERT", one)
    s.write("one shot weight 0", "INSERT", one_shot(n, "selector_table", b"\2", (n.action("drop"), 0)))
    s.write("one shot modified", "MODIFY", one_shot(n, "selector_table", b"\1", (n.action("forward", b"\5"), 1)))
    s.read("one shot modified read", n.entry("selector_table"))
    s.write("one shot deleted", "DELETE", n.entry("selector_table", b"\1"))
    s.write("a member once more", "INSERT", one)
    # What simple_switch_grpc refuses here it keeps all the same, so nothing of profiles follows.
    s.write("group above its size", "INSERT", group(profile, 4, 1, weight=9, max_size=4))
    s.write("group without selector", "INSERT", group(plain_one, 1))


def _replication(s: Session) -> None:
    s.write("multicast group", "INSERT", multicast(1, (1, 1), (2, 1), (2, 2)))
    s.write("multicast group again", "INSERT", multicast(1))
    s.write("multicast group 0", "INSERT", multicast(0))
    s.write("multicast group too large", "INSERT", multicast(40000))
    s.write("multicast group missing", "MODIFY", multicast(2))
    s.write("multicast group deleted missing", "DELETE", multicast(2))
    s.write("multicast group modified", "MODIFY", multicast(1, (3, 1)))
    s.write("a replica twice", "INSERT", multicast(5, (1, 1), (1, 1)))
    s.read("multicast group read", multicast(1))
    s.read("multicast group missing read", multicast(2))
    s.write("clone session", "INSERT", clones(1, (510, 1)))
    s.write("clone session again", "INSERT", clones(1, (510, 1)))
    s.write("clone session 0", "INSERT", clones(0, (510, 1)))
    s.write("clone session too large", "INSERT", clones(40000, (510, 1)))
    s.write("clone session class", "INSERT", clones(2, (510, 1), class_of_service=1))
    s.write("clone session length", "INSERT", clones(3, (510, 1), packet_length_bytes=9))
    s.write("clone session missing", "MODIFY", clones(4, (510, 1)))
    s.write("clone session deleted missing", "DELETE", clones(4))
    s.write("clone session modified", "MODIFY", clones(1, (2, 1), (3, 2)))
    s.read("clone session read", clones(1))
    s.write("both deleted", "DELETE", multicast(1), clones(1))
    s.read("both gone", multicast(1))


def _streams(s: Session) -> None:
    n = NAMES["entities"]
    s.step("entities once more", lambda: s.client.set_pipeline(CONFIGS["entities"]))
    frame = _BODY + b"\x01\0\0\x07\x0a\0\0\1" + bytes(30)
    s.client.send(packet_out(frame, (1, b"\2"), (2, b"\0")))
    s.step("packet-out", lambda: [[port, got.hex()] for port, got in [s.wire.receive()]])
    s.client.send(packet_out(frame, (1, b"\2")))
    s.step("packet-out without padding", lambda: [[port, got.hex()] for port, got in [s.wire.receive()]])
    s.client.send(packet_out(frame, (1, b"\1\xfe"), (2, b"\0")))
    s.hears("packet-in", s.client)
    s.client.send(packet_out(b"lost", (9, b"\1")))
    s.client.send(packet_out(b"lost", (1, b"\2\0"), (2, b"\0")))
    s.client.send(packet_out(b"fine", (1, b"\3"), (2, b"\0")))
    s.step("packet-out unknown metadata is lost", lambda: [[port, got.hex()] for port, got in [s.wire.receive()]])
    frame = frame[:12] + b"\0\0" + frame[14:]  # without body, so that few tables are asked
    cpu = n.action("measured", b"\1\xfe")
    s.write("to the controller", "INSERT", n.entry("exact_table", frame[:6], action=cpu))
    s.wire.send(3, frame)
    s.hears("packet-in from port 3", s.client)
    s.write("elsewhere", "MODIFY", n.entry("exact_table", frame[:6], action=n.action("measured", b"\5")))
    s.packets("forwarded", 3, frame)
    s.read("counted", n.entry("exact_table", frame[:6], counter_data={}))
    s.write("digest", "INSERT", digest(n.seen_t, 0, 1, 10**13))
    s.write("digest again", "INSERT", digest(n.seen_t, 0, 1, 10**13))
    s.write("digest unknown", "INSERT", digest(5, 0, 1, 0))
    s.read("digest read", digest(n.seen_t))
    s.write("learning", "MODIFY", _default(n, "keyless", n.action("learn")))
    s.packets("learned", 3, frame)
    s.hears("digest list", s.client)
    s.packets("learned from port 4", 4, frame)
    s.hears("digest list of port 4", s.client)
    s.write("digest modified", "MODIFY", digest(n.seen_t, 0, 2, 10**13))
    s.read("digest modified read", digest(n.seen_t))
    s.write("digest deleted", "DELETE", digest(n.seen_t))
    s.read("digest gone", digest(n.seen_t))
    s.read("indirect resources used by packets", counter(n.both, 1))
    idle = n.entry("exact_table", b"\7", action=n.action("drop"), idle_timeout_ns=500_000_000, metadata=b"idle")
    s.write("idle timeout", "INSERT", idle)
    s.hears("idle timeout notification", s.client)
    s.write("idle deleted", "DELETE", idle)


def _matching(s: Session) -> None:
    n = NAMES["choices"]
    s.step("program choices", lambda: s.client.set_pipeline(CONFIGS["choices"]))
    s.read("nothing of the old program", n.entry("by_ternary"), n.entry("by_selector"), member(0, 0))
    wide = (1 << 255 | 1).to_bytes(32, "big")
    say = [n.action("say", bytes([k])) for k in range(8)]
    s.write(
        "odd and wide fields",
        "INSERT",
        n.entry("by_width", b"\1", b"\x7f", lpm(wide, 256), action=say[1]),
        n.entry("by_width", b"\0", b"\0", lpm(b"\x80" + bytes(31), 1), action=say[2]),
        n.entry("by_width", b"\2", b"\0", None, action=say[2]),
        n.entry("by_width", b"\1", b"\x80", None, action=say[2]),
        n.entry("by_width", b"\1", b"\0", lpm(b"\1" + bytes(32), 1), action=say[2]),
    )
    s.read("odd and wide fields read", n.entry("by_width"))
    s.packets("odd and wide fields hit", 3, b"\xff\x04\0\0" + wide)
    s.packets("odd and wide fields missed", 3, b"\xfe\x04\0\0" + wide)
    s.write(
        "two priorities of one match",
        "INSERT",
        n.entry("by_ternary", ternary(b"\1", b"\1"), None, priority=1, action=say[1]),
        n.entry("by_ternary", ternary(b"\1", b"\1"), None, priority=2, action=say[2]),
        n.entry("by_ternary", ternary(b"\1", b"\1"), None, priority=2, action=say[3]),
        n.entry("by_optional", optional(b"\1"), None, priority=1, action=say[4]),
    )
    s.read("two priorities of one match read", n.entry("by_ternary"))
    s.read("one of two priorities", n.entry("by_ternary", ternary(b"\1", b"\1"), None, priority=1))
    s.packets("higher priority wins", 3, b"\0\x01\0\1" + bytes(32))
    s.packets("optional", 3, b"\0\x02\0\1" + bytes(32))
    s.packets("optional missed", 3, b"\0\x02\0\2" + bytes(32))
    s.read("const entries with priorities", n.entry("by_range"))
    s.packets("const entries, the first one", 3, b"\0\x03\0\5" + bytes(32))
    action, spread = n.action("send", b"\4"), one_shot
    s.write("spread", "INSERT", spread(n, "by_selector", b"\6", (action, 1), (n.action("send", b"\5"), 1)))
    for word in range(6):
        s.packets(f"spread {word}", 3, b"\0\x06" + bytes([word, 7 * word]) + bytes(32))


def _redirects(s: Session) -> None:
    n = NAMES["redirect"]
    s.step("program redirect", lambda: s.client.set_pipeline(CONFIGS["redirect"]))

    def always() -> p4r.FieldMatch:
        return ternary(b"\0", b"\xff")

    s.write(
        "orders",
        "INSERT",
        n.entry("first", b"\1", b"\0", action=n.action("forward", b"\2")),
        n.entry("first", b"\2", b"\0", action=n.action("replicate", b"\5")),
        n.entry("first", b"\3", b"\0", action=n.action("forward", b"\2")),
        n.entry("second", b"\3", always(), priority=1, action=n.action("clone_in", b"\6", b"\x33")),
        n.entry("first", b"\4", b"\0", action=n.action("forward", b"\2")),
        n.entry("last", b"\4", always(), priority=1, action=n.action("clone_out", b"\6", b"\x44")),
        n.entry("first", b"\5", b"\0", action=n.action("forward", b"\2")),
        n.entry("first", b"\5", b"\7", action=n.action("forward", b"\3")),
        n.entry("second", b"\5", always(), priority=1, action=n.action("again", b"\7")),
        multicast(5, (3, 1), (4, 2)),
        clones(6, (7, 9)),
    )
    s.packets("forward", 1, b"\1\0body")
    s.packets("multicast", 1, b"\2\0body", 2)
    s.packets("clone in ingress", 1, b"\3\0body", 2)
    s.packets("clone in egress", 1, b"\4\0body", 2)
    s.packets("resubmit", 1, b"\5\0body")
    s.packets("parser error", 4, b"\xee\0body")
    s.packets("too short", 4, b"\1")


def _splitmerge(s: Session) -> None:
    n = NAMES["splitmerge"]
    s.step("program splitmerge", lambda: s.client.set_pipeline(CONFIGS["splitmerge"]))
    flow = b"\x0a\0\1\2", b"\x0a\0\2\2", b"\x30\x39", b"\x50", b"\6"
    steer = n.action("steer", b"\3", b"\0")
    s.write("a flow", "INSERT", n.entry("flow_v4", *flow, action=steer, idle_timeout_ns=10**12))
    s.write("a flow again", "INSERT", n.entry("flow_v4", *flow, action=steer))
    s.write("a bucket", "INSERT", n.entry("bucket", b"\0", action=n.action("steer_bucket", b"\3", b"\1")))
    s.write("a bucket asks", "MODIFY", n.entry("bucket", b"\0", action=n.action("ask_controller")))
    s.write("a role", "INSERT", n.entry("port_role", b"\1", action=n.action("set_host")))
    s.read("flows", n.entry("flow_v4", counter_data={}))
    s.read("buckets", n.entry("bucket"))
    s.read("drops", counter(n.drops))
    s.write("the flow goes", "DELETE", n.entry("flow_v4", *flow))
    s.read("no flows", n.entry("flow_v4"))


def _arbitration(s: Session) -> None:
    n = NAMES["splitmerge"]
    higher, lower = s.other(), s.other()
    higher.arbitrate(20)
    s.hears("displaced", s.client)
    s.hears("displacing", higher)
    entry = n.entry("bucket", b"\7", action=n.action("ask_controller"))
    s.write("write of the displaced", "INSERT", entry)
    s.step("write of the new primary", lambda: higher.insert(entry))
    lower.arbitrate(2)
    s.hears("a lower one", lower)
    s.read("anyone reads", n.entry("bucket", b"\7"))
    higher.arbitrate(5)
    s.hears("the primary lowers its id", higher)
    s.hears("the next one is promoted", s.client)
    # Last of all: simple_switch_grpc refuses everything, the next pipeline too, once it has seen a broken one.
    broken = p4r.ForwardingPipelineConfig(p4info=CONFIGS["splitmerge"].p4info, p4_device_config=b"no program")
    s.step("broken config", lambda: s.client.set_pipeline(broken))


# -- recording -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def record(program: str) -> dict[str, Any]:
    """What a real ``simple_switch_grpc`` answers, with its version."""
    version = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=DEADLINE, check=False)
    with _folder() as path, simple_switch_grpc(program, path) as (address, wire):
        steps = play(address, wire)
    return {"simple_switch_grpc": version.stdout.strip(), "steps": [list(step) for step in steps]}


def main() -> None:
    """Write the recording."""
    program = bmv2.find()
    if program is None:
        raise SystemExit("simple_switch_grpc is not on PATH")
    recorded = record(program)
    lines = ",\n".join(json.dumps(step, sort_keys=True) for step in recorded["steps"])
    head = json.dumps(recorded["simple_switch_grpc"])
    RECORDING.write_text(f'{{"simple_switch_grpc": {head}, "steps": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
