"""A replica as the first process of a virtual machine, and what it and the agent say to one another.

agent                              guest (`guestlib.machine.init`, process 1)
  | <------------------ Booted ---- |   kernel up, modules loaded
  | -- Prepare -------------------> |   loads the middlebox, runs its setup, gives the interface its addresses
  | <---------------- Prepared ---- |   internal state is initialised, no external state yet: the snapshot (§3.4)
  |   (snapshot; every replica is restored from here, or goes on from here where there is no snapshot)
  | -- Begin ---------------------> |   who it is, the time, fresh entropy; the replica is forked
  | <------------------- Begun ---- |
  | -- End -----------------------> |   SIGTERM to the replica
  | <------------------- Ended ---- |   how it ended; the machine powers off
"""

from guestlib.machine.protocol import (
    PORT_NAME,
    Begin,
    Begun,
    Booted,
    Decoder,
    End,
    Ended,
    Failed,
    Prepare,
    Prepared,
    Traffic,
    encode,
)

__all__ = [
    "PORT_NAME",
    "Begin",
    "Begun",
    "Booted",
    "Decoder",
    "End",
    "Ended",
    "Failed",
    "Prepare",
    "Prepared",
    "Traffic",
    "encode",
]
