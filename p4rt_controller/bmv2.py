"""Quirks of BMv2's ``simple_switch_grpc`` that the controller allows for, each with its reason.

Nothing here asks which switch is there: every value and every order is harmless on a switch without the quirk.
"""

from __future__ import annotations

RELAY_WINDOW = 32
"""Every egress queue holds 64 packets and drops the rest silently, the CPU port's included (``simple_switch.cpp``,
constructor; behavioral-model issues 1066 and 1130). Half of it leaves room for direct packets."""

IDLE_SECONDS_MIN = 1.0
IDLE_REMEDY = "1 or more: BMv2 looks for idle entries once a second"
"""``docs/simple_switch.md``: idle timeouts are swept every second, and reported again about every 2 s."""

CLONE_SESSION_MAX = 32767
"""Sessions above are reserved: they are kept as hidden multicast groups from 32768 on (PI ``device_mgr.cpp``)."""

DELETE_CLONE_SESSION_BEFORE_PIPELINE = True
"""Loading a pipeline makes the P4Runtime server forget its clone sessions, but not the target: made again, such a
session copies every packet twice (behavioral-model issue 891). So it is deleted while the server still knows it."""

FULL_TABLE_READ_BYTES = 256 * 1024 * 1024
"""A read is answered with one message, however long (PI ``pi_server.cpp``: 256 MB); gRPC's default limit is 4 MiB."""

CLONE_SESSION_INSERTIONS = 2
"""Where another client loaded the pipeline again, the forgotten session is still in the target, and one made on top of
it copies twice (seen on 1.15.5). A session made is known to the server, so deleting it deletes the target's multicast
group with all its members; one made after that copies once."""
