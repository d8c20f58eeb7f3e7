"""What the controller tells the orchestrator, and what its operations return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from p4src.reasons import DropReason
from splitmerge.flowkey import FlowKey


@dataclass(frozen=True, slots=True)
class NewFlow:
    """Nobody owns this flow. Its packets are kept until `Controller.resume` of its key, or dropped after a while."""

    key: FlowKey


@dataclass(frozen=True, slots=True)
class FlowIdle:
    """No packet has met this flow's entry for the time configured. May be said again."""

    key: FlowKey


@dataclass(frozen=True, slots=True)
class BufferFull:
    """Nine tenths of the room for packets of suspended flows are used, and this move gets more. Said once a move."""

    epoch: int


@dataclass(frozen=True, slots=True)
class SwitchLost:
    """The switch cannot be programmed until `SwitchReady`: gone, restarting, or another client is primary."""

    reason: str


@dataclass(frozen=True, slots=True)
class SwitchReady:
    """The switch holds the desired tables. Operations that raised `SwitchUnavailable` may be called again."""

    pipeline_loaded: bool
    """The switch had no pipeline, or another: its counters start at 0."""
    inserted: int
    modified: int
    deleted: int


ControllerEvent = NewFlow | FlowIdle | BufferFull | SwitchLost | SwitchReady


@dataclass(frozen=True, slots=True)
class Drained:
    """Everything that the switch sent the replica before has been processed."""

    rounds: int
    """Markers sent; more than 1 means that some were late or lost."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """A move's packets have been delivered and its flows go to the target."""

    epoch: int
    target: int
    relayed: int
    """Buffered packets delivered, each once and in order."""
    dropped: int
    """Packets lost because the buffer was full."""
    peak_packets: int
    peak_bytes: int
    retransmitted: int
    """Relayed frames sent more than once."""
    rounds: int
    """LOOP markers sent."""
    seconds: float
    """Time in `resume`."""
    suspended_seconds: float
    """From the first call for this epoch to the end."""
    refused: tuple[bytes, ...] = ()
    """New flows that have no entries, since the switch refused them: their packets were dropped."""
    refusal: str = ""
    """Why it did; empty if there are none."""


@dataclass(frozen=True, slots=True)
class SwitchState:
    """How one switch is."""

    ready: bool
    """It holds the desired tables."""
    address: str
    connections: int
    """Connections made so far; more than 1: it went away, or restarted."""
    last_error: str
    """Why the last connection ended; empty while all is well."""
    restarts: int = 0
    """Times that it came back without our pipeline: it had restarted, or another client had loaded another one."""


@dataclass(frozen=True, slots=True)
class DropCounts:
    """Packets that the P4 program of one switch has dropped, by reason (PUNTED: sent here)."""

    loads: int
    """Times that this controller has loaded the pipeline there, at each of which the counts began at 0 again."""
    packets: dict[DropReason, int]


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """A flow with an entry of its own, and its direct counter."""

    key: FlowKey
    replica: int
    suspended: bool
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ControllerStats:
    """Counts since the controller started, and the state now. Nothing is dropped without a count here."""

    ready: bool
    """The switch can be programmed."""
    primary: bool
    election_id: int
    connections: int
    """Streams opened, the current one included."""
    last_error: str
    moves: int
    """Moves under way."""
    flows: int
    """Flow entries desired."""
    replicas: int
    packet_ins: int
    suspended_packets: int
    new_flow_packets: int
    marker_echoes: int
    relay_acks: int
    loops: int
    strange_packets: int
    """Packet-ins that meant nothing: unknown reason or tag, or a signal for no operation."""
    stream_errors: int
    packet_outs: int
    buffered_packets: int
    buffered_bytes: int
    buffered_peak: int
    """Most packets kept at once for moves."""
    new_flows_waiting: int
    """Flows announced and not yet resumed."""
    orphan_packets: int
    """Packets kept now of flows that are suspended without a move."""
    dropped_buffer_full: int
    """Packets of suspended flows dropped for want of room."""
    dropped_new_flows: int
    """Packets of new flows dropped for want of room."""
    dropped_orphans: int
    """Orphan packets dropped for want of room."""
    dropped_expired: int
    """Packets of new flows, and orphans, that nobody wanted in time."""
    dropped_table_full: int
    """Packets of new flows whose entries the switch had no room for."""
    dropped_abandoned: int
    """Packets of abandoned moves that a replica may have had, or for which there was no more room."""
    updates_written: int
    updates_repaired: int
    updates_refused: int
    relayed: int
    retransmitted: int
    packet_path: Literal["packet-in", "ethernet"]
    """How packet-ins and packet-outs go: over P4Runtime, or through the punt port."""
    dropped_punt_ring: int
    """Packet-ins that the kernel had no room for: the controller did not come to read them in time."""
    dropped_punt_link: int
    """Packet-ins that the kernel dropped on the punt port's interface."""
    dropped_punt_truncated: int
    """Packet-ins longer than the interface's MTU said they could be."""
    packet_outs_refused: int
    """Packet-outs that the punt port's interface did not take; markers and relayed packets are sent again."""


@dataclass(frozen=True, slots=True)
class PacketFigures:
    """What became of the packets that came to the controller: counts since its start, by name."""

    passed: dict[str, int]
    """What came in, what was sent, what was delivered to replicas."""
    waiting: dict[str, int]
    """What is kept now, and was at most."""
    drops: dict[str, int]
    """What was dropped, by reason."""

    @classmethod
    def of(cls, members: Sequence[ControllerStats]) -> PacketFigures:
        """Of one network: the controllers of its switches, which share what is kept."""
        first = members[0]

        def total(name: str) -> int:
            return sum(int(getattr(each, name)) for each in members)

        return cls(
            passed={
                "packet_ins": total("packet_ins"), "suspended": total("suspended_packets"),
                "new_flows": total("new_flow_packets"), "packet_outs": total("packet_outs"),
                "relayed": total("relayed"), "retransmitted": total("retransmitted"),
            },
            waiting={
                "packets": first.buffered_packets, "bytes": first.buffered_bytes, "peak_packets": first.buffered_peak,
                "orphans": first.orphan_packets, "new_flows": first.new_flows_waiting,
            },
            drops={
                "buffer_full": first.dropped_buffer_full, "new_flow_full": first.dropped_new_flows,
                "orphan_full": first.dropped_orphans, "expired": first.dropped_expired,
                "table_full": first.dropped_table_full, "abandoned": first.dropped_abandoned,
                "punt_ring": total("dropped_punt_ring"),
                "punt_link": total("dropped_punt_link"), "punt_truncated": total("dropped_punt_truncated"),
                "packet_out_refused": total("packet_outs_refused"),
            },
        )  # fmt: skip
