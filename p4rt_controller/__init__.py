"""The controller of the switch: tables, suspend and resume, packets of suspended flows."""

from p4rt_controller.assignment import AssignmentPolicy, ByHash, LeastLoaded, RoundRobin, policy, spread
from p4rt_controller.buffer import Room
from p4rt_controller.controller import Controller
from p4rt_controller.errors import (
    ControllerError,
    Refusal,
    ReplicaSilent,
    ScopeConflict,
    StaleEpoch,
    SwitchUnavailable,
    UnknownReplica,
    WriteRejected,
)
from p4rt_controller.events import (
    BufferFull,
    ControllerEvent,
    ControllerStats,
    Drained,
    DropCounts,
    FlowEntry,
    FlowIdle,
    NewFlow,
    PacketFigures,
    Resumed,
    SwitchLost,
    SwitchReady,
    SwitchState,
)
from p4rt_controller.options import AddressReply, ControllerOptions, PuntPort, Route
from p4rt_controller.restored import RestoredState
from p4rt_controller.writer import Changes

__all__ = [
    "AddressReply",
    "AssignmentPolicy",
    "BufferFull",
    "ByHash",
    "Changes",
    "Controller",
    "ControllerError",
    "ControllerEvent",
    "ControllerOptions",
    "ControllerStats",
    "Drained",
    "DropCounts",
    "FlowEntry",
    "FlowIdle",
    "LeastLoaded",
    "NewFlow",
    "PacketFigures",
    "PuntPort",
    "Refusal",
    "ReplicaSilent",
    "RestoredState",
    "Resumed",
    "Room",
    "RoundRobin",
    "Route",
    "ScopeConflict",
    "StaleEpoch",
    "SwitchLost",
    "SwitchReady",
    "SwitchState",
    "SwitchUnavailable",
    "UnknownReplica",
    "WriteRejected",
    "policy",
    "spread",
]
