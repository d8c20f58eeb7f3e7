"""The journal: what an orchestrator must know after `kill -9` to put everything right. SQLite.

A step of a move is written here before it is taken (`Record.later` says which may be a moment late); owners change in
the transaction that ends the move. So a new process reads a consistent picture at any time: owners as of the last ended
moves, and the moves that had not ended.

Durability. SQLite in WAL mode with ``synchronous=NORMAL`` loses nothing when the *process* dies: a committed page is
in the kernel. A power failure may lose the newest transactions, but on one machine it also ends every replica, with
all the state that a journal could speak of. Where replicas run on other hosts, open it with ``durability="power"``:
every commit then waits for the disk (``synchronous=FULL``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from orchestrator.coherence.locks import LockRow
from orchestrator.errors import JournalError, NumbersUsedUp
from orchestrator.migration import Options, Plan
from orchestrator.migration.steps import TERMINAL, Step
from p4rt_controller.scopes import FIRST_SWITCH
from splitmerge.errors import BadInput
from splitmerge.messages import Scope, SharedElement

APPLICATION_ID = 0x5350_4D47
"""``PRAGMA application_id`` of our files: "SPMG"."""
VERSION = 11
"""``PRAGMA user_version``: layout of the tables."""
KEPT_DEATHS = 100
"""Deaths that are remembered, the newest."""
KEPT_MOVES = 1000
"""Ended moves that stay readable, at least."""
CLEARED_EVERY = 64
"""Older ones are deleted once in so many moves: a deletion touches pages that nothing else does."""
LAST_EPOCH = 0xFFFF_FFFF
LAST_REPLICA = FIRST_SWITCH - 1
"""The switch has room for greater numbers, but those name switches."""
BUSY = 2.0
"""Seconds to wait for another process's lock on the file."""

_DEATHS_TABLE = """
CREATE TABLE deaths (position INTEGER PRIMARY KEY, replica INTEGER NOT NULL, flows INTEGER NOT NULL,
                     at REAL NOT NULL) STRICT
"""
_SCHEMA = f"""
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE replicas (replica INTEGER PRIMARY KEY, slot INTEGER NOT NULL, port INTEGER NOT NULL,
                       state TEXT NOT NULL, incarnation TEXT NOT NULL, maker TEXT) STRICT;
CREATE TABLE buckets (bucket INTEGER PRIMARY KEY, replica INTEGER NOT NULL) STRICT;
CREATE TABLE flows (key BLOB PRIMARY KEY, replica INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE moves (epoch INTEGER PRIMARY KEY, relay INTEGER NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL,
                    address TEXT NOT NULL, home TEXT NOT NULL, options BLOB NOT NULL, scope BLOB NOT NULL,
                    step TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', planned REAL NOT NULL DEFAULT 0,
                    follows INTEGER NOT NULL DEFAULT 0, renewed INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX open_moves ON moves (epoch) WHERE step NOT IN ('done', 'undone');
CREATE TABLE relays (relay INTEGER PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;
CREATE TABLE finals (key TEXT NOT NULL, origin TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL,
                     value BLOB NOT NULL, PRIMARY KEY (key, origin)) STRICT, WITHOUT ROWID;
CREATE TABLE locks (key TEXT PRIMARY KEY, token INTEGER NOT NULL, holder INTEGER NOT NULL, request INTEGER NOT NULL,
                    written BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE lock_values (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE figures (epoch INTEGER PRIMARY KEY, figures BLOB NOT NULL) STRICT;
CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE second_keys (key BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE unreplaced (position INTEGER PRIMARY KEY, replica INTEGER NOT NULL, kind TEXT NOT NULL,
                         lived INTEGER NOT NULL, failures INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
{_DEATHS_TABLE};
INSERT INTO counter VALUES ('epoch', 0), ('replica', 0);
"""
_UPGRADES: Mapping[int, tuple[str, ...]] = {
    8: (
        "ALTER TABLE moves ADD COLUMN planned REAL NOT NULL DEFAULT 0",
        "ALTER TABLE moves ADD COLUMN follows INTEGER NOT NULL DEFAULT 0",
    ),
    9: ("ALTER TABLE moves ADD COLUMN renewed INTEGER NOT NULL DEFAULT 0",),
    10: (_DEATHS_TABLE,),
}
"""Layout → what makes the next one of it."""


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """A replica that was created and not yet seen to end."""

    replica: int
    slot: int
    port: int
    state: str
    """``starting``, ``live``, ``finishing``, ``draining`` (finishing, and its flows stay until they end) or ``gone``
    (ended, but still the owner of something)."""
    incarnation: str = ""
    maker: str | None = None
    """As `orchestrator.replicas.fleet.Replica.maker`."""


@dataclass(frozen=True, slots=True)
class UnreplacedRow:
    """A replica that died and in whose place none is to come; as `orchestrator.scaling.replacements.Owed`."""

    replica: int
    kind: str
    lived: int
    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class DeathRow:
    """A replica that ended unasked while it had flows."""

    replica: int
    flows: int
    """As it said last."""
    at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class MoveRow:
    """A move as journalled."""

    plan: Plan
    step: Step
    relay: int
    reason: str = ""
    planned: float = 0.0
    """When it was asked for, in seconds since 1970; 0: not known, or not told (as to `Journal.end`)."""
    follows: int = 0
    """The move that this one was made for; 0: none, or not told."""


@dataclass(frozen=True, slots=True)
class JournalState:
    """All that is read at start."""

    epoch: int
    replicas: dict[int, ReplicaRow] = field(default_factory=dict)
    buckets: dict[int, int] = field(default_factory=dict)
    flows: dict[bytes, int] = field(default_factory=dict)
    moves: tuple[MoveRow, ...] = ()
    """Those that have not ended, oldest first."""
    finals: dict[str, tuple[SharedElement, ...]] = field(default_factory=dict)
    locks: dict[str, LockRow] = field(default_factory=dict)
    second: frozenset[bytes] = frozenset()
    """Those of ``flows`` that are second keys of other flows."""
    figures: tuple[bytes, ...] = ()
    """Of moves that have ended, oldest first, as they were handed in."""
    totals: dict[str, int] = field(default_factory=dict)
    """What is counted for longer than a process lives, by name."""
    relays: dict[int, int] = field(default_factory=dict)
    """Epochs that `Journal.next_relay` gave, and the moves that got them, as long as these stay readable."""
    unreplaced: tuple[UnreplacedRow, ...] = ()
    """As `Journal.leave_dead` was told last."""
    deaths: tuple[DeathRow, ...] = ()
    """The newest, oldest first."""


class Journal:
    """An open journal. One process at a time: a second one that opens the same file is refused.

    Every method raises `JournalError` if the file cannot be read or written.
    """

    def __init__(self, path: Path, *, durability: Literal["process", "power"] = "process") -> None:
        self._path = path
        self._cleared = 0
        """The newest epoch whose end was followed by `_clear`; 0: none of this process."""
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY)
        except sqlite3.Error as error:
            raise JournalError(str(path), str(error), "give a path in a directory that can be written") from None
        try:
            self._open(durability)
        except BaseException:
            self._db.close()
            raise

    def _open(self, durability: str) -> None:
        with self._errors():
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._check_whose()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
            with self._transaction():
                version = self._pragma("user_version")
                if version == 0:
                    self._create()
                for layout in range(version or VERSION, VERSION):
                    self._upgrade(layout)

    def _check_whose(self) -> None:
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        application, version = self._pragma("application_id"), self._pragma("user_version")
        if tables == 0 and application == 0:
            return
        if application != APPLICATION_ID:
            raise JournalError(str(self._path), "is another program's database", "name another file")
        if version != VERSION and version not in _UPGRADES:
            problem = f"has layout {version}; this program writes {VERSION}"
            raise JournalError(str(self._path), problem, "end the moves with the program that wrote it, then remove it")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise JournalError(str(self._path), f"is damaged: {verdict}", _DAMAGED)

    def _create(self) -> None:
        # executescript would commit the transaction that makes this all or nothing.
        for statement in filter(str.strip, _SCHEMA.split(";")):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version={VERSION}")

    def _upgrade(self, layout: int) -> None:
        for statement in _UPGRADES[layout]:
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version={layout + 1}")

    def _pragma(self, name: str) -> int:
        (value,) = self._db.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def close(self) -> None:
        """Close the file. A closed journal may be opened again."""
        self._db.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            remedy = "another orchestrator may be running on it" if "locked" in str(error) else "see disk and rights"
            raise JournalError(str(self._path), str(error), remedy) from None
        except sqlite3.DatabaseError as error:
            raise JournalError(str(self._path), f"cannot be read: {error}", _DAMAGED) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _at_once(self, statement: str, values: tuple[Any, ...]) -> int:
        """One statement that is a transaction by itself, without three of them; how many rows it has changed."""
        with self._errors():
            return self._db.execute(statement, values).rowcount

    # -- moves -------------------------------------------------------------------------------------------------

    def next_epoch(self) -> int:
        """A number that no move has had. :raises NumbersUsedUp: after 2**32 - 1 of them."""
        with self._errors():
            return self._count("epoch", LAST_EPOCH)

    def next_relay(self, epoch: int) -> int:
        """A fresh epoch for an unfinished move to begin under, or to hold and relay; it is remembered whose it is."""
        with self._transaction():
            relay = self._count("epoch", LAST_EPOCH)
            self._db.execute("INSERT INTO relays VALUES (?,?)", (relay, epoch))
        return relay

    def next_replica(self) -> int:
        """An id that no replica has had. :raises NumbersUsedUp: after `LAST_REPLICA` of them."""
        with self._transaction():
            return self._count("replica", LAST_REPLICA)

    def _count(self, name: str, most: int) -> int:
        """The next one. All rows are fetched: outside a transaction the statement is committed behind the last."""
        statement = "UPDATE counter SET value = value + 1 WHERE name = ? AND value < ? RETURNING value"
        rows = self._db.execute(statement, (name, most)).fetchall()
        if not rows:
            remedy = "remove the journal while nothing runs"
            raise NumbersUsedUp(str(self._path), f"no {name} is left of {most}", remedy)
        return int(rows[0][0])

    def plan(self, plan: Plan, planned: float = 0.0, follows: int = 0) -> None:
        """A move is accepted: written as PLANNED. ``planned``, ``follows``: as in `MoveRow`."""
        values = (
            plan.epoch, plan.epoch, plan.source, plan.target, plan.address, plan.home, _pack(plan.options),
            _pack(plan.scope), Step.PLANNED.value, planned, follows, plan.renewed,
        )  # fmt: skip
        self._at_once(f"INSERT INTO moves ({_PLAN}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", values)

    def replan(self, plan: Plan) -> None:
        """The plan of a move that has not begun has changed: what is moved, how, or under which epoch."""
        values = (_pack(plan.options), _pack(plan.scope), plan.renewed, plan.epoch)
        self._at_once("UPDATE moves SET options = ?, scope = ?, renewed = ? WHERE epoch = ?", values)

    def record(self, epoch: int, step: Step, relay: int) -> None:
        """The move takes this step."""
        changed = self._at_once("UPDATE moves SET step = ?, relay = ? WHERE epoch = ?", (step.value, relay, epoch))
        self._expect_one(changed, epoch)

    def end(self, move: MoveRow, owners: Mapping[int, int], flows: Mapping[bytes, int], figures: bytes = b"") -> None:
        """The move ends in this step; from here on these are the owners of its buckets and flows."""
        epoch, step = move.plan.epoch, move.step
        if step not in TERMINAL:
            raise ValueError(f"{step} does not end a move")
        with self._transaction():
            ended = "UPDATE moves SET step = ?, relay = ?, reason = ? WHERE epoch = ?"
            self._expect_one(self._db.execute(ended, (step.value, move.relay, move.reason, epoch)).rowcount, epoch)
            self._own(owners)
            self._place(flows)
            self._add({f"moves.{step.value}": 1})
            if figures:
                self._db.execute("INSERT OR REPLACE INTO figures VALUES (?,?)", (epoch, figures))
            if not self._cleared <= epoch < self._cleared + CLEARED_EVERY:
                self._clear(epoch)

    def _clear(self, epoch: int) -> None:
        """Delete what is kept of moves that ended long ago. Numbers do not tell: a move may use up several."""
        ended = "FROM moves WHERE step IN ('done', 'undone')"
        old = self._db.execute(f"SELECT epoch {ended} ORDER BY epoch DESC LIMIT 1 OFFSET ?", (KEPT_MOVES,)).fetchone()
        old = old or (0,)
        self._db.execute(f"DELETE {ended} AND epoch <= ?", old)
        self._db.execute("DELETE FROM figures WHERE epoch <= ?", old)
        self._db.execute("DELETE FROM relays WHERE epoch NOT IN (SELECT epoch FROM moves)")
        self._cleared = epoch

    def keep_figures(self, epoch: int, figures: bytes) -> None:
        """The figures of a move that has ended have changed since."""
        self._at_once("UPDATE figures SET figures = ? WHERE epoch = ?", (figures, epoch))

    def _expect_one(self, changed: int, epoch: int) -> None:
        if changed != 1:
            raise JournalError(str(self._path), f"has no move {epoch}", _DAMAGED)

    def moves(self, limit: int = 100) -> list[MoveRow]:
        """The newest moves, ended ones too, newest first."""
        with self._errors():
            rows = self._db.execute(f"SELECT {_MOVE} FROM moves ORDER BY epoch DESC LIMIT ?", (limit,)).fetchall()
        return [self._move(row) for row in rows]

    def move(self, epoch: int) -> MoveRow | None:
        """One move; None if there is none, or if it ended long ago."""
        if not 0 < epoch <= LAST_EPOCH:
            return None
        with self._errors():
            row = self._db.execute(f"SELECT {_MOVE} FROM moves WHERE epoch = ?", (epoch,)).fetchone()
        return None if row is None else self._move(row)

    def _move(self, row: tuple[int, int, int, int, str, str, bytes, bytes, str, float, int, int, str]) -> MoveRow:
        epoch, relay, source, target, address, home, packed, within, step, planned, follows, renewed, reason = row
        try:
            options = msgspec.msgpack.decode(packed, type=Options)
            scope = msgspec.msgpack.decode(within, type=Scope)
            plan = Plan(epoch, scope, source, target, address, home, options, renewed)
            return MoveRow(plan, Step(step), relay, reason, planned, follows)
        except (ValueError, BadInput) as error:
            raise JournalError(str(self._path), f"move {epoch} cannot be read: {error}", _DAMAGED) from None

    # -- owners ------------------------------------------------------------------------------------------------

    def own(self, owners: Mapping[int, int]) -> None:
        """Bucket owners that change without a move (nobody had the buckets)."""
        with self._transaction():
            self._own(owners)

    def forget(self, keys: Iterable[bytes]) -> None:
        """These flows have no entry any more."""
        rows = [(bytes(key),) for key in keys]
        with self._transaction():
            self._db.executemany("DELETE FROM flows WHERE key = ?", rows)
            self._db.executemany("DELETE FROM second_keys WHERE key = ?", rows)

    def place_second(self, flows: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        """Entries that replicas asked for, without a move; ``second`` as in `Placement.place_second`."""
        with self._transaction():
            self._place(flows)
            self._db.executemany("INSERT OR IGNORE INTO second_keys VALUES (?)", [(bytes(key),) for key in second])

    def _own(self, owners: Mapping[int, int]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO buckets VALUES (?,?)", owners.items())

    def _place(self, flows: Mapping[bytes, int]) -> None:
        rows = [(bytes(key), replica) for key, replica in flows.items()]
        self._db.executemany("INSERT OR REPLACE INTO flows VALUES (?,?)", rows)

    # -- replicas ----------------------------------------------------------------------------------------------

    def put_replica(self, row: ReplicaRow, counts: Mapping[str, int] | None = None) -> None:
        """A replica is new, or is in another state. ``counts``: what it adds to the totals, since it has ended."""
        values = (row.replica, row.slot, row.port, row.state, row.incarnation, row.maker)
        with self._transaction():
            self._add(counts or {})
            self._db.execute("INSERT OR REPLACE INTO replicas VALUES (?,?,?,?,?,?)", values)

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the totals."""
        with self._transaction():
            self._add(counts)

    def _add(self, counts: Mapping[str, int]) -> None:
        statement = "INSERT INTO totals VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value"
        self._db.executemany(statement, counts.items())

    def died(self, row: DeathRow, counts: Mapping[str, int]) -> None:
        """A replica has ended unasked. ``counts``: what that adds to the totals."""
        with self._transaction():
            self._add(counts)
            if row.flows:
                values = (row.replica, row.flows, row.at)
                self._db.execute("INSERT INTO deaths (replica, flows, at) VALUES (?,?,?)", values)
                newest = "SELECT max(position) FROM deaths"
                self._db.execute(f"DELETE FROM deaths WHERE position <= ({newest}) - ?", (KEPT_DEATHS,))

    def drop_replica(self, replica: int) -> None:
        """It has ended and owns nothing."""
        with self._transaction():
            self._db.execute("DELETE FROM replicas WHERE replica = ?", (replica,))

    def leave_dead(self, rows: Iterable[UnreplacedRow]) -> None:
        """These, and no others, died and are not replaced."""
        values = [(each.replica, each.kind, each.lived, each.failures, each.reason) for each in rows]
        with self._transaction():
            self._db.execute("DELETE FROM unreplaced")
            self._db.executemany(
                "INSERT INTO unreplaced (replica, kind, lived, failures, reason) VALUES (?,?,?,?,?)", values
            )

    # -- coherent state ----------------------------------------------------------------------------------------

    def keep_final(self, key: str, element: SharedElement) -> None:
        """A replica's newest contribution: it must outlive this process, and the replica."""
        values = (key, element.origin, element.version, element.kind, element.value)
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO finals VALUES (?,?,?,?,?)", values)

    def keep_folded(self, key: str, element: SharedElement, origins: Iterable[str]) -> None:
        """One element in place of those of these origins, which are in it."""
        values = (key, element.origin, element.version, element.kind, element.value)
        with self._transaction():
            self._db.executemany(
                "DELETE FROM finals WHERE key = ? AND origin = ?", [(key, origin) for origin in origins]
            )
            self._db.execute("INSERT OR REPLACE INTO finals VALUES (?,?,?,?,?)", values)

    def keep_lock(self, key: str, row: LockRow, *, wrote: bool = True) -> None:
        """A lock, and the value that it guards, if that has changed: it may be large."""
        values = (key, row.token, row.holder, row.request, msgspec.msgpack.encode(dict(row.written)))
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO locks VALUES (?,?,?,?,?)", values)
            if wrote and row.value is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO lock_values VALUES (?,?)", (key, msgspec.msgpack.encode(row.value))
                )

    def _lock(self, row: tuple[str, int, int, int, bytes, bytes | None]) -> LockRow:
        key, token, holder, request, written, packed = row
        try:
            value = None if packed is None else msgspec.msgpack.decode(packed, type=SharedElement)
            return LockRow(token, holder, request, value, msgspec.msgpack.decode(written, type=dict[int, int]))
        except ValueError as error:
            raise JournalError(str(self._path), f"lock {key!r} cannot be read: {error}", _DAMAGED) from None

    # -- at start ----------------------------------------------------------------------------------------------

    def load(self) -> JournalState:
        """Everything a new process needs."""
        with self._errors():
            (epoch,) = self._db.execute("SELECT value FROM counter WHERE name = 'epoch'").fetchone()
            replicas = [ReplicaRow(*row) for row in self._db.execute("SELECT * FROM replicas")]
            buckets = dict(self._db.execute("SELECT bucket, replica FROM buckets").fetchall())
            flows = dict(self._db.execute("SELECT key, replica FROM flows").fetchall())
            second = frozenset(key for (key,) in self._db.execute("SELECT key FROM second_keys"))
            rows = self._db.execute(f"SELECT {_MOVE} FROM moves WHERE {_OPEN} ORDER BY epoch").fetchall()
            figures = tuple(packed for (packed,) in self._db.execute("SELECT figures FROM figures ORDER BY epoch"))
            totals = dict(self._db.execute("SELECT name, value FROM totals").fetchall())
            relays = dict(self._db.execute("SELECT relay, epoch FROM relays").fetchall())
            unreplaced = tuple(UnreplacedRow(*row) for row in self._db.execute(_UNREPLACED))
            deaths = tuple(DeathRow(*row) for row in self._db.execute(_DEATHS))
            finals: dict[str, tuple[SharedElement, ...]] = {}
            for key, origin, version, kind, value in self._db.execute("SELECT * FROM finals"):
                element = SharedElement(origin=origin, version=version, kind=kind, value=value)
                finals[key] = (*finals.get(key, ()), element)
            locks = {row[0]: self._lock(row) for row in self._db.execute(_LOCKS)}
        moves = tuple(self._move(row) for row in rows)
        rows_of = {row.replica: row for row in replicas}
        return JournalState(
            epoch, rows_of, buckets, flows, moves, finals, locks, second, figures, totals, relays, unreplaced, deaths
        )


_LOCKS = "SELECT l.*, v.value FROM locks l LEFT JOIN lock_values v USING (key)"
_UNREPLACED = "SELECT replica, kind, lived, failures, reason FROM unreplaced ORDER BY position"
_DEATHS = "SELECT replica, flows, at FROM deaths ORDER BY position"
_PLAN = "epoch, relay, source, target, address, home, options, scope, step, planned, follows, renewed"
_MOVE = f"{_PLAN}, reason"
_OPEN = "step NOT IN ('done', 'undone')"
_DAMAGED = "stop the replicas, remove the file and start again"


def _pack(value: Scope | Options) -> bytes:
    return msgspec.msgpack.encode(value, enc_hook=bytes)
