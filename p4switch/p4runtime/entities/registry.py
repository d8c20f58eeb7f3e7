"""One pipeline's handlers, and batches of updates through them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finsy.proto import p4r

from p4switch.errors import SwitchError
from p4switch.p4runtime.digests import DigestBuffers
from p4switch.p4runtime.entities.actions import ActionCodec
from p4switch.p4runtime.entities.arrays import Counters, Meters, Registers
from p4switch.p4runtime.entities.base import DELETE, INSERT, MODIFY, Context, Handler, Undo, unsupported
from p4switch.p4runtime.entities.direct import DirectCounters, DirectMeters
from p4switch.p4runtime.entities.others import Digests, ValueSets
from p4switch.p4runtime.entities.profiles import Groups, Members
from p4switch.p4runtime.entities.replication import ReplicationEngine
from p4switch.p4runtime.entities.serialized import Recognizers, Run
from p4switch.p4runtime.entities.tables import Tables
from p4switch.p4runtime.status import Code, Refused, invalid, refusal

_KINDS = frozenset({INSERT, MODIFY, DELETE})


class Entities:
    """Reads and writes of one committed pipeline. Call with the device's lock held."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.digests = DigestBuffers()
        actions = ActionCodec(context)
        self.tables = Tables(context, actions)
        self.recognizers = Recognizers(self.tables.by_id)
        self._handlers: dict[str, Handler] = {
            "table_entry": self.tables,
            "direct_counter_entry": DirectCounters(context, self.tables),
            "direct_meter_entry": DirectMeters(context, self.tables),
            "action_profile_member": Members(context, actions),
            "action_profile_group": Groups(context, actions),
            "counter_entry": Counters(context),
            "meter_entry": Meters(context),
            "register_entry": Registers(context),
            "packet_replication_engine_entry": ReplicationEngine(context),
            "digest_entry": Digests(context, self.digests),
            "value_set_entry": ValueSets(context),
        }

    def _handler(self, entity: p4r.Entity) -> tuple[Handler, str]:
        name = entity.WhichOneof("entity")
        if name is None:
            raise invalid("the entity is not set", strict=Code.UNKNOWN)
        handler = self._handlers.get(name)
        if handler is None:
            raise unsupported(f"{name}: v1model has no externs of its own")
        return handler, name

    def update(self, update: p4r.Update) -> Undo:
        """Carry out one update. :raises Refused: nothing changed."""
        try:
            if update.type not in _KINDS:
                raise invalid("the update's type is not set")
            handler, name = self._handler(update.entity)
            return handler.write(update.type, getattr(update.entity, name))
        except SwitchError as error:
            raise refusal(error, strict=self.context.strict) from None

    def write(self, updates: Sequence[p4r.Update]) -> list[Refused | None]:
        """Carry out each update that can be (CONTINUE_ON_ERROR); the errors, None for those done."""
        results: list[Refused | None] = []
        for update in updates:
            try:
                self.update(update)
            except Refused as error:
                results.append(error)
            else:
                results.append(None)
        return results

    def carry_out(self, updates: Sequence[Run | p4r.Update]) -> list[Refused | None]:
        """As `write`, for a request that `recognizers` took apart."""
        results: list[Refused | None] = []
        for update in updates:
            if not isinstance(update, Run):
                results += self.write((update,))
                continue
            change, matches = update
            start = len(results)
            results += [None] * len(matches)
            for position, error in change(matches).items():
                results[start + position] = refusal(error, strict=self.context.strict)
        return results

    def write_all_or_none(self, updates: Sequence[p4r.Update]) -> list[Refused | None]:
        """Carry out all updates, or none if one is refused; the errors, None for each if all are done."""
        undos: list[Undo] = []
        for position, update in enumerate(updates):
            try:
                undos.append(self.update(update))
            except Refused as error:
                for undo in reversed(undos):
                    undo()
                taken_back = Refused(Code.ABORTED, f"taken back, or not tried, because update {position} was refused")
                results: list[Refused | None] = [taken_back] * len(updates)
                results[position] = error
                return results
        return [None] * len(updates)

    def read(self, entity: p4r.Entity) -> Iterator[p4r.Entity]:
        """What one element of a ReadRequest selects; iterate without the lock. :raises Refused: it is wrong."""
        try:
            handler, name = self._handler(entity)
            return handler.read(getattr(entity, name))
        except SwitchError as error:
            raise refusal(error, strict=self.context.strict) from None
