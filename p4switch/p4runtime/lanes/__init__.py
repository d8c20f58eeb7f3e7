"""Short ways through grpcio for the two calls whose speed controllers feel: Write and StreamChannel.

grpcio's threaded server hands a call to and fro between its serving thread and a worker, three times for a Write and
twice for each message of a stream. A *lane* has the serving thread itself take the next step, as the call's events come
out of the completion queue: a Write of a few updates is carried out there and then, and one sent message follows the
other. Threads, ports, TLS and all other methods remain grpcio's.

What lanes use of grpcio is not its public interface: the completion queue's tags, and `grpc._cython.cygrpc`, on which
grpcio's own server is written in the same way. Where any of it is not as expected, `open_core` gives None and grpcio's
workers serve these methods too.
"""

from p4switch.p4runtime.lanes.core import Core, Failure, open_core
from p4switch.p4runtime.lanes.stream import StreamLane
from p4switch.p4runtime.lanes.unary import UnaryLane

__all__ = ["Core", "Failure", "StreamLane", "UnaryLane", "open_core"]
