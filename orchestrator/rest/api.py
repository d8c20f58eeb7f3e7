"""The REST API: an edge. Bodies become frozen types or are refused; errors say where and what to do.

    GET  /status  /replicas  /flows?replica=&limit=  /moves?limit=  /moves/{epoch}  /shared/{key}  /metrics
         /elasticity
    POST /moves {keys and buckets | all, source?, target, wait?, HOW}         (/migrate is the same)
    DELETE /moves/{epoch}?wait=            calls a move off; answers with the move when it is over, or with 202 and the
                                           step that it is in after so many seconds
    POST /scale-out {count?, rebalance?, kind?, HOW}  /scale-in {replica?, drain?, wait?, HOW}
         /rebalance {by?, most?, HOW}
    PATCH /elasticity {policy?, settings?, …}   as the configuration's section; until the orchestrator ends

HOW: guarantee?, buffer?, when_full?, references?, deadline?, packets?, bytes? of each move; else as configured.

A POST that waits for moves answers with 202 if one of them is late, and goes on by itself.

Every error body is ``{"error", "where", "remedy"}``: 400 bad request, 404 no such thing, 409 cannot be done now,
413 a body larger than `BODY_MOST`, 503 not ready yet or a part is away, 504 a deadline has passed.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import msgspec
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from orchestrator.elasticity import Figure, make_section
from orchestrator.errors import (
    AgentFailed,
    AlreadyThere,
    MoveRefused,
    NoSuchMove,
    NoSuchObject,
    NoSuchReplica,
    OrchestratorError,
    ScalingFailed,
)
from orchestrator.journal import MoveRow
from orchestrator.migration import Buffer, Guarantee, Move, Options, WhenFull
from orchestrator.moves.reports import Report, report
from orchestrator.replicas import health
from orchestrator.replicas.fleet import Replica
from orchestrator.rest import metrics
from orchestrator.rest.problems import awaited, problems
from orchestrator.rest.shown import (
    controller_json,
    element_json,
    load_json,
    move_json,
    replacements_json,
    replica_json,
    row_json,
    scope_json,
    switch_json,
)
from orchestrator.scaling.asking import aside
from orchestrator.scaling.scaler import Wanted
from orchestrator.service import Orchestrator
from splitmerge import choices
from splitmerge.decimals import decimal
from splitmerge.errors import BadInput, PeerError, SplitmergeError, Timeout, shortened
from splitmerge.flowkey import FlowKey
from splitmerge.messages import Scope

logger = logging.getLogger("orchestrator.api")

FLOWS_SEEN = "see `splitmerge flows`, or GET /flows"
FLOWS_MOST = 100_000
KEYS_MOST = 50_000
"""Flows named in one request: each message about them must fit into a frame (`splitmerge.wire.MAX_FRAME`)."""
BODY_MOST = 16 * 1024 * 1024
"""Bytes of a request's body: 100,000 flows as text, of 103 bytes each at most, and half as much again."""
MOVES_MOST = 10_000
REFUSED_WITHIN = 0.25
"""Seconds in which what cannot be done at all is refused, though nobody waits for its end."""
CANCEL_WAIT = 30
"""Seconds that a request to call a move off waits for its end, unless it says otherwise."""
CANCEL_WAIT_MOST = 600


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of request bodies."""


class _MovesBody(_Body, frozen=True, kw_only=True):
    """Base of bodies that make moves: how, as `orchestrator.migration.Options`; None: as configured."""

    guarantee: Guarantee | None = None
    buffer: Buffer | None = None
    when_full: WhenFull | None = None
    references: float | None = None
    deadline: float | None = None
    packets: int | None = None
    bytes: int | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What the body says about it."""
        names = Options.__struct_fields__
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def options(self, configured: Options) -> Options:
        """How to move: what is configured, and what the body says otherwise. :raises BadInput:"""
        chosen = msgspec.structs.replace(configured, **self.said).check("body.{}".format)
        return chosen.check_used(self.said, "body.{}".format)

    def moves_nothing(self, why: str) -> None:
        """:raises BadInput: if it says how flows are to move, though none will, and ``why``."""
        if said := self.said:
            raise BadInput(f"body.{next(iter(said))}", f"nothing moves: {why}", f"leave out: {', '.join(said)}")


class MigrateBody(_MovesBody, frozen=True):
    """``keys``, ``buckets`` or both; or ``all``."""

    target: int
    keys: tuple[str, ...] = ()
    buckets: tuple[int, ...] = ()
    all: bool = False
    source: int | None = None
    wait: bool = True
    """Answer when the moves are over; else at once, with their numbers."""


class ScaleOutBody(_MovesBody, frozen=True):
    """How many, and whether each gets its share."""

    count: int = 1
    rebalance: bool = True
    kind: str = ""
    """``process`` or ``vm``; any if empty."""


class ScaleInBody(_MovesBody, frozen=True):
    """Which; None: the one with the fewest flows."""

    replica: int | None = None
    drain: bool = False
    """Its flows stay with it until they end; else they move."""
    wait: bool = True
    """Answer when it has ended; else at once."""


class RebalanceBody(_MovesBody, frozen=True):
    """What is evened, and how many buckets (or flows) may move."""

    by: Figure = "flows"
    most: int = 64


_B = TypeVar("_B", bound=_Body)


class NotReady(OrchestratorError):
    """The orchestrator has not finished starting."""


class TooLarge(BadInput):
    """A request's body has more than `BODY_MOST` bytes."""

    def __init__(self) -> None:
        super().__init__("body", f"more than {BODY_MOST >> 20} MiB", "name flows in several requests, or by bucket")


async def _read(request: Request) -> bytes:
    """The body; no more of it is kept than may be. FastAPI's own bound answers with no JSON. :raises TooLarge:"""
    if decimal(request.headers.get("content-length", "0"), BODY_MOST) is None:
        raise TooLarge
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_MOST:
            raise TooLarge
    return bytes(raw) or b"{}"


async def _body(request: Request, kind: type[_B]) -> _B:
    raw = await _read(request)
    try:
        body = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        known = ", ".join(kind.__struct_fields__)
        remedy = choices.remedy(kind, place, f"fields: {known}")
        raise BadInput(f"body{place.rstrip('`')}", problem, remedy) from None
    except msgspec.DecodeError as error:
        raise BadInput("body", f"not JSON: {error}", "send a JSON object") from None
    _check_once(raw)
    return body


def _check_once(raw: bytes) -> None:
    """Refuse JSON in which an object has a key twice: one of the values would be ignored. :raises BadInput:"""

    def once(pairs: list[tuple[str, object]]) -> None:
        said: set[str] = set()
        for name, _ in pairs:
            if name in said:
                raise BadInput("body", f"{shortened(name)!r} more than once", "say it once")
            said.add(name)

    # Numbers stay text: they have been read already, by rules of their own.
    json.loads(raw.decode(), object_pairs_hook=once, parse_int=str, parse_float=str, parse_constant=str)


def _query(request: Request, name: str, default: int | None, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    number = decimal(text, most)
    if not number:
        raise BadInput(f"query {name}", f"{shortened(text)!r} is none", f"a number from 1 to {most}")
    return number


_PARAMETERS = {
    ("GET", "/flows"): ("replica", "limit"),
    ("GET", "/moves"): ("limit",),
    ("DELETE", "/moves/{epoch}"): ("wait",),
}
"""What may be in the query; of other paths, nothing."""


def _only(*known: str) -> Callable[[Request], Awaitable[None]]:
    """Refuses query parameters that a path does not have, or has twice: one of them would be ignored."""

    async def check(request: Request) -> None:
        said: set[str] = set()
        for name, _ in request.query_params.multi_items():
            if name not in known:
                remedy = f"this path has: {', '.join(known)}" if known else "this path has none"
                raise BadInput(f"query {name}", "no such parameter", remedy)
            if name in said:
                raise BadInput(f"query {name}", "more than once", "say it once")
            said.add(name)

    return check


def _decided(move: Move) -> MoveRefused:
    problem = f"is decided ({move.step.value}): its flows are the target's"
    return MoveRefused(f"move {move.plan.epoch}", problem, "wait for its end, then move them back")


def _shown(ended: Report | None, running: Move | None, row: MoveRow | None) -> dict[str, Any] | None:
    """A move as the first of these knows it that knows it at all; None if none does. A report has its last word."""
    if ended is not None:
        return move_json(ended)
    if running is not None:
        return move_json(report(running))
    return None if row is None else row_json(row)


def _moved(results: list[Report], **more: Any) -> JSONResponse:
    """Moves that were waited for: 202 if one is late, and goes on by itself."""
    answer = {"moves": [move_json(result) for result in results]} | more
    return JSONResponse(answer, 200 if all(result.over for result in results) else 202)


class _Routes:
    """The handlers. Those that change something refuse until the orchestrator is ready."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._o = orchestrator
        self._configuring = asyncio.Lock()

    def _ready(self) -> None:
        if not self._o.ready.is_set():
            remedy = "try again in a few seconds; `splitmerge status` says when it is ready, and what is wrong"
            raise NotReady("the orchestrator", f"is starting: {awaited(self._o)}", remedy)

    async def status(self) -> dict[str, Any]:
        o, now = self._o, asyncio.get_running_loop().time()
        drops = await o.drops()
        punted = drops["switch"].pop("punted", 0)  # to the controller: not lost
        return {
            "ready": o.ready.is_set(),
            "problems": problems(o, now),
            "switch_ready": o.switch_ready,
            "agent": bool(o.fleet.agents.connected),
            "agents": [
                {"name": each.peer.name, "kind": each.peer.kind, "slots": list(each.peer.slots)}
                for each in o.fleet.agents.connected
            ],
            "switches": {name: switch_json(state) for name, state in o.switches().items()},
            "assignment": o.config.assignment,
            "replicas": len(o.fleet.live()),
            "replicas_died": o.replicas_died,
            "orchestrator_restarts": o.restarts,
            "agent_connections": o.fleet.agents.met,
            "replacements": replacements_json(o),
            "flows": sum(each.flows for each in o.fleet.working()),
            "flow_entries": sum(1 for _ in o.placement.flows()),
            "moves_running": [move_json(report(move)) for move in o.mover.running()] if o.started else [],
            "moves": dict(o.mover.reports.outcomes) if o.started else {},
            "elasticity": o.autoscaler.config.policy if o.started else o.config.elasticity.policy,
            "silent_replicas": health.silent(o.fleet, now),
            "controller": controller_json(o.packet_figures()),
            "punted": punted,
            "drops": drops,
        }

    async def replicas(self) -> list[dict[str, Any]]:
        return [replica_json(self._o, each) for _, each in sorted(self._o.fleet.replicas.items())]

    async def flows(self, request: Request) -> list[dict[str, Any]]:
        self._ready()
        limit = _query(request, "limit", 1000, FLOWS_MOST)
        wanted = _query(request, "replica", None, 0xFFFF)
        fleet, placement = self._o.fleet, self._o.placement
        chosen = [fleet.get(wanted)] if wanted is not None else fleet.working()
        found: list[dict[str, Any]] = []
        for replica in chosen:
            for key in map(FlowKey, await self._flows_of(replica, limit)):
                entry = placement.entry(key)
                found.append({"flow": str(key), "replica": replica.number, "bucket": key.bucket, "entry": entry})
        return found[:limit]

    async def _flows_of(self, replica: Replica, limit: int | None) -> list[bytes]:
        """None if it has ended meanwhile: one that is to go does so at any time. :raises PeerError: if it is silent."""
        fleet = self._o.fleet
        if replica not in fleet.working():
            return []
        try:
            return await fleet.flows(replica.number, self._o.config.deadlines.list, limit)
        except PeerError:
            if replica in fleet.working():
                raise
            return []

    async def moves(self, request: Request) -> list[dict[str, Any]]:
        self._ready()
        limit = _query(request, "limit", 100, MOVES_MOST) or 0
        running, reports = self._running(), self._o.mover.reports
        rows = {row.plan.epoch: row for row in self._o.journal.moves(limit)}
        # Thousands may have ended: only those that are shown are made into words, since nothing else runs meanwhile.
        newest = heapq.nlargest(limit, {*running, *reports.epochs, *rows})
        known = (_shown(reports.get(epoch), running.get(epoch), rows.get(epoch)) for epoch in newest)
        return [move for move in known if move is not None]

    async def move(self, epoch: int) -> dict[str, Any]:
        self._ready()
        row = self._o.journal.move(epoch)  # forgets before this process does
        ended, running = self._o.mover.reports.get(epoch), self._running().get(epoch)
        shown = _shown(ended, running, row)
        if shown is None:
            raise NoSuchMove(epoch)
        history = None if running is None or ended is not None else list(running.history)
        return shown | {"scope": None if row is None else scope_json(row.plan.scope), "history": history}

    def _running(self) -> dict[int, Move]:
        return {move.plan.epoch: move for move in self._o.mover.running()}

    async def cancel(self, epoch: int, request: Request) -> Response:
        self._ready()
        mover = self._o.mover
        within = _query(request, "wait", CANCEL_WAIT, CANCEL_WAIT_MOST)
        running = self._running().get(epoch)
        if running is None:
            return JSONResponse(move_json(self._cancel_rest(epoch)))
        if running.decided or not mover.cancel(epoch, "called off by request"):
            raise _decided(running)
        try:
            async with asyncio.timeout(within):
                await mover.wait(epoch)
        except TimeoutError:
            if not running.decided:
                return JSONResponse(move_json(report(running)), 202)
        if running.decided:  # it was too late: a source that died meanwhile, say
            raise _decided(running)
        return JSONResponse(move_json(report(running)))

    async def shared(self, key: str) -> dict[str, Any]:
        self._ready()
        lock = self._o.shared_state.lock(key)
        if lock is not None:  # without a combiner: one value, at the lock service
            value = None if lock.value is None else element_json(lock.value)
            return {"key": key, "value": value, "token": lock.token, "holder": lock.holder or None}
        found = await self._o.shared(key)
        if not found.known and not found.missing:
            raise NoSuchObject(key)
        return {"key": key, "elements": list(map(element_json, found.elements)), "missing": list(found.missing)}

    async def metrics(self) -> Response:
        self._ready()
        await self._o.read_switches()
        return Response(metrics.render(self._o), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def migrate(self, request: Request) -> Response:
        body = await _body(request, MigrateBody)
        self._ready()
        if bool(body.keys or body.buckets) == body.all:
            problem = "all, and keys or buckets besides" if body.all else "nothing to move"
            raise BadInput("body", problem, "name keys, buckets or both; or all, with a source")
        if len(body.keys) > KEYS_MOST:
            remedy = f"at most {KEYS_MOST} at once; more in several requests, or by bucket"
            raise BadInput("body.keys", f"{len(body.keys)} flows", remedy)
        wanted = Wanted(tuple(map(FlowKey.parse, body.keys)), body.buckets, body.all)
        options = body.options(self._o.config.defaults)
        try:
            planned, work = self._o.migrate(wanted, body.target, body.source, options)
        except AlreadyThere:
            if unknown := await self._unknown(wanted.keys, body.target):
                raise MoveRefused(f"flow {unknown}", "is unknown: no replica has it", FLOWS_SEEN) from None
            raise
        if not body.wait:
            return JSONResponse({"moves": [move_json(result) for result in planned], "started": True})
        return _moved(await work, started=True)

    async def _unknown(self, keys: Iterable[FlowKey], replica: int) -> FlowKey | None:
        """The first of these flows that the replica would have, and has not; None if it has all of them.

        :raises PeerError: if it does not say.
        """
        asked = [key for key in dict.fromkeys(keys) if self._o.placement.entry(key) is None]
        if not asked:
            return None
        scope, within = Scope(keys=tuple(asked)), self._o.config.deadlines.list
        unknown = set((await self._o.fleet.related(replica, scope, (), within)).unknown)
        return next((key for key in asked if key in unknown), None)

    def _cancel_rest(self, epoch: int) -> Report:
        """A move that is over, with what was to follow from it called off. :raises NoSuchMove: :raises MoveRefused:"""
        mover = self._o.mover
        if (result := mover.cancel_rest(epoch, "called off by request")) is not None:
            return result
        if self._o.journal.move(epoch) is None:
            raise NoSuchMove(epoch)
        remedy = "move its flows again if they should be elsewhere"
        if following := [move.plan.epoch for move in mover.running() if move.follows == epoch]:
            remedy = f"call off what follows from it: move {', '.join(map(str, following))}"
        raise MoveRefused(f"move {epoch}", "is over", remedy)

    async def scale_out(self, request: Request) -> Response:
        body = await _body(request, ScaleOutBody)
        self._ready()
        if not body.rebalance:
            body.moves_nothing("rebalance is false")
        options = body.options(self._o.config.defaults)
        result = await self._o.scale_out(body.count, rebalance=body.rebalance, kind=body.kind, options=options)
        return _moved(result.moves, added=result.added, replicas=[each.number for each in self._o.fleet.live()])

    async def scale_in(self, request: Request) -> dict[str, Any]:
        body = await _body(request, ScaleInBody)
        self._ready()
        if body.drain:
            body.moves_nothing("drain is true")
        work = self._o.scale_in(body.replica, drain=body.drain, options=body.options(self._o.config.defaults))
        if not body.wait:
            await asyncio.wait([work], timeout=REFUSED_WITHIN)
            if not work.done():
                self._o.unwatched(work, "drain" if body.drain else "scale-in")
        removed = await work if body.wait or work.done() else None
        return {"removed": removed, "replicas": [each.number for each in self._o.fleet.live()]}

    async def rebalance(self, request: Request) -> Response:
        body = await _body(request, RebalanceBody)
        self._ready()
        return _moved(await self._o.rebalance(body.by, body.most, body.options(self._o.config.defaults)))

    async def elasticity(self) -> dict[str, Any]:
        self._ready()
        scaler = self._o.autoscaler
        return {
            "config": msgspec.to_builtins(scaler.config),
            "problem": scaler.problem,
            "start_up": round(scaler.seen.start_up, 3),
            "trend": load_json(scaler.seen.trend),
            "replicas": {str(number): load_json(load) for number, load in scaler.seen.replicas.items()},
            "actions": [
                {"at": each.at, "action": type(each.wanted).__name__.lower(), "why": each.wanted.why,
                 "seconds": round(each.seconds, 3), "outcome": each.outcome}
                for each in scaler.actions
            ],
        }  # fmt: skip

    async def configure(self, request: Request) -> dict[str, Any]:
        self._ready()
        try:
            raw = await _read(request)
            change = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise BadInput("body", f"not a JSON object: {error}", "send a JSON object") from None
        _check_once(raw)
        scaler = self._o.autoscaler
        async with self._configuring:
            section = msgspec.to_builtins(scaler.config) | change
            if change.get("policy", scaler.config.policy) != scaler.config.policy and "settings" not in change:
                section["settings"] = {}  # the other policy's
            # A policy of one's own may take its time: in a thread, or everything would wait.
            config, damper = await aside(partial(make_section, section, self._o.config.assignment))
            scaler.configure(config, damper)
        return await self.elasticity()


def _error(status: int, error: str, where: str = "", remedy: str = "") -> JSONResponse:
    return JSONResponse({"error": error, "where": where, "remedy": remedy}, status)


_STATUS: tuple[tuple[type[SplitmergeError], int], ...] = (
    (NoSuchMove, 404),
    (NoSuchObject, 404),
    (NoSuchReplica, 404),
    (MoveRefused, 409),
    (ScalingFailed, 409),
    (NotReady, 503),
    (AgentFailed, 503),
    (TooLarge, 413),
    (BadInput, 400),
    (Timeout, 504),
    (PeerError, 503),
    (SplitmergeError, 503),
)


async def _splitmerge_error(request: Request, error: Exception) -> JSONResponse:
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    problem = getattr(error, "problem", str(error))
    return _error(status, problem, getattr(error, "where", request.url.path), getattr(error, "remedy", ""))


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, str(error.detail), request.url.path, "see the list of paths in the documentation")


async def _value_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _error(400, str(first["msg"]), ".".join(map(str, first["loc"])), "see the documentation")


def make_app(orchestrator: Orchestrator) -> FastAPI:
    """The application; needs no running server."""
    app = FastAPI(title="Splitmerge orchestrator", docs_url=None, redoc_url=None)
    routes = _Routes(orchestrator)
    getters: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("/status", routes.status), ("/replicas", routes.replicas), ("/flows", routes.flows), ("/moves", routes.moves),
        ("/moves/{epoch}", routes.move), ("/shared/{key:path}", routes.shared), ("/metrics", routes.metrics),
        ("/elasticity", routes.elasticity),
    )  # fmt: skip
    posters: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("/moves", routes.migrate), ("/migrate", routes.migrate), ("/scale-out", routes.scale_out),
        ("/scale-in", routes.scale_in), ("/rebalance", routes.rebalance),
    )  # fmt: skip
    others: tuple[tuple[str, str, Callable[..., Any]], ...] = (
        ("PATCH", "/elasticity", routes.configure), ("DELETE", "/moves/{epoch}", routes.cancel),
    )  # fmt: skip
    known = (*(("GET", *each) for each in getters), *(("POST", *each) for each in posters), *others)
    for method, path, handler in known:
        only = Depends(_only(*_PARAMETERS.get((method, path), ())))
        app.add_api_route(path, handler, methods=[method], response_model=None, dependencies=[only])
    app.add_exception_handler(SplitmergeError, _splitmerge_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _value_error)
    return app
