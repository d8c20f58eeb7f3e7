"""The gRPC side: a thin shell around `ControlPlane`.

grpcio's threaded server rather than grpc.aio: measured with Python on both ends, it carries 1.5 to 2 times the stream
messages a second, and a Write blocks nobody but its own caller.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from finsy.proto import p4r
from google.protobuf.message import DecodeError

from p4switch.p4runtime.core import BatchRefused, ControlPlane
from p4switch.p4runtime.lane import Failure, open_lane
from p4switch.p4runtime.status import Code, Refused
from p4switch.p4runtime.streams import Answer, ClientStream, End
from splitmerge.errors import BadInput

log = logging.getLogger("p4switch.p4runtime")
T = TypeVar("T")

_LARGEST_MESSAGE = 256 << 20
_WORKERS = 64
"""Threads: each open stream takes one, each request in flight one."""
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_SERVICE = "p4.v1.P4Runtime"
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Files of PEM. ``client_auth``: ask clients for a certificate and verify it against ``ca``."""

    cert: Path
    key: Path
    ca: Path | None = None
    client_auth: bool = False


class P4RuntimeService:
    """The servicer."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control

    def write(self, request: bytes) -> Failure | None:
        """Write, see the specification: a serialized request; how it failed, None if it did not."""
        try:
            self._control.write_serialized(request)
        except BatchRefused as error:
            return Failure(_STATUS[error.code], error.message, ((_DETAILS, error.details().SerializeToString()),))
        except Refused as error:
            return Failure(_STATUS[error.code], error.message)
        except DecodeError:
            return Failure(grpc.StatusCode.INTERNAL, "Exception deserializing request!")  # as grpcio has it
        return None

    def Write(self, request: bytes, context: grpc.ServicerContext) -> p4r.WriteResponse:
        """As `write`, where there is no lane."""
        failure = self.write(request)
        if failure is not None:
            context.set_trailing_metadata(failure.metadata)
            context.abort(failure.code, failure.message)
        return p4r.WriteResponse()

    def Read(self, request: p4r.ReadRequest, context: grpc.ServicerContext) -> Iterator[p4r.ReadResponse]:
        """See the specification."""
        responses = _guard(context, lambda: self._control.read(request))
        while (response := _guard(context, lambda: next(responses, None))) is not None:
            yield response

    def SetForwardingPipelineConfig(
        self, request: p4r.SetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.SetForwardingPipelineConfigResponse:
        """See the specification."""
        _guard(context, lambda: self._control.set_pipeline(request))
        return p4r.SetForwardingPipelineConfigResponse()

    def GetForwardingPipelineConfig(
        self, request: p4r.GetForwardingPipelineConfigRequest, context: grpc.ServicerContext
    ) -> p4r.GetForwardingPipelineConfigResponse:
        """See the specification."""
        return _guard(context, lambda: self._control.get_pipeline(request))

    def Capabilities(self, request: p4r.CapabilitiesRequest, context: grpc.ServicerContext) -> p4r.CapabilitiesResponse:
        """See the specification."""
        return _guard(context, lambda: self._control.capabilities(request))

    def StreamChannel(
        self, request_iterator: Iterator[p4r.StreamMessageRequest], context: grpc.ServicerContext
    ) -> Iterator[Answer]:
        """One client: a thread of its own reads, this one writes."""
        stream = self._control.open_stream()
        if not context.add_callback(lambda: self._control.close_stream(stream)):
            self._control.close_stream(stream)
            return
        reader = threading.Thread(
            target=self._read_stream, args=(stream, request_iterator), name=f"p4rt-stream-{stream.id}", daemon=True
        )
        reader.start()
        while not isinstance(batch := stream.take(), End):
            yield from batch
        self._control.close_stream(stream)
        if batch.code not in (Code.OK, Code.CANCELLED):
            context.abort(_STATUS[batch.code], batch.message)

    def _read_stream(self, stream: ClientStream, requests: Iterator[p4r.StreamMessageRequest]) -> None:
        try:
            for request in requests:
                self._control.receive(stream, request)
            stream.end()  # the client has said all: a half-closed stream is no live controller
        except grpc.RpcError:
            stream.end(Code.CANCELLED)
        except Exception:
            log.exception("stream %d", stream.id)
            stream.end(Code.INTERNAL, "the switch failed on a stream message; its log says why")


def _guard(context: grpc.ServicerContext, call: Callable[[], T]) -> T:
    """Carry out a request; a refusal becomes the status of the call."""
    try:
        return call()
    except BatchRefused as error:
        context.set_trailing_metadata(((_DETAILS, error.details().SerializeToString()),))
        context.abort(_STATUS[error.code], error.message)
    except Refused as error:
        context.abort(_STATUS[error.code], error.message)
    raise AssertionError("abort() raises")


def _serialized(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _add_service(service: P4RuntimeService, server: grpc.Server, *, lane: bool) -> None:
    """``lane``: Write is served elsewhere.

    As the generated ``add_P4RuntimeServicer_to_server``, but Write's request and packet-ins stay serialized."""
    unary, answers, both = (
        grpc.unary_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    )
    ways: dict[str, tuple[Callable[..., Any], Any]] = {
        "Read": (answers, p4r.ReadRequest),
        "SetForwardingPipelineConfig": (unary, p4r.SetForwardingPipelineConfigRequest),
        "GetForwardingPipelineConfig": (unary, p4r.GetForwardingPipelineConfigRequest),
        "StreamChannel": (both, p4r.StreamMessageRequest),
        "Capabilities": (unary, p4r.CapabilitiesRequest),
    }
    if not lane:
        ways["Write"] = (unary, None)
    handlers = {
        name: way(
            getattr(service, name),
            request_deserializer=None if request is None else request.FromString,
            response_serializer=_serialized,
        )
        for name, (way, request) in ways.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    server.add_registered_method_handlers(_SERVICE, handlers)


class Server:
    """A listening P4Runtime server.

    :param address: ``host:port``, ``[v6]:port`` or ``unix:/path``.
    :raises BadInput: it cannot listen there, or a TLS file is wrong.
    """

    def __init__(self, control: ControlPlane, address: str, tls: TlsOptions | None = None) -> None:
        self._control = control
        self.address = address
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        pool = futures.ThreadPoolExecutor(_WORKERS, thread_name_prefix="p4rt")
        self._server = grpc.server(pool, options=options)
        service = P4RuntimeService(control)
        self._lane = open_lane(self._server, f"/{_SERVICE}/Write", service.write)
        _add_service(service, self._server, lane=self._lane is not None)
        try:
            self.port = self._listen(address, tls)
        except RuntimeError:
            remedy = "is another switch running there? choose another with --grpc-server-addr"
            raise BadInput("--grpc-server-addr", f"cannot listen on {address}", remedy) from None

    def _listen(self, address: str, tls: TlsOptions | None) -> int:
        if tls is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, credentials(tls)))

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()
        if self._lane is not None:
            self._lane.start()

    def stop(self, deadline: float = 1.0) -> None:
        """End all streams, then refuse everything, and wait up to ``deadline`` seconds."""
        self._control.close()
        self._server.stop(deadline / 2).wait(deadline)
        if self._lane is not None:
            self._lane.join(deadline)


def credentials(tls: TlsOptions) -> grpc.ServerCredentials:
    """:raises BadInput: a file cannot be read."""
    ca = _pem("--grpc-server-cacert", tls.ca) if tls.ca is not None else None
    pair = _pem("--grpc-server-key", tls.key), _pem("--grpc-server-cert", tls.cert)
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=tls.client_auth)


def _pem(flag: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(flag, f"cannot read {path}: {error.strerror}", "give a PEM file") from None
