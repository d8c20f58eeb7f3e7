"""The edges: REST, and who may connect to the control network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guestlib.engine import Engine
from orchestrator.elasticity import Load
from orchestrator.moves.reports import report
from orchestrator.ownership import assigning
from orchestrator.rest import api
from orchestrator.rest.shown import load_json
from p4rt_controller import NewFlow
from splitmerge import messages as m
from splitmerge.errors import shortened
from splitmerge.wire import encode
from tests.orchestrator.lab import FLOWS, WITHIN, Agent, Lab, State, Tables, read_messages


async def test_status_shows_drops_and_who_is_silent(lab: Lab) -> None:
    lab.orchestrator.switch_ready = True
    lab.agent.peers[1].stopped = True  # or its next Stats take the place of these
    await asyncio.sleep(0.05)  # what it has said is read
    replica = lab.orchestrator.fleet.get(1)
    now = asyncio.get_running_loop().time()
    counts = m.Stats(replica=1, flows=0, packets=9, bytes=9, cpu_seconds=0, held=0, drops={"middlebox_error": 2})
    replica.stats, replica.told = counts, now - 5
    status = await lab.get("/status")
    assert status["drops"]["replicas"]["middlebox_error"] == 2 and status["drops"]["switch"] == {"no_route": 3}
    assert status["drops"]["controller"] == {"buffer_full": 5}
    assert status["controller"] == {"packets": {"packet_ins": 7}, "waiting": {"packets": 2}}
    assert status["punted"] == 7
    assert status["silent_replicas"] == [1]


WRONG = [{"x": float("nan"), "ok": 1}, {"x": "y", "ok": True}, {7: 1.0, "ok": 1.0}, {(1, 2): None, "ok": 1.0}]


@pytest.mark.parametrize("figures", WRONG, ids=["nan", "text", "a name that is a number", "a name that is a list"])
async def test_a_replica_that_tells_a_wrong_figure_is_not_cut_off_and_shown_without_it(
    lab: Lab, figures: dict[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    peer, replica = lab.agent.peers[1], lab.orchestrator.fleet.get(1)
    peer.stopped = True  # its next Stats would take the place of these
    session = replica.session
    await asyncio.sleep(0.05)
    stats = m.Stats(replica=1, flows=0, packets=9, bytes=9, cpu_seconds=0, held=0, drops={}, custom=figures)
    for _ in range(2):
        assert peer.to_orchestrator(stats)
    await lab.until(lambda: replica.stats is not None and replica.stats.packets == 9)
    (shown,) = await lab.get("/replicas")
    assert (shown["packets"], shown["custom"]) == (9, {"ok": 1.0, "figures_left_out": 1.0})
    assert replica.session is session is not None
    assert sum("replica 1: figure left out:" in line for line in caplog.messages) == 1


async def test_news_of_flows_that_there_is_no_room_for_are_counted_and_shown(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assigning, "NEW_FLOWS", 2)
    assert (await lab.get("/status"))["drops"]["orchestrator"] == {}
    for key in (*FLOWS[:5], FLOWS[0]):  # the last one waits already
        lab.orchestrator.network_event(NewFlow(key))
    assert (await lab.get("/status"))["drops"]["orchestrator"] == {"announcement_full": 3}
    assert (
        'splitmerge_orchestrator_drops_total{reason="announcement_full"} 3.0' in (await lab.http.get("/metrics")).text
    )


async def test_a_failing_agent_is_told_about(lab: Lab) -> None:
    lab.agent.refuses = True
    error = await lab.post("/scale-out", status=503)
    assert error["error"] == "no memory" and error["where"] == "agent"
    lab.agent.refuses = False
    await lab.post("/scale-out")


async def test_shared_objects(lab: Lab) -> None:
    guest = lab.agent.peers[1].guest
    assert "'nothing/at/all'" in (await lab.get("/shared/nothing/at/all", 404))["error"]
    guest.create_shared("hits", State(5), combiner=lambda mine, other: mine)
    assert (await lab.get("/shared/hits"))["elements"] == [], "it is there, and nobody has put anything into it yet"
    guest.get_shared("hits")
    guest.put_shared("hits")
    found = await lab.get("/shared/hits")
    assert [(each["origin"], each["value"]) for each in found["elements"]] == [("incarnation-1", {"number": 5})]
    text = (await lab.http.get("/metrics")).text
    assert "splitmerge_shared_elements 1.0" in text and "splitmerge_shared_bytes 9.0" in text


async def test_metrics(lab: Lab) -> None:
    await lab.post("/scale-out")
    text = (await lab.http.get("/metrics")).text
    assert "splitmerge_locks_taken_over_total 0.0" in text and "splitmerge_fenced_writes_total 0.0" in text
    assert "splitmerge_replicas 2.0" in text and 'splitmerge_moves_total{outcome="done"} 1.0' in text
    assert 'splitmerge_controller_packets_total{what="packet_ins"} 7.0' in text
    assert 'splitmerge_controller_drops_total{reason="buffer_full"} 5.0' in text
    assert 'splitmerge_controller_waiting{what="packets"} 2.0' in text


async def test_what_is_hardly_less_than_nothing_is_nothing() -> None:
    assert [str(value) for value in load_json(Load(-1e-9, -0.0, -0.002)).values()] == ["0.0", "0.0", "-0.002"]


async def test_where_flows_are_seen_is_said_as_a_command(lab: Lab) -> None:
    error = await lab.post("/moves", {"target": 1, "keys": ["tcp,[fd00::1]:80,[fd00::2]:1"]}, 409)
    assert error["remedy"] == "see `splitmerge flows`, or GET /flows"


LONG_FLOW = f"flow {shortened('tcp,10.0.1.2:' + '9' * 5000)!r}"
REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("unknown field", "/migrate", {"target": 1, "colour": 1}, 400, "body"),
    ("wrong type", "/migrate", {"target": "one"}, 400, "body.target"),
    ("no JSON", "/migrate", b"{", 400, "body"),
    ("no object", "/scale-in", b"[]", 400, "body"),
    ("missing field", "/migrate", {"all": True}, 400, "body"),
    ("nothing named", "/migrate", {"target": 1}, 400, "body"),
    ("all, and buckets besides", "/migrate", {"target": 1, "buckets": [1], "all": True}, 400, "body"),
    ("all, and flows besides", "/migrate", {"target": 1, "keys": [str(FLOWS[0])], "all": True}, 400, "body"),
    ("no guarantee", "/moves", {"target": 1, "all": True, "guarantee": "hope"}, 400, "body.guarantee"),
    ("no deadline", "/moves", {"target": 1, "buckets": [1], "deadline": -1}, 400, "body.deadline"),
    ("too much", "/moves", {"target": 1, "buckets": [1], "packets": 99999999999999999999}, 400, "body.packets"),
    ("a key twice", "/moves", b'{"target": 2, "buckets": [1], "target": 1}', 400, "body"),
    ("no flow", "/migrate", {"target": 1, "keys": ["tcp"]}, 400, "flow 'tcp'"),
    (
        "too many flows",
        "/moves",
        {"target": 1, "keys": ["tcp,10.0.1.2:1,10.0.2.2:2"] * 50_001},
        400,
        "body.keys",
    ),
    ("no port", "/moves", {"target": 1, "keys": [f"tcp,10.0.1.2:{'9' * 5000},10.0.2.2:2"]}, 400, LONG_FLOW),
    ("no such bucket", "/migrate", {"target": 1, "buckets": [1024]}, 400, "buckets"),
    (
        "unknown flow",
        "/moves",
        {"target": 1, "keys": ["tcp,10.0.1.2:1,10.0.2.2:2"]},
        409,
        "flow tcp,10.0.1.2:1,10.0.2.2:2",
    ),
    ("no such replica", "/migrate", {"target": 9, "buckets": [1]}, 404, "replica 9"),
    ("no such source", "/migrate", {"target": 1, "source": 9, "all": True}, 404, "replica 9"),
    ("all of whom", "/migrate", {"target": 1, "all": True}, 400, "source"),
    ("there already", "/migrate", {"target": 1, "buckets": [1]}, 409, "migrate"),
    ("the last one", "/scale-in", {}, 409, "scale-in"),
    ("one that does not live, beside the last", "/scale-in", {"replica": 7}, 404, "replica 7"),
    ("the last one, without waiting", "/scale-in", {"wait": False}, 409, "scale-in"),
    ("drained by hash", "/scale-in", {"drain": True, "wait": False}, 409, "drain"),
    ("none", "/scale-out", {"count": 0}, 400, "count"),
    ("too many", "/scale-out", {"count": 99}, 409, "scale-out"),
    ("no room is needed", "/moves", {"target": 1, "all": True, "guarantee": "none", "packets": 5}, 400, "body.packets"),
    ("nor a buffer", "/moves", {"target": 1, "buckets": [1], "guarantee": "none", "buffer": "cpu"}, 400, "body.buffer"),
]


@pytest.mark.parametrize(("path", "body", "status", "where"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
async def test_bad_requests_are_refused(lab: Lab, path: str, body: Any, status: int, where: str) -> None:
    error = await lab.post(path, body, status)
    assert error["where"] == where and error["error"]


WRONG_VALUES = [
    ("deadline", 5000, "5000 is out of range"),
    ("references", 3600.5, "3600.5 is out of range"),
    ("bytes", 0, "0 is out of range"),
]


@pytest.mark.parametrize(("name", "value", "problem"), WRONG_VALUES)
async def test_a_number_out_of_range_is_said_to_be(lab: Lab, name: str, value: float, problem: str) -> None:
    error = await lab.post("/rebalance", {name: value}, 400)
    assert (error["where"], error["error"]) == (f"body.{name}", problem)


@pytest.mark.parametrize(("path", "raw", "name"), [
    ("/moves", b'{"target": 2, "buckets": [1], "t\\u0061rget": 1}', "target"),
    ("/elasticity", b'{"settings": {"replicas": 1, "replicas": 2}}', "replicas"),
    ("/elasticity", b'{"interval": 1.5, "interval": 2}', "interval"),
])  # fmt: skip
async def test_a_key_that_a_body_has_twice_is_named(lab: Lab, path: str, raw: bytes, name: str) -> None:
    method = "PATCH" if path == "/elasticity" else "POST"
    response = await lab.http.request(method, path, content=raw)
    assert response.status_code == 400 and response.json()["error"] == f"{name!r} more than once"


class _Chunks:
    """A body without its length, a MiB at a time; ``read``: how many were asked for."""

    def __init__(self, chunks: int) -> None:
        self.chunks, self.read = chunks, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.chunks):
            self.read += 1
            yield b" " * 1024 * 1024


@pytest.mark.parametrize("path", ["/moves", "/migrate", "/scale-out", "/scale-in", "/rebalance", "/elasticity"])
async def test_a_body_that_is_too_large_is_not_read_to_its_end_and_changes_nothing(lab: Lab, path: str) -> None:
    method, body = "PATCH" if path == "/elasticity" else "POST", _Chunks(64)
    response = await lab.http.request(method, path, content=body)
    refusal = {"error": "more than 16 MiB", "where": "body", "remedy": "name flows in several requests, or by bucket"}
    assert (response.status_code, response.json(), body.read) == (413, refusal, 17)
    assert await lab.get("/moves") == [] and len(await lab.get("/replicas")) == 1


async def test_of_a_body_that_is_said_to_be_too_large_nothing_is_read(lab: Lab) -> None:
    body = _Chunks(64)
    response = await lab.http.post("/moves", content=body, headers={"content-length": str(64 << 20)})
    assert (response.status_code, response.json()["error"], body.read) == (413, "more than 16 MiB", 0)


async def test_a_hundred_thousand_flows_as_text_are_read_and_told_that_they_are_too_many(lab: Lab) -> None:
    address = ":".join(["fd00", *["ffff"] * 7])
    keys = [f"tcp,[{address}]:65535,[{address}]:65534"] * 100_000
    assert (await lab.post("/moves", {"target": 1, "keys": keys}, 400))["error"] == "100000 flows"


REMEDIES = [
    ("/rebalance", {"by": "x"}, 400, "one of: flows, packets, cpu"),
    ("/moves", {"target": 1, "buckets": [1], "guarantee": "x"}, 400, "one of: none, loss-free, order-preserving, no-b"),
    ("/moves", {"target": 1, "buckets": [1], "when_full": "x"}, 400, "one of: abort, drop"),
    ("/rebalance", {"most": "x"}, 400, "fields: by, most"),
    ("/rebalance", {"nope": 1}, 400, "fields: by, most"),
    ("/scale-in", {"drain": True, "deadline": 3, "guarantee": "none"}, 400, "leave out: guarantee, deadline"),
    ("/scale-out", {"rebalance": False, "packets": 3}, 400, "leave out: packets"),
    ("/scale-out", {"guarantee": "none", "buffer": "cpu"}, 400, "leave it out, or choose another guarantee"),
    ("/rebalance", {"guarantee": "none", "bytes": 9, "when_full": "abort"}, 400, "leave them out, or choose another"),
    ("/scale-in", {"when_full": "x"}, 400, "one of: abort, drop"),
    ("/rebalance", {"deadline": -1}, 400, "seconds, 0 to 3600"),
    ("/scale-out", {"kind": "vm"}, 409, "there are agents of kind: none; a lab started with --vm-slots has one"),
]


@pytest.mark.parametrize(("path", "body", "status", "remedy"), REMEDIES)
async def test_a_refusal_says_what_would_be_right(lab: Lab, path: str, body: Any, status: int, remedy: str) -> None:
    assert remedy in (await lab.post(path, body, status))["remedy"]


async def test_why_no_slot_is_free_for_a_kind_is_told(lab: Lab) -> None:
    fleet = lab.orchestrator.fleet
    fleet.agents._kinds[1] = "process"
    assert "of kind: process; a lab started with" in (await lab.post("/scale-out", {"kind": "vm"}, 409))["remedy"]
    used = {each.slot for each in fleet.replicas.values()}
    free = next(slot for slot in range(1, 99) if slot not in used)
    for slot, remedy in ((next(iter(used)), "scale in, or start with more slots"), (free, "its agent is away")):
        fleet.agents._kinds[slot] = "vm"
        assert remedy in (await lab.post("/scale-out", {"kind": "vm"}, 409))["remedy"]


async def test_a_replica_is_asked_once_for_all_the_flows_that_it_may_not_have(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.give_flows(1, FLOWS[1:])
    heard: list[m.Message] = []
    take = Engine.message

    def record(self: Engine, message: m.Message, *how: Any) -> None:
        heard.append(message)
        take(self, message, *how)

    monkeypatch.setattr(Engine, "message", record)
    known = list(map(str, FLOWS[1:]))
    error = await lab.post("/moves", {"target": 1, "keys": [*known, str(FLOWS[0])]}, 409)
    assert error["where"] == f"flow {FLOWS[0]}" and "no replica has it" in error["error"]
    assert (await lab.post("/moves", {"target": 1, "keys": known}, 409))["where"] == "migrate"
    assert not [each for each in heard if isinstance(each, m.ListFlows)]
    assert len({each.request for each in heard if isinstance(each, m.Relate)}) == 2, "once for each of the two"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/flows?limit=x", 400),
        ("/flows?limits=5", 400),
        ("/moves?replica=1", 400),
        ("/status?x", 400),
        ("/flows?limit=5&limit=5", 400),
        ("/flows?limit=5&limit=", 400),
        (f"/moves?limit={'9' * 5000}", 400),
        ("/moves?limit=٣", 400),
        ("/moves?limit=0", 400),
        ("/flows?replica=9", 404),
        ("/moves/99", 404),
        ("/moves/99999999999999999999", 404),
        ("/moves/x", 400),
        ("/nothing", 404),
    ],
)
async def test_bad_queries_are_refused(lab: Lab, path: str, status: int) -> None:
    await lab.get(path, status)


async def test_nothing_is_begun_before_it_is_ready(tmp_path: Path) -> None:
    """No agent: the orchestrator waits for one, and says so."""
    lab = Lab(tmp_path, Tables(), Agent(tmp_path, f"unix:{tmp_path}/control.sock"), {})
    async with lab.up(wait=False):
        status = await lab.get("/status")
        assert status["ready"] is False
        await lab.until(lambda: lab.orchestrator.started)
        error = await lab.post("/scale-out", status=503)
        assert (error["where"], error["error"]) == (
            "the orchestrator", "is starting: no VMM agent has connected yet"
        )  # fmt: skip
        assert "splitmerge status" in error["remedy"]
        told = "the orchestrator is starting: no VMM agent has connected yet"
        assert told in (await lab.get("/status"))["problems"]


HELLOS = [
    ("other protocol", m.Hello(protocol=99, role="replica", replica=1), "protocol"),
    ("unknown replica", m.Hello(role="replica", replica=77), "not one of mine"),
    ("unknown role", m.Hello(role="king"), "role"),
    ("another process", m.Hello(role="replica", replica=1, incarnation="other"), "another process"),
]


@pytest.mark.parametrize(("hello", "reason"), [each[1:] for each in HELLOS], ids=[each[0] for each in HELLOS])
async def test_strangers_are_refused(lab: Lab, hello: m.Hello, reason: str) -> None:
    reader, writer = await asyncio.open_unix_connection(lab.agent.control.removeprefix("unix:"))
    writer.write(encode(hello))
    answers: list[m.Message] = []
    async with asyncio.timeout(WITHIN):
        await read_messages(reader, answers.append)
    writer.close()
    assert isinstance(answers[0], m.Refused) and reason in answers[0].reason


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\0\0\0\1x", encode(m.Released(epoch=1))])
async def test_what_is_no_hello_is_cut_off(lab: Lab, raw: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(lab.agent.control.removeprefix("unix:"))
    writer.write(raw)
    async with asyncio.timeout(WITHIN):
        assert await reader.read() == b""
    writer.close()


async def test_of_many_moves_only_those_that_are_shown_are_made_into_words(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.post("/scale-out", {"rebalance": False})
    for number in range(6):
        source, target = (1, 2) if number % 2 == 0 else (2, 1)
        await lab.post("/moves", {"buckets": [3], "source": source, "target": target})
    made: list[int] = []
    in_words = api.move_json
    monkeypatch.setattr(api, "move_json", lambda result: made.append(result.epoch) or in_words(result))
    shown = [move["epoch"] for move in await lab.get("/moves?limit=2")]
    assert made == shown and shown == sorted(shown, reverse=True) and len(shown) == 2
    assert [move["epoch"] for move in await lab.get("/moves")][:2] == shown


async def test_a_move_looks_the_same_in_the_list_and_alone_whoever_knows_it(lab: Lab) -> None:
    """Three that have ended (a report, one that has got another word since, the journal's row), and two under way.

    Of one of these there is a report already, as there may be when its end and a question meet.
    """
    await lab.post("/scale-out", {"rebalance": False})
    for source, target in ((1, 2), (2, 1), (1, 2)):
        await lab.post("/moves", {"buckets": [3], "source": source, "target": target})
    lab.agent.peers[1].stopped = True
    for bucket in (4, 5):
        await lab.post("/moves", {"buckets": [bucket], "source": 1, "target": 2, "wait": False})
    mover = lab.orchestrator.mover
    first, second, third = mover.reports.epochs
    mover.note(mover.reports.get(second) or pytest.fail(), "noted")
    del mover.reports._reports[third]
    running = [move.plan.epoch for move in mover.running()]
    mover.reports.put(replace(report(mover.running()[0]), reason="its last word"))
    listed = {move["epoch"]: move for move in await lab.get("/moves")}
    assert set(listed) == {first, second, third, *running} and len(running) == 2
    for epoch, move in listed.items():
        alone = await lab.get(f"/moves/{epoch}")
        assert {name: alone[name] for name in move} == move and set(alone) - set(move) == {"scope", "history"}
    assert [listed[epoch]["reason"] for epoch in (second, running[0])] == ["noted", "its last word"]
    lab.agent.peers[1].go_on()
    await lab.until(lambda: not mover.running())
