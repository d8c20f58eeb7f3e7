"""The one place that awaits table writes: desired rows, what the switch is believed to hold, and the way between.

Callers change ``desired`` and `sync` the rows they changed. What is believed follows every answer; a write without an
answer (connection lost, caller cancelled) leaves its rows *uncertain*: they are written again whatever is believed,
and the switch's own answer (ALREADY_EXISTS, NOT_FOUND) settles it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from p4rt_controller.errors import Refusal, SwitchUnavailable, WriteRejected
from p4rt_controller.link import BatchRefused, Link
from p4rt_controller.schema import Pipeline
from p4rt_controller.tables import Key, Op, Table, TableState, Update, diff, repaired, update_for
from splitmerge.flowkey import FlowKey

_logger = logging.getLogger(__name__)
_REPAIRS = 3
"""Rounds of INSERT ↔ MODIFY for one batch: two settle any row, unless somebody else writes too."""
_YIELD_EVERY = 500
"""Entries decoded between two chances for the rest of the process."""

Row = tuple[Table, Key]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reconciliation did, in rows."""

    inserted: int = 0
    modified: int = 0
    deleted: int = 0


class TableWriter:
    """Writes for one device; survives connections."""

    def __init__(self, pipeline: Pipeline, device_id: int, batch: int) -> None:
        self._pipeline = pipeline
        self._device_id = device_id
        self._batch = batch
        self._link: Link | None = None
        self._lock = asyncio.Lock()
        self._uncertain: set[Row] = set()
        self.desired = TableState()
        self.believed = TableState()
        self.written = 0
        """Updates made."""
        self.repaired = 0
        """Updates that needed another operation than was believed."""
        self.refused = 0
        """Updates refused for good."""

    def attach(self, link: Link) -> None:
        """Use this connection from now on."""
        self._link = link

    def detach(self) -> None:
        """The connection is gone, or another client is primary."""
        self._link = None

    async def sync(self, rows: Iterable[Row]) -> int:
        """Make the switch hold the desired values of these rows; the number of updates.

        :raises SwitchUnavailable: if there is no connection, or it broke: desired rows stay and are written later.
        :raises WriteRejected: if the switch refused some: their desired values are put back.
        """
        remaining = iter(rows)
        refusals: list[Refusal] = []
        count = 0
        while chunk := list(islice(remaining, self._batch)):
            async with self._lock:
                updates = [update for row in chunk if (update := self._update(*row)) is not None]
                refusals += await self._write(updates)
                count += len(updates)
        if refusals:
            raise WriteRejected(refusals)
        return count

    def _update(self, table: Table, key: Key) -> Update | None:
        desired, believed = self.desired.get(table, key), self.believed.get(table, key)
        update = update_for(table, key, desired, believed)
        if update is None and (table, key) in self._uncertain:
            return Update(Op.DELETE if desired is None else Op.MODIFY, table, key, desired)
        return update

    async def reconcile(self, *, adopt: frozenset[Table] = frozenset()) -> Changes:
        """Read the switch and write what differs. Tables to ``adopt`` become desired as they are there.

        :raises SwitchUnavailable: if the connection breaks.
        """
        async with self._lock:
            link = self._current()
            self.believed = await self._read(link)
            for table in adopt:
                self.desired.replace(table, self.believed)
            self._uncertain.clear()
            updates = diff(self.desired, self.believed)
            refusals: list[Refusal] = []
            for start in range(0, len(updates), self._batch):
                refusals += await self._write(updates[start : start + self._batch])
        if refusals:
            _logger.error("reconciliation: %s", WriteRejected(refusals))
        counts = {op: sum(update.op is op for update in updates) for op in Op}
        return Changes(counts[Op.INSERT], counts[Op.MODIFY], counts[Op.DELETE])

    async def _read(self, link: Link) -> TableState:
        state = TableState()
        seen = 0
        async for entities in link.read(self._pipeline.read_all(self._device_id)):
            for row in self._pipeline.rows(entities):
                state.put(*row)
                seen += 1
                if seen % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        return state

    def _current(self) -> Link:
        if self._link is None:
            raise SwitchUnavailable("write", "not connected as primary")
        return self._link

    async def _write(self, updates: list[Update]) -> list[Refusal]:
        """One batch. The refusals that no repair could settle; their desired rows are put back."""
        refusals: list[Refusal] = []
        for _ in range(_REPAIRS):
            if not updates:
                return refusals
            failures = await self._attempt(updates)
            updates, refused = self._settle(updates, failures)
            refusals += self._give_up(refused)
        contended = [(update, "ABORTED", "another client writes the same entry") for update in updates]
        return refusals + self._give_up(contended)

    async def _attempt(self, updates: list[Update]) -> dict[int, tuple[str, str]]:
        """Write, and believe what was made; the failures by index."""
        link = self._current()
        serialized = list(map(self._pipeline.serialize, updates))
        rows = [(update.table, update.key) for update in updates]
        self._uncertain.update(rows)
        failures: dict[int, tuple[str, str]] = {}
        try:
            await link.write_serialized(serialized)
        except BatchRefused as refused:
            failures = refused.failures
        except WriteRejected as error:
            first = error.refusals[0]
            failures = dict.fromkeys(range(len(updates)), (first.code, first.message))
        self._uncertain.difference_update(rows)
        made = [update for index, update in enumerate(updates) if index not in failures]
        self.believed.apply(made)
        self.written += len(made)
        return failures

    def _settle(
        self, updates: list[Update], failures: dict[int, tuple[str, str]]
    ) -> tuple[list[Update], list[tuple[Update, str, str]]]:
        """What to try next, and what is refused for good."""
        again: list[Update] = []
        refused: list[tuple[Update, str, str]] = []
        for index, (code, message) in failures.items():
            update = updates[index]
            try:
                other = repaired(update, code)
            except KeyError:
                refused.append((update, code, message))
                continue
            self.repaired += 1
            if other is None:
                self.believed.remove(update.table, update.key)
            else:
                again.append(other)
        return again, refused

    def _give_up(self, refused: list[tuple[Update, str, str]]) -> list[Refusal]:
        for update, _, _ in refused:
            believed = self.believed.get(update.table, update.key)
            if believed is None:
                self.desired.remove(update.table, update.key)
            else:
                self.desired.put(update.table, update.key, believed)
        refusals = [
            Refusal(str(update), code, message, bytes(update.key) if isinstance(update.key, FlowKey) else None)
            for update, code, message in refused
        ]
        if refusals:  # a line for all of them: where a table is full, there may be thousands
            _logger.warning("%s", WriteRejected(refusals))
        self.refused += len(refused)
        return refusals
