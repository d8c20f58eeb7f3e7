"""Numbers that the P4 program and Python share. ``include/define.p4`` has the meanings; a test compares the two."""

import enum

CPU_PORT = 510
"""The port to and from the controller."""
DROP_PORT = 511
ETHERTYPE_PUNT = 0x88B6
"""Of packet-ins and packet-outs in Ethernet frames: what passes the punt port."""
MAC_PUNT_CONTROLLER = bytes.fromhex("02534d000001")
MAC_PUNT_SWITCH = bytes.fromhex("02534d000002")
CPU_CLONE_SESSION = 1
"""The clone session that the control plane makes, with one copy to `CPU_PORT` or to the punt port."""


class PortRole(enum.IntEnum):
    """What a port is for."""

    NOBODY = 0
    HOST = 1
    REPLICA = 2
    CONTROLLER = 3
    TRUNK = 4


class DropReason(enum.IntEnum):
    """Why a packet went no further; the index of the counter ``drops``."""

    NONE = 0
    PUNTED = 1
    """No loss: the controller has the packet."""
    UNKNOWN_PORT = 2
    MALFORMED = 3
    BAD_CHECKSUM = 4
    FORGED_TAG = 5
    NOT_IP = 6
    NOT_UNICAST = 7
    UNANSWERED = 8
    NO_BUCKET = 9
    NO_REPLICA = 10
    NO_ROUTE = 11
    TTL_EXPIRED = 12
    BAD_PACKET_OUT = 13
    FORGED_PACKET_OUT = 14
    TOO_FAR = 15


class PuntReason(enum.IntEnum):
    """Why a packet is at the controller; ``reason`` of its packet-in header."""

    NONE = 0
    SUSPENDED = 1
    NEW_FLOW = 2
    TAGGED = 3
