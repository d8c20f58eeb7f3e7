"""The interpreter with a per-packet trace, line for line where simple_switch has one.

Another generated module (see p4switch.interpreter.tracing) and another class, so that the untraced ones hold no test.
Lines begin with ``[N.C] [cxt 0]``: N counts received frames, C the copies of one in the order in which they run.
"""

import logging
from collections import deque
from collections.abc import Callable
from random import Random
from typing import TypeVar

from p4switch import ir
from p4switch.device import Transmit
from p4switch.interpreter.engine import RESUBMITTED, SESSION, Interpreter, Job
from p4switch.interpreter.generate import Generated, generate
from p4switch.interpreter.helpers import AssertionFailed
from p4switch.interpreter.layout import Layout
from p4switch.interpreter.packet import Packet
from p4switch.interpreter.tracing import Narrator
from p4switch.ir import MatchKind
from p4switch.logs import TRACE
from p4switch.runtime import ActionCall, Drop, Entry, Replica, State, Table

logger = logging.getLogger("p4switch.packet")

T = TypeVar("T")


class Tracer:
    """What generated code calls. ``label`` is of the packet, or copy, that is being processed."""

    def __init__(self, actions: dict[int, str]) -> None:
        self.label = ""
        self._actions = actions

    def debug(self, text: str, *values: object) -> None:
        """Log a step."""
        logger.debug("[%s] [cxt 0] " + text, self.label, *values)

    def trace(self, text: str, *values: object) -> None:
        """Log a detail."""
        logger.log(TRACE, "[%s] [cxt 0] " + text, self.label, *values)

    def found(self, table: Table, entry: Entry | None) -> None:
        """The outcome of a lookup."""
        if entry is None:
            self.debug("Table '%s': miss", table.name)
            return
        priority = f" priority {entry.priority}" if table.needs_priority else ""
        self.debug("Table '%s': hit, entry {%s}%s", table.name, _match(table, entry), priority)
        if not isinstance(entry.action, ActionCall):
            self.debug("Table '%s': through %s", table.name, entry.action)

    def chosen(self, action_id: int, args: tuple[int, ...]) -> None:
        """The action that a table runs."""
        name = self._actions.get(action_id, "none")
        self.debug("Action entry is %s - %s", name, ",".join(f"{arg:x}" for arg in args))


def _match(table: Table, entry: Entry) -> str:
    return ", ".join(
        f"{key.name}={_field(key, value)}" for key, value in zip(table.spec.keys, entry.match, strict=True)
    )


def _field(key: ir.Key, value: object) -> str:
    digits = (key.width + 3) // 4
    match key.kind, value:
        case MatchKind.LPM, (int(prefix), int(length)):
            return f"0x{prefix:0{digits}x}/{length}"
        case MatchKind.TERNARY, (int(bits), int(mask)):
            return f"0x{bits:0{digits}x} &&& 0x{mask:0{digits}x}"
        case MatchKind.RANGE, (int(low), int(high)):
            return f"0x{low:0{digits}x} -> 0x{high:0{digits}x}"
        case _, int(number):
            return f"0x{number:0{digits}x}"
    return "*"


class TracedInterpreter(Interpreter):
    """As `Interpreter`, slower, and telling ``p4switch.packet``'s logger at DEBUG and TRACE what happens."""

    def __init__(self, state: State, random: Random | None = None) -> None:
        self._tracer = Tracer({number: action.name for number, action in state.program.actions.items()})
        self._errors = {number: name for name, number in state.program.errors.items()}
        super().__init__(state, random)
        self._frames = 0
        self._copies = 0

    def _generate(self, state: State, layout: Layout, random: Random) -> Generated:
        made = generate(state, layout, random, Narrator(), self._tracer)
        return Generated(
            made.source,
            self._parsing(made.parse),
            made.verify,
            self._stage("Pipeline 'ingress'", made.ingress),
            self._stage("Pipeline 'egress'", made.egress),
            self._stage("Deparser 'deparser'", made.deparse),
        )

    def _parsing(self, parse: Callable[[list[int], bytes, Packet], int]) -> Callable[[list[int], bytes, Packet], int]:
        def traced(f: list[int], d: bytes, p: Packet) -> int:
            self._tracer.debug("Parser 'parser': start")
            error = parse(f, d, p)
            if error:
                self._tracer.debug("Parser 'parser': error %s", self._errors.get(error, str(error)))
            self._tracer.debug("Parser 'parser': end, %d bytes parsed", p.offset)
            return error

        return traced

    def _stage(self, name: str, run: Callable[[list[int], Packet], T]) -> Callable[[list[int], Packet], T]:
        def traced(f: list[int], p: Packet) -> T:
            self._tracer.debug("%s: start", name)
            result = run(f, p)
            self._tracer.debug("%s: end", name)
            return result

        return traced

    # -- one frame ---------------------------------------------------------------------------------------------------

    def process(self, port: int, frame: bytes, now_us: int) -> list[Transmit]:
        """As `Interpreter.process`."""
        self._copies = 0
        self._tracer.label = f"{self._frames}.0"
        self._tracer.debug("Processing packet received on port %d, %d bytes", port, len(frame))
        endless = self._state.drops[Drop.TOO_MANY_PASSES]
        sent = super().process(port, frame, now_us)
        if self._state.drops[Drop.TOO_MANY_PASSES] != endless:
            self._tracer.debug("Dropping packet: it was resubmitted, recirculated or cloned without end")
        self._frames += 1
        return sent

    def _enter(self, p: Packet) -> None:
        """Lines from now on are this packet's."""
        if not hasattr(p, "label"):
            p.label = f"{self._frames}.{self._copies}"
            self._copies += 1
        self._tracer.label = p.label

    def _run_ingress(self, f: list[int], p: Packet, jobs: deque[Job]) -> None:
        self._enter(p)
        drops, before = self._state.drops, self._state.drops[Drop.INGRESS]
        self._telling_assertions(lambda: super(TracedInterpreter, self)._run_ingress(f, p, jobs))
        if drops[Drop.INGRESS] != before:
            self._tracer.debug("Dropping packet at the end of ingress")
        elif jobs and jobs[-1][1] is p:
            self._tracer.debug("Egress port is %d", jobs[-1][2])

    def _run_egress(self, f: list[int], p: Packet, port: int, rid: int, jobs: deque[Job], sent: list[Transmit]) -> None:
        self._enter(p)
        drops, count = self._state.drops, len(sent)
        before, without_queue = drops[Drop.EGRESS], drops[Drop.NO_SUCH_QUEUE]
        self._telling_assertions(lambda: super(TracedInterpreter, self)._run_egress(f, p, port, rid, jobs, sent))
        if drops[Drop.NO_SUCH_QUEUE] != without_queue:
            self._tracer.debug("Dropping packet: port %d has no queue of its priority", port)
        if drops[Drop.EGRESS] != before:
            self._tracer.debug("Dropping packet at the end of egress")
        for frame in sent[count:]:
            self._tracer.debug("Transmitting packet of size %d out of port %d", len(frame.frame), frame.port)

    def _telling_assertions(self, run: Callable[[], None]) -> None:
        try:
            run()
        except AssertionFailed as error:
            self._tracer.debug("Dropping packet: %s failed", error)
            raise

    # -- copies ------------------------------------------------------------------------------------------------------

    def _clone_ingress(self, f: list[int], p: Packet, arrived: int, jobs: deque[Job]) -> None:
        self._tell_clone("ingress", p)
        super()._clone_ingress(f, p, arrived, jobs)

    def _clone_egress(self, f: list[int], p: Packet, jobs: deque[Job]) -> None:
        self._tell_clone("egress", p)
        super()._clone_egress(f, p, jobs)

    def _tell_clone(self, where: str, p: Packet) -> None:
        number = p.clone_session & SESSION
        session = self._state.clone_sessions.find(number)
        ports = "which does not exist" if session is None else _ports(session.replicas)
        self._tracer.debug("Cloning packet at %s to session %d, %s", where, number, ports)

    def _again(self, f: list[int], p: Packet, frame: bytes, field_list: int, instance: int, jobs: deque[Job]) -> None:
        self._tracer.debug("%s packet", "Resubmitting" if instance == RESUBMITTED else "Recirculating")
        super()._again(f, p, frame, field_list, instance, jobs)

    def _multicast(self, f: list[int], p: Packet, group: int, jobs: deque[Job]) -> None:
        found = self._state.multicast.find(group)
        ports = "which does not exist: dropping packet" if found is None else _ports(found.replicas)
        self._tracer.debug("Multicast requested for packet to group %d, %s", group, ports)
        super()._multicast(f, p, group, jobs)

    def _digest(self, f: list[int], p: Packet) -> None:
        found = self._state.program.digests.get(p.digest)
        self._tracer.debug("Digest '%s'", found.name if found else p.digest)
        super()._digest(f, p)


def _ports(replicas: tuple[Replica, ...]) -> str:
    ports = ", ".join(str(replica.port) for replica in replicas)
    return f"ports {ports}" if ports else "no ports"
