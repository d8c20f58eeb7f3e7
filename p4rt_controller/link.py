"""The gRPC edge: one connection to a P4Runtime server.

Built on finsy's messages, stubs and error parsing, but not on its `Switch`: that one decodes every packet-in through
the P4Info and drops what its queue of 50 cannot take, waits 10 s after a quick failure, and cannot read tables longer
than gRPC's default of 4 MiB a message. Here every message of the stream is handed on where it is read, so nothing is
dropped between gRPC and the controller; when the controller is busy, gRPC's flow control holds the switch back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from finsy import GRPCStatusCode, P4ClientError
from finsy.proto import U128, p4r, p4r_grpc

from p4rt_controller import bmv2
from p4rt_controller.errors import Refusal, SwitchUnavailable, WriteRejected
from p4rt_controller.options import ControllerOptions
from p4rt_controller.serialized import serialized

_WRITE = "/p4.v1.P4Runtime/Write"
_COOKIE_ONLY = p4r.GetForwardingPipelineConfigRequest.COOKIE_ONLY
_VERIFY_AND_COMMIT = p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", bmv2.FULL_TABLE_READ_BYTES),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),  # per-update errors of a batch travel in a trailer
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or a new connection inherits the back-off of the one that failed
]
_REFUSED = frozenset({GRPCStatusCode.INVALID_ARGUMENT, GRPCStatusCode.UNIMPLEMENTED, GRPCStatusCode.OUT_OF_RANGE})
"""Codes that mean the request is wrong, not the moment."""

_T = TypeVar("_T")


class BatchRefused(Exception):
    """Some updates of a write failed: index in the request → (code, message). Internal; see `WriteRejected`."""

    def __init__(self, failures: dict[int, tuple[str, str]]) -> None:
        self.failures = failures
        super().__init__(f"{len(failures)} updates refused")


class Link:
    """One connection. ``async with`` opens and closes it; `serve` runs its stream until it breaks."""

    def __init__(self, options: ControllerOptions) -> None:
        self._options = options
        self._outbound: deque[Any] = deque()  # bounded by the callers' windows
        self._wake = asyncio.Event()
        self._closed = False
        self.election_id = 0
        """What writes are signed with; set by `bid`."""

    async def __aenter__(self) -> Self:
        credentials = self._options.credentials
        self._channel = (
            grpc.aio.insecure_channel(self._options.address, options=_CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(
                self._options.address, credentials.to_client_credentials(), options=_CHANNEL_OPTIONS
            )
        )
        self._stub = p4r_grpc.P4RuntimeStub(self._channel)
        self._write = self._channel.unary_unary(_WRITE, response_deserializer=p4r.WriteResponse.FromString)
        self._stream = self._stub.StreamChannel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._stream.cancel()
        await self._channel.close()

    # -- stream --------------------------------------------------------------------------------------------

    def post(self, message: Any) -> None:
        """Send a ``StreamMessageRequest``, in the order of the calls."""
        self._outbound.append(message)
        self._wake.set()

    def bid(self, election_id: int) -> None:
        """Ask to be primary under this election id."""
        self.election_id = election_id
        self.post(
            p4r.StreamMessageRequest(
                arbitration=p4r.MasterArbitrationUpdate(
                    device_id=self._options.device_id, election_id=U128.encode(election_id)
                )
            )
        )

    async def send_loop(self) -> None:
        """Send what is posted. :raises SwitchUnavailable: when the stream breaks."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outbound:
                await self._guard("stream", self._stream.write(self._outbound.popleft()))

    async def receive_loop(self, handle: Callable[[Any], None]) -> None:
        """Hand on every message of the stream. :raises SwitchUnavailable: when the stream breaks."""
        while True:
            message = await self._guard("stream", self._stream.read())
            if message is grpc.aio.EOF:
                raise SwitchUnavailable("stream", "the switch ended it")
            handle(message)

    # -- requests ------------------------------------------------------------------------------------------

    async def write(self, updates: Sequence[Any]) -> None:
        """As `write_serialized`, of ``p4.v1.Update`` messages."""
        await self.write_serialized([serialized(update) for update in updates])

    async def write_serialized(self, updates: Sequence[bytes]) -> None:
        """Write these updates, each as it stands in a serialized ``WriteRequest``, in one request.

        :raises BatchRefused: if some failed; the others were made.
        :raises WriteRejected: if the request as a whole was refused.
        :raises SwitchUnavailable: if it is not known what was made.
        """
        header = p4r.WriteRequest(device_id=self._options.device_id, election_id=U128.encode(self.election_id))
        request = b"".join((header.SerializeToString(), *updates))
        try:
            await self._call(self._write, request, "WriteRequest")
        except P4ClientError as error:
            details = {index: (detail.canonical_code.name, detail.message) for index, detail in error.details.items()}
            if details:
                raise BatchRefused(details) from error
            if error.code in _REFUSED:
                raise WriteRejected([Refusal("the whole request", error.code.name, error.message)]) from error
            raise _unavailable("write", error) from error

    async def read(self, request: Any) -> AsyncIterator[Sequence[Any]]:
        """The entities that answer a ``ReadRequest``, message by message. :raises SwitchUnavailable: if that fails."""
        call = self._stub.Read(request, timeout=self._options.read_deadline)
        try:
            while (reply := await self._guard("read", call.read())) is not grpc.aio.EOF:
                yield reply.entities
        finally:
            call.cancel()

    async def cookie(self) -> int | None:
        """Cookie of the switch's pipeline; None if it has none. :raises SwitchUnavailable: if that fails."""
        request = p4r.GetForwardingPipelineConfigRequest(device_id=self._options.device_id, response_type=_COOKIE_ONLY)
        try:
            reply = await self._call(self._stub.GetForwardingPipelineConfig, request)
        except P4ClientError as error:
            if error.is_pipeline_missing or error.code == GRPCStatusCode.FAILED_PRECONDITION:
                return None
            raise _unavailable("pipeline", error) from error
        if not reply.HasField("config"):  # what the specification has a switch without a pipeline say; BMv2 refuses
            return None
        return int(reply.config.cookie.cookie) if reply.config.HasField("cookie") else -1

    async def set_pipeline(self, config: Any) -> None:
        """Load a ``ForwardingPipelineConfig``. VERIFY_AND_COMMIT is what every switch supports.

        :raises SwitchUnavailable: if that fails.
        """
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=self._options.device_id,
            election_id=U128.encode(self.election_id),
            action=_VERIFY_AND_COMMIT,
            config=config,
        )
        try:
            await self._call(self._stub.SetForwardingPipelineConfig, request)
        except P4ClientError as error:
            raise _unavailable("pipeline", error) from error

    async def _call(self, method: Any, request: Any, name: str = "") -> Any:
        """A unary call; ``name``: of the message that a serialized request is.

        :raises P4ClientError, SwitchUnavailable: if it fails.
        """
        try:
            return await self._own_cancellation(method(request, timeout=self._options.rpc_deadline))
        except grpc.RpcError as error:
            raise P4ClientError(error, name or type(request).__name__) from None

    async def _guard(self, what: str, operation: Awaitable[_T]) -> _T:
        try:
            return await self._own_cancellation(operation)
        except grpc.RpcError as error:
            raise _unavailable(what, P4ClientError(error, what)) from None
        except asyncio.InvalidStateError as error:  # gRPC's answer to a write after the end of a stream
            raise SwitchUnavailable(what, str(error)) from None

    async def _own_cancellation(self, operation: Awaitable[_T]) -> _T:
        """gRPC raises CancelledError in every waiter of a channel that closes; only a real cancellation may be one."""
        try:
            return await operation
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise SwitchUnavailable("connection", "closed") from None


def _unavailable(what: str, error: P4ClientError) -> SwitchUnavailable:
    return SwitchUnavailable(what, f"{error.code.name} {error.message}".strip())
