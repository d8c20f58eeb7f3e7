"""The flow entries' own counters and idle timeouts.

Run:  python ptf_tests/run.py [--target bmv2] entries[.Class]
"""

import queue
import time

from base import CLIENT_PORT, PORT_OF, R1, R2, SERVER_PORT, SplitmergeTest, flow_entry, key_of
from frames import CLIENT4, SERVER4, from_client, from_server, tcp4, tcp6, udp4, udp6

SECOND = 1_000_000_000
"""In nanoseconds."""


class DirectCounters(SplitmergeTest):
    """Both directions count on the one entry: packets and bytes; other flows do not."""

    def runTest(self) -> None:
        there, back = from_client(tcp4()), from_server(tcp4(SERVER4, 80, CLIENT4, 40000) / b"more")
        key, other = self.steer(there, R1), self.steer(from_client(udp4()), R1)
        self.assertEqual(self.counted(key), (0, 0))
        for _ in range(3):
            self.through(CLIENT_PORT, there, PORT_OF[R1])
        self.through(SERVER_PORT, back, PORT_OF[R1])
        self.assertEqual(self.counted(key), (4, 3 * len(there) + len(back)))
        self.assertEqual(self.counted(other), (0, 0))


class DirectCounters6(SplitmergeTest):
    """Suspended packets count too."""

    def runTest(self) -> None:
        frame = from_client(tcp6())
        key = self.steer(frame, R1, suspend=True)
        self.send(CLIENT_PORT, frame)
        self.client.packet_in()
        self.assertEqual(self.counted(key), (1, len(frame)))


class CountersSurviveModify(SplitmergeTest):
    """A flow that moves keeps its count."""

    def runTest(self) -> None:
        frame = from_client(tcp4())
        key = self.steer(frame, R1)
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.modify(flow_entry(key, R2))
        self.through(CLIENT_PORT, frame, PORT_OF[R2])
        self.assertEqual(self.counted(key), (2, 2 * len(frame)))


class IdleTimeout(SplitmergeTest):
    """The controller is told of the entry that has been idle, and of no other; the entry stays."""

    def runTest(self) -> None:
        for frame in (from_client(udp4()), from_client(udp6())):
            self.check(frame)

    def check(self, frame: bytes) -> None:
        key, lasting = key_of(frame), key_of(from_client(tcp4()))
        idle = flow_entry(key, R1, idle_timeout_ns=SECOND)
        self.insert(idle, flow_entry(lasting, R1))
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        told = self.client.idle.get(timeout=10.0)
        self.assertEqual((told.table_id, told.match), (idle.table_id, idle.match))
        self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.delete(idle, flow_entry(lasting, R1))
        # What was said before the entry went.
        while not self.client.idle.empty():
            self.assertEqual(self.client.idle.get().match, told.match)


class BusyIsNotIdle(SplitmergeTest):
    """Packets keep an entry from timing out."""

    def runTest(self) -> None:
        frame = from_client(udp4(sport=41000))
        key = key_of(frame)
        self.insert(flow_entry(key, R1, idle_timeout_ns=3 * SECOND))
        end = time.monotonic() + 6.0
        while time.monotonic() < end:
            self.through(CLIENT_PORT, frame, PORT_OF[R1])
        self.assertRaises(queue.Empty, self.client.idle.get_nowait)
