"""The P4 program: its compiled outputs, and the numbers that it shares with Python."""

from p4src.errors import CompilerFailed, CompilerMissing, P4BuildError, StaleOutputs
from p4src.reasons import CPU_CLONE_SESSION, CPU_PORT, DROP_PORT, ETHERTYPE_PUNT, DropReason, PortRole, PuntReason
from p4src.record import P4BLOB, P4INFO

__all__ = [
    "CPU_CLONE_SESSION",
    "CPU_PORT",
    "DROP_PORT",
    "ETHERTYPE_PUNT",
    "P4BLOB",
    "P4INFO",
    "CompilerFailed",
    "CompilerMissing",
    "DropReason",
    "P4BuildError",
    "PortRole",
    "PuntReason",
    "StaleOutputs",
]
