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

from p4switch.p4runtime.answers import BatchRefused
from p4switch.p4runtime.core import ControlPlane
from p4switch.p4runtime.lanes import Failure, StreamLane, UnaryLane, open_core
from p4switch.p4runtime.status import Code, Refused
from p4switch.p4runtime.streams import ClientStream, End
from splitmerge.errors import BadInput

log = logging.getLogger("p4switch.p4runtime")
T = TypeVar("T")

_LARGEST_MESSAGE = 256 << 20
_WORKERS = 64
"""Threads: each open stream takes one, each request in flight one."""
_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_SERVICE = "p4.v1.P4Runtime"
_DETAILS = "grpc-status-details-bin"
_NO_MESSAGE = "Exception deserializing request!"
"""As grpcio has it."""
_QUICK = 4096
"""Bytes of a Write that takes less than handing it to a worker would."""


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
        self.streams = ClientStreams(control)

    def write(self, request: bytes) -> Failure | None:
        """Write, see the specification: a serialized request; how it failed, None if it did not."""
        try:
            self._control.write_serialized(request)
        except BatchRefused as error:
            return Failure(_STATUS[error.code], error.message, ((_DETAILS, error.details().SerializeToString()),))
        except Refused as error:
            return Failure(_STATUS[error.code], error.message)
        except DecodeError:
            return Failure(grpc.StatusCode.INTERNAL, _NO_MESSAGE)
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

    def StreamChannel(self, request_iterator: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """One client, where there is no lane: a thread of its own reads, this one writes."""
        streams = self.streams
        stream = streams.open()
        if not context.add_callback(lambda: streams.close(stream)):
            streams.close(stream)
            return
        reader = threading.Thread(
            target=_read_stream, args=(streams, stream, request_iterator), name=f"p4rt-stream-{stream.id}", daemon=True
        )
        reader.start()
        while (batch := streams.take(stream)) is not None and not isinstance(batch, Failure):
            yield from batch
        streams.close(stream)
        if batch is not None:
            context.abort(batch.code, batch.message)


def _read_stream(streams: ClientStreams, stream: ClientStream, requests: Iterator[bytes]) -> None:
    try:
        for raw in requests:
            streams.receive(stream, raw)
    except grpc.RpcError:
        streams.close(stream)
    finally:
        streams.received_all(stream)


class ClientStreams:
    """StreamChannel without gRPC's calls: `lanes.stream.Streams`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self.open = control.open_stream
        self.close = control.close_stream

    def receive(self, stream: ClientStream, raw: bytes) -> None:
        """A message from a client; one that is none ends the stream."""
        try:
            self._control.receive(stream, p4r.StreamMessageRequest.FromString(raw))
        except DecodeError:
            stream.end(Code.INTERNAL, _NO_MESSAGE)
        except Exception:
            log.exception("stream %d", stream.id)
            stream.end(Code.INTERNAL, "the switch failed on a stream message; its log says why")

    def received_all(self, stream: ClientStream) -> None:
        """A half-closed stream is no live controller."""
        stream.end()

    def take(self, stream: ClientStream) -> list[bytes] | Failure | None:
        """As `ClientStream.take`."""
        batch = stream.take()
        if not isinstance(batch, End):
            return [item if isinstance(item, bytes) else item.SerializeToString() for item in batch]
        return None if batch.code in (Code.OK, Code.CANCELLED) else Failure(_STATUS[batch.code], batch.message)


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


def _add_service(service: P4RuntimeService, server: grpc.Server, *, lanes: bool) -> None:
    """As the generated ``add_P4RuntimeServicer_to_server``, but Write's request and stream messages stay serialized.

    ``lanes``: these two are served elsewhere.
    """
    unary, answers, both = (
        grpc.unary_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    )
    ways: dict[str, tuple[Callable[..., Any], Any]] = {
        "Read": (answers, p4r.ReadRequest),
        "SetForwardingPipelineConfig": (unary, p4r.SetForwardingPipelineConfigRequest),
        "GetForwardingPipelineConfig": (unary, p4r.GetForwardingPipelineConfigRequest),
        "Capabilities": (unary, p4r.CapabilitiesRequest),
    }
    if not lanes:
        ways |= {"Write": (unary, None), "StreamChannel": (both, None)}
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
        self._core = open_core(self._server)
        if self._core is not None:
            UnaryLane(self._core, f"/{_SERVICE}/Write", service.write, quick=self._quick, workers=pool)
            StreamLane(self._core, f"/{_SERVICE}/StreamChannel", service.streams)
        _add_service(service, self._server, lanes=self._core is not None)
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
        if self._core is not None:
            self._core.start()

    def _quick(self, raw: bytes) -> bool:
        return len(raw) <= _QUICK and self._control.idle()

    def stop(self, deadline: float = 1.0) -> None:
        """End all streams, then refuse everything, and wait up to ``deadline`` seconds."""
        self._control.close()
        self._server.stop(deadline / 2).wait(deadline)


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
