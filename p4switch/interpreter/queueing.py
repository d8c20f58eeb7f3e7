"""Where a packet would wait between ingress and egress: priorities and queue metadata.

Frames wait behind egress here, in front of the port (p4switch.ports), so a packet reads the depth of the queue that it
is about to enter, twice (enq_qdepth, deq_qdepth), and a waiting time of 0 (deq_timedelta).
"""

from p4switch import ir
from p4switch.interpreter.layout import Layout
from p4switch.interpreter.packet import Packet
from p4switch.ir.walk import looked_at, mentioned
from p4switch.runtime import State

FIELDS = {
    "enq_timestamp": "queueing_metadata",
    "enq_qdepth": "queueing_metadata",
    "deq_timedelta": "queueing_metadata",
    "deq_qdepth": "queueing_metadata",
    "qid": "queueing_metadata",
    "priority": "intrinsic_metadata",
}


class Queueing:
    """Stamps packets of one program as they enter their port's queue."""

    def __init__(self, state: State, layout: Layout) -> None:
        self._state = state
        self._slots = {name: _slot(layout, name) for name in FIELDS}
        self._masks = {name: _mask(layout, name) for name in FIELDS}
        self._priority = self._slots["priority"] if _field(layout, "priority") else layout.void

    @staticmethod
    def needed(state: State, layout: Layout) -> bool:
        """Whether anything can notice: several queues, or a program that looks at a queue or sets a priority."""
        program = state.program
        if state.queues > 1 or _field(layout, "priority") in mentioned(program):
            return True
        looked = looked_at(program)
        return any(_field(layout, name) in looked for name in FIELDS)

    def enter(self, f: list[int], p: Packet, port: int) -> bool:
        """Choose the queue and set the metadata; False if there is no such queue and the packet is to be dropped."""
        queue = min(p.queue, self._state.queues - 1) or f[self._priority]
        if queue >= self._state.queues:
            return False
        p.queue = queue
        depth = self._state.queue_depth(port, queue)
        for name, value in (
            ("enq_timestamp", p.now),
            ("enq_qdepth", depth),
            ("deq_timedelta", 0),
            ("deq_qdepth", depth),
            ("qid", queue),
        ):
            f[self._slots[name]] = value & self._masks[name]
        return True


def _field(layout: Layout, name: str) -> ir.FieldRef | None:
    return layout.intrinsic(f"{FIELDS[name]}.{name}") or layout.intrinsic(f"standard_metadata.{name}")


def _slot(layout: Layout, name: str) -> int:
    ref = _field(layout, name)
    return layout.trash if ref is None else layout.slot(ref)


def _mask(layout: Layout, name: str) -> int:
    ref = _field(layout, name)
    return 0 if ref is None else (1 << layout.field(ref).width) - 1
