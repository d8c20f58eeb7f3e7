"""What a packet carries besides its parsed representation."""


class Packet:
    """One packet, or copy of one, on its way.

    ``length`` follows BMv2's packet register: headers added and removed change it. ``marked`` is set together with any
    of the wishes below it, so that an ordinary packet costs one test.
    """

    __slots__ = (
        "clone_list",
        "clone_session",
        "data",
        "depth",
        "digest",
        "label",
        "length",
        "marked",
        "now",
        "offset",
        "queue",
        "recirculate",
        "resubmit",
        "size",
        "truncate",
    )

    label: str
    """Its name in a trace; not there before it is traced."""

    def __init__(self, data: bytes, now: int, depth: int) -> None:
        self.data = data
        """The frame as it came in; what follows ``offset`` is payload."""
        self.offset = 0
        self.size = self.length = len(data)
        self.now = now
        self.depth = depth
        """How often this packet was resubmitted, recirculated or cloned already."""
        self.marked = False
        self.clone_session = 0
        self.clone_list = 0
        self.digest = 0
        self.resubmit = 0
        self.recirculate = 0
        self.truncate = -1
        """Bytes of the frame that are sent; -1 means all."""
        self.queue = 0
        """Class of service of the clone session, from egress on the queue of its port."""

    def copy(self) -> "Packet":
        """The same payload, without wishes."""
        twin = Packet(self.data, self.now, self.depth)
        twin.offset, twin.size, twin.length = self.offset, self.size, self.length
        return twin
