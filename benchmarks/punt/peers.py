"""The other processes of the measurement: the traffic, and a replica that only knows the data-plane rules.

python -m benchmarks.punt.peers replica                      answers markers and relayed packets, until killed
python -m benchmarks.punt.peers traffic RATE SECONDS SIZE    sends 1,000 flows; prints frames sent and seconds taken
"""

import select
import sys

from benchmarks.punt.world import CABLES
from benchmarks.switch.traffic import Generator, frame
from benchmarks.switch.wires import IN, OUT
from splitmerge import tag as tags
from splitmerge.linux.afpacket import PacketSocket
from splitmerge.tag import Tag, TagKind

FLOWS = 1000
_ANSWER = bytes.fromhex("0200000000fe0200000000fe0000") + bytes(46)


class Replica:
    """Echoes MARKER, accepts RELAYED and END in order and acknowledges."""

    def __init__(self) -> None:
        self._expected: dict[int, int] = {}

    def answer(self, mark: Tag) -> bytes | None:
        """The frame to send for this tag."""
        if mark.kind is TagKind.MARKER:
            return Tag(TagKind.MARKER_ECHO, mark.epoch, mark.sequence).push(_ANSWER)
        if mark.kind not in (TagKind.RELAYED, TagKind.END):
            return None
        expected = self._expected.get(mark.epoch, 1)
        if mark.sequence == expected:
            expected = self._expected[mark.epoch] = expected + 1
        return Tag(TagKind.RELAY_ACK, mark.epoch, expected).push(_ANSWER)


def replica() -> None:
    """Until killed."""
    rules = Replica()
    with PacketSocket(CABLES.peers[OUT]) as port:
        print("ready", flush=True)
        while True:
            select.select([port], [], [])
            marks = [popped[0] for frame in port.receive() if (popped := tags.pop(frame)) is not None]
            port.send_many([answer for mark in marks if (answer := rules.answer(mark)) is not None])


def traffic(rate: float, seconds: float, size: int) -> None:
    """Send at a rate."""
    generator = Generator([frame(number, size) for number in range(FLOWS)], CABLES.peers[IN])
    print("ready", flush=True)
    sys.stdin.readline()
    sent, taken = generator.run(rate, seconds)
    print(sent, taken, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "replica":
        replica()
    else:
        traffic(float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
