"""``--dp-grpc-server-addr``: packets without interfaces, over the gRPC service that BMv2's own tests use."""

from p4switch.dataplane.ports import Session, StreamPorts
from p4switch.dataplane.service import DataplaneServer

__all__ = ["DataplaneServer", "Session", "StreamPorts"]
