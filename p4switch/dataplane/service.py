"""The gRPC side of ``--dp-grpc-server-addr``: ``p4.bm.DataplaneInterface``, as in behavioral-model's switch_runner.cpp.

Half-closing the stream has what was sent on it processed and answered before the call ends, as there. Frames for
another device, and empty ones, are passed over, as there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

from p4switch.dataplane import messages
from p4switch.dataplane.messages import OperStatus
from p4switch.dataplane.ports import Session, StreamPorts
from p4switch.ports.base import Numbered
from splitmerge.errors import BadInput

log = logging.getLogger("p4switch")
_WORKERS = 8
_LARGEST_PORT = 0xFFFF


class DataplaneServer:
    """A listening server.

    :param set_link: told (port, up) by SetPortOperStatus.
    :raises BadInput: it cannot listen there.
    """

    def __init__(self, ports: StreamPorts, device_id: int, set_link: Callable[[int, bool], None]) -> None:
        self._ports = ports
        self._device_id = device_id
        self._set_link = set_link
        pool = futures.ThreadPoolExecutor(_WORKERS, thread_name_prefix="p4switch-dp")
        self._server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._handlers(),))
        try:
            self.port = int(self._server.add_insecure_port(ports.address))
        except RuntimeError:
            remedy = "is another switch running there? choose another"
            raise BadInput("--dp-grpc-server-addr", f"cannot listen on {ports.address}", remedy) from None

    def _handlers(self) -> Any:
        stream = grpc.stream_stream_rpc_method_handler(
            self._packet_stream,
            request_deserializer=messages.PacketStreamRequest.FromString,
            response_serializer=messages.PacketStreamResponse.SerializeToString,
        )
        status = grpc.unary_unary_rpc_method_handler(
            self._set_port_oper_status,
            request_deserializer=messages.SetPortOperStatusRequest.FromString,
            response_serializer=messages.SetPortOperStatusResponse.SerializeToString,
        )
        methods = {"PacketStream": stream, "SetPortOperStatus": status}
        return grpc.method_handlers_generic_handler(messages.SERVICE, methods)

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, deadline: float = 1.0) -> None:
        """End the stream and refuse everything from now on."""
        self._server.stop(0).wait(deadline)

    # -- the calls ---------------------------------------------------------------------------------------------------

    def _packet_stream(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        session = self._ports.open()
        if session is None:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "only one client authorized at a time")
            raise AssertionError("abort() raises")
        threading.Thread(target=self._read, args=(requests, session), name="p4switch-dp-read", daemon=True).start()
        while batch := session.take():
            for port, frame in batch:
                number = frame.number if isinstance(frame, Numbered) else 0
                yield messages.PacketStreamResponse(
                    id=number, device_id=self._device_id, port=port, packet=bytes(frame)
                )

    def _read(self, requests: Iterator[Any], session: Session) -> None:
        try:
            for request in requests:
                if request.device_id != self._device_id or not request.packet:
                    continue
                if request.port > _LARGEST_PORT:
                    log.warning("PacketStream: there is no port %d", request.port)
                    continue
                if not self._ports.bring(request.port, request.packet, request.id):
                    return
        except grpc.RpcError:
            log.debug("PacketStream: the client is gone")
        finally:
            self._ports.leave(session)

    def _set_port_oper_status(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.device_id != self._device_id:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Invalid device id")
        if request.oper_status not in (OperStatus.DOWN, OperStatus.UP):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Invalid oper status")
        self._set_link(request.port, request.oper_status == OperStatus.UP)
        return messages.SetPortOperStatusResponse()
