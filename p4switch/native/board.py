"""The switchboard's layout: what the loop in generated code and Python share. See p4switch.native.loop."""


class Port:
    """Offsets in the record of a port."""

    RING = 0  # address
    SLOT_SIZE = 8
    SLOTS = 16
    POSITION = 24  # next slot to read
    RELEASED = 32  # next slot to give back
    FD = 40
    NUMBER = 48
    STAGED = 56  # messages waiting for sendmmsg
    STUCK = 64  # the last frame was given up: the next are not waited for
    RECEIVED = 72
    RECEIVED_BYTES = 80
    SENT = 88
    SENT_BYTES = 96
    SEND_FAILED = 104
    TOO_LONG = 112
    TRUNCATED = 120
    SIZE = 128


class Message:
    """Offsets in struct mmsghdr of 64-bit Linux, and in its two struct iovec."""

    IOV = 16
    IOV_COUNT = 24
    LENGTH = 56
    SIZE = 64
    IOV_SIZE = 32


class Board:
    """Offsets in the switchboard."""

    STOP = 0  # u32
    WAKE = 8  # fd: readable when the loop should look at STOP
    TELL = 16  # fd of an eventfd: written when packet-ins begin to wait
    CPU_PORT = 24  # u64, NO_PORT: none
    EPOCH_NS = 32  # monotonic clock when the device's clock was 0
    PORTS = 40  # u64
    PUNTED = 48  # bytes of packet-ins that wait
    PUNTED_FRAMES = 56
    PUNTS_LOST = 64
    NO_SUCH_PORT = 72
    LOOPING = 80  # u32, run_loop is inside
    BATCHES = 88
    TELLING = 96  # u64, somebody must be told
    LOCK = 128
    GATE = 192
    TIME = 256  # struct timespec
    ERROR = 272  # int and its length, for getsockopt
    POLL_ONE = 288  # struct pollfd
    MOST_PORTS = 256
    STAGE = 64
    """Messages that one port gathers before they are sent."""
    POLL = 512
    NUMBERS = 4096  # u16 for each port number: index of the record + 1
    RECORDS = NUMBERS + 2 * 65536
    MESSAGES = RECORDS + MOST_PORTS * Port.SIZE
    IOVS = MESSAGES + MOST_PORTS * STAGE * Message.SIZE
    PUNT_ROOM = 1 << 24
    PUNTS = IOVS + MOST_PORTS * STAGE * Message.IOV_SIZE
    TAKEN = PUNTS + PUNT_ROOM
    SIZE = TAKEN + PUNT_ROOM
    NO_PORT = (1 << 32) - 1
