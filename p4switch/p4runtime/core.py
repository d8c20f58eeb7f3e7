"""The P4Runtime server without gRPC: requests in, responses or refusals out.

Locks, always taken in this order: ``_admin`` (one Write, arbitration or pipeline change at a time, so that a new
primary is told only after the old one's Write is done), then the engine's gate with the device's lock.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from finsy.proto import U128, p4r

from p4switch.engine import Engine
from p4switch.p4runtime.answers import BatchRefused, arbitration_notice, chunks, digest_list, stream_error
from p4switch.p4runtime.arbitration import Arbitration, Closed, Instruction, Notify, Terminate, Update
from p4switch.p4runtime.digests import SendList
from p4switch.p4runtime.pipeline import Pipeline, PipelineOptions
from p4switch.p4runtime.status import Code, Refused, invalid
from p4switch.p4runtime.streams import ClientStream, StreamLimits
from p4switch.ports import DropReason
from p4switch.runtime import Digest, Expired

log = logging.getLogger("p4switch.p4runtime")

API_VERSION = "1.4.1"
STRICT_API_VERSION = "1.3.0"
"""What simple_switch_grpc says."""
_MOST_STREAMS = 48
"""Open streams of all roles: each takes one of the server's threads, and requests need some too."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """``device_id`` 64 bits; ``strict``: refuse what simple_switch_grpc refuses."""

    device_id: int = 0
    strict: bool = False
    limits: StreamLimits = field(default_factory=StreamLimits)


class ControlPlane:
    """One device's P4Runtime. All methods may be called from any thread."""

    def __init__(self, engine: Engine, options: ServerOptions, pipelines: PipelineOptions) -> None:
        self.options = options
        self.engine = engine
        self.arbitration = Arbitration(options.device_id, strict=options.strict)
        self._pipelines = pipelines
        self._admin = threading.RLock()
        self._pipeline: Pipeline | None = None
        self._saved: Pipeline | None = None
        self._streams: dict[int, ClientStream] = {}
        self._numbers = itertools.count(1)
        self._primaries: tuple[ClientStream, ...] = ()
        engine.attach(self)

    # -- streams -----------------------------------------------------------------------------------------------------

    def open_stream(self) -> ClientStream:
        """A client has opened a StreamChannel."""
        with self._admin:
            stream = ClientStream(next(self._numbers), self.options.limits)
            if len(self._streams) >= _MOST_STREAMS:
                stream.end(Code.RESOURCE_EXHAUSTED, f"too many connections: {_MOST_STREAMS} streams are open")
            self._streams[stream.id] = stream
            return stream

    def close_stream(self, stream: ClientStream) -> None:
        """The client's StreamChannel is over. Again is harmless."""
        stream.end(Code.CANCELLED)
        with self._admin:
            if self._streams.pop(stream.id, None) is not None:
                self._carry_out(self.arbitration.handle(Closed(stream.id), time.monotonic()))

    def close(self) -> None:
        """End all streams: the switch stops."""
        for stream in tuple(self._streams.values()):
            stream.end(Code.UNAVAILABLE, "the switch is stopping")

    def receive(self, stream: ClientStream, message: p4r.StreamMessageRequest) -> None:
        """A message from a client. Waits while too many packet-outs wait."""
        try:
            match message.WhichOneof("update"):
                case "arbitration":
                    self._arbitrate(stream, message.arbitration)
                case "packet":
                    self._packet_out(stream, message.packet)
                case "digest_ack":
                    self._digest_ack(stream, message.digest_ack)
                case _:
                    raise Refused(Code.UNIMPLEMENTED, "no such stream message")
        except Refused as error:
            self._stream_error(stream, message, error)

    def _arbitrate(self, stream: ClientStream, message: p4r.MasterArbitrationUpdate) -> None:
        role = message.role
        update = Update(
            stream=stream.id,
            device_id=message.device_id,
            role=role.name or (f"id {role.id}" if role.id else ""),
            election_id=U128.decode(message.election_id) if message.HasField("election_id") else None,
            role_config=role.config.SerializeToString() if role.HasField("config") else None,
        )
        with self._admin:
            if update.role_config is not None:
                stream.end(Code.INVALID_ARGUMENT, "role.config: no scheme is agreed; leave it unset for full access")
                return
            self._carry_out(self.arbitration.handle(update, time.monotonic()))

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            stream = self._streams.get(instruction.stream)
            if stream is None:
                continue
            match instruction:
                case Notify():
                    stream.put(arbitration_notice(self.options.device_id, instruction))
                case Terminate(code=code, message=text):
                    stream.end(code, text)
        before = self._primaries
        self._primaries = tuple(self._streams[i] for i in self.arbitration.primaries() if i in self._streams)
        if self._primaries != before:
            self._log_primaries()

    def _log_primaries(self) -> None:
        log.info("primary: %s", ", ".join(f"stream {stream.id}" for stream in self._primaries) or "none")
        if self._pipeline is not None:
            with self.engine.control_of(self._pipeline.device):
                self._pipeline.entities.digests.forget_unacknowledged()

    def _packet_out(self, stream: ClientStream, packet: p4r.PacketOut) -> None:
        if stream not in self._primaries:
            raise Refused(Code.PERMISSION_DENIED, "Not primary: only the primary sends packets")
        pipeline = self._pipeline
        if pipeline is None:
            raise Refused(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
        if self.engine.options.cpu_port is None:
            raise Refused(Code.FAILED_PRECONDITION, "no CPU port: start the switch with --cpu-port")
        self.engine.packet_out(pipeline.packet_out.frame(packet))

    def _digest_ack(self, stream: ClientStream, ack: p4r.DigestListAck) -> None:
        if stream not in self._primaries:
            raise Refused(Code.PERMISSION_DENIED, "Not primary: only the primary acknowledges digests")
        pipeline = self._pipeline
        if pipeline is None or ack.digest_id not in pipeline.schema.digests:
            raise invalid(f"digest id {ack.digest_id} is not in the P4Info")
        with self.engine.control_of(pipeline.device):
            pipeline.entities.digests.acknowledge(ack.digest_id, ack.list_id)

    def _stream_error(self, stream: ClientStream, message: p4r.StreamMessageRequest, error: Refused) -> None:
        log.info("stream %d: %s", stream.id, error.message)
        if self.options.strict:
            return  # simple_switch_grpc sends none unless asked to through p4.server.v1.ServerConfig
        stream.put_notification(stream_error(message, error))

    # -- unary requests ----------------------------------------------------------------------------------------------

    def write(self, request: p4r.WriteRequest) -> None:
        """:raises Refused: nothing was done. :raises BatchRefused: some updates were refused."""
        with self._admin:
            self.arbitration.check_write(request.device_id, _role(request), _election_id(request))
            pipeline = self._current()
            if request.atomicity not in (0, 1, 2):
                raise invalid(f"atomicity {request.atomicity} is unknown")
            if request.atomicity and self.options.strict:
                raise Refused(Code.UNIMPLEMENTED, "Only CONTINUE_ON_ERROR is supported (--bmv2-strict)")
            entities = pipeline.entities
            with self.engine.control_of(pipeline.device):
                if request.atomicity:
                    errors = entities.write_all_or_none(request.updates)
                else:
                    errors = entities.write(request.updates)
        if any(errors):
            raise BatchRefused(errors)

    def idle(self) -> bool:
        """Nobody writes or changes the pipeline just now: a small Write would not have to wait for long."""
        free = self._admin.acquire(blocking=False)
        if free:
            self._admin.release()
        return free

    def write_serialized(self, raw: bytes) -> None:
        """As `write`. Table updates are recognized in ``raw`` before any lock is taken, and without parsing them.

        :raises DecodeError: ``raw`` is no WriteRequest.
        """
        pipeline = self._saved or self._pipeline
        batch = None if pipeline is None else pipeline.entities.recognizers.take_apart(raw)
        if pipeline is None or batch is None or batch.header.atomicity:
            self.write(p4r.WriteRequest.FromString(raw))
            return
        with self._admin:
            request = batch.header
            self.arbitration.check_write(request.device_id, _role(request), _election_id(request))
            if self._current() is not pipeline:  # it was exchanged meanwhile
                self.write(p4r.WriteRequest.FromString(raw))
                return
            with self.engine.control_of(pipeline.device):
                errors = pipeline.entities.carry_out(batch.updates)
        if any(errors):
            raise BatchRefused(errors)

    def read(self, request: p4r.ReadRequest) -> Iterator[p4r.ReadResponse]:
        """The responses, of up to `_CHUNK` entities.

        :raises Refused: at once; or, while iterated, `BatchRefused` after all that could be read.
        """
        self.arbitration.check_device(request.device_id)
        if request.role and not self.arbitration.has_role(request.role):
            raise Refused(Code.NOT_FOUND, f"no client has claimed role {request.role!r}")
        pipeline = self._current()
        found: list[Iterator[p4r.Entity]] = []
        errors: list[Refused | None] = []
        with self.engine.control_of(pipeline.device):
            for query in request.entities:
                try:
                    found.append(pipeline.entities.read(query))
                    errors.append(None)
                except Refused as error:
                    if self.options.strict:
                        raise  # simple_switch_grpc's read ends with its first error, and has no details
                    errors.append(error)
        return chunks(itertools.chain.from_iterable(found), errors)

    def capabilities(self, request: p4r.CapabilitiesRequest) -> p4r.CapabilitiesResponse:
        """:raises Refused: NOT_FOUND for another device."""
        if request.device_id:
            self.arbitration.check_device(request.device_id)
        version = STRICT_API_VERSION if self.options.strict else API_VERSION
        return p4r.CapabilitiesResponse(p4runtime_api_version=version)

    # -- pipelines ---------------------------------------------------------------------------------------------------

    def _current(self) -> Pipeline:
        """What Read and Write refer to: the saved pipeline if there is one, else the committed one."""
        pipeline = self._saved or self._pipeline
        if pipeline is None:
            raise Refused(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
        return pipeline

    def set_pipeline(self, request: p4r.SetForwardingPipelineConfigRequest) -> None:
        """:raises Refused: nothing changed."""
        action = request.action
        with self._admin:
            self.arbitration.check_write(request.device_id, _role(request), _election_id(request))
            if action == p4r.SetForwardingPipelineConfigRequest.COMMIT:
                self._commit_saved(request)
                return
            if not request.HasField("config"):
                raise invalid("the request has no config")
            match action:
                case p4r.SetForwardingPipelineConfigRequest.VERIFY:
                    self._build(request.config)
                case p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_SAVE:
                    self._saved = self._build(request.config)
                case p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT:
                    self._commit(self._build(request.config))
                case p4r.SetForwardingPipelineConfigRequest.RECONCILE_AND_COMMIT:
                    self._reconcile(request.config)
                case _:
                    raise invalid("Invalid SetForwardingPipeline action")

    def load(self, config: p4r.ForwardingPipelineConfig) -> None:
        """Commit a configuration that does not come from a client. :raises Refused: nothing changed."""
        with self._admin:
            self._commit(self._build(config))

    def _build(self, config: p4r.ForwardingPipelineConfig) -> Pipeline:
        kept = p4r.ForwardingPipelineConfig()
        kept.CopyFrom(config)
        return Pipeline(kept, self._pipelines)

    def _commit_saved(self, request: p4r.SetForwardingPipelineConfigRequest) -> None:
        if request.HasField("config"):
            raise invalid("COMMIT takes no config: it commits the saved one")
        if self._saved is None:
            raise Refused(Code.NOT_FOUND, "no config was saved: VERIFY_AND_SAVE comes first")
        self._commit(self._saved)

    def _reconcile(self, config: p4r.ForwardingPipelineConfig) -> None:
        pipeline, old = self._build(config), self._saved or self._pipeline
        if old is None:
            self._commit(pipeline)
            return
        with self.engine.control_of(old.device):
            pipeline.take_over(old)
            self._commit(pipeline, held=True)

    def _commit(self, pipeline: Pipeline, *, held: bool = False) -> None:
        if held:
            self.engine.set_device(pipeline.device)
        else:
            with self.engine.control():
                self.engine.set_device(pipeline.device)
        self._pipeline, self._saved = pipeline, None
        log.info("pipeline committed: %d tables", len(pipeline.schema.tables))

    def get_pipeline(self, request: p4r.GetForwardingPipelineConfigRequest) -> p4r.GetForwardingPipelineConfigResponse:
        """The configuration, without ``config`` while there is none. :raises Refused: NOT_FOUND, INVALID_ARGUMENT."""
        self.arbitration.check_device(request.device_id)
        answer = p4r.GetForwardingPipelineConfigResponse()
        kind = request.response_type
        if kind not in (0, 1, 2, 3):
            raise invalid(f"response_type {kind} is unknown")
        pipeline = self._saved or self._pipeline
        if pipeline is None:
            if self.options.strict:
                raise Refused(Code.FAILED_PRECONDITION, "No forwarding pipeline config set for this device")
            return answer
        config = pipeline.config
        answer.config.SetInParent()
        if config.HasField("cookie"):
            answer.config.cookie.CopyFrom(config.cookie)
        if kind in (
            p4r.GetForwardingPipelineConfigRequest.ALL,
            p4r.GetForwardingPipelineConfigRequest.P4INFO_AND_COOKIE,
        ):
            answer.config.p4info.CopyFrom(config.p4info)
        if kind in (
            p4r.GetForwardingPipelineConfigRequest.ALL,
            p4r.GetForwardingPipelineConfigRequest.DEVICE_CONFIG_AND_COOKIE,
        ):
            answer.config.p4_device_config = config.p4_device_config
        return answer

    @property
    def pipeline(self) -> Pipeline | None:
        """The committed pipeline."""
        return self._pipeline

    def streams(self) -> tuple[ClientStream, ...]:
        """The open streams: their counts may be read."""
        return tuple(self._streams.values())

    # -- what the data plane tells (data thread) ---------------------------------------------------------------------

    def packet_ins(self, frames: list[bytes]) -> None:
        """As `Listener`."""
        cpu_port = self.engine.options.cpu_port or 0
        pipeline, primaries, drops = self._pipeline, self._primaries, self.engine.drops
        if pipeline is None or not primaries:
            drops.add(DropReason.NO_PRIMARY, cpu_port, len(frames))
            return
        source = pipeline.packet_in
        whole = [frame for frame in frames if len(frame) >= source.length]
        if len(whole) < len(frames):
            drops.add(DropReason.SHORTER_THAN_HEADER, cpu_port, len(frames) - len(whole))
        for stream in primaries:
            lost = stream.put_packets(source.serialized, whole)
            if lost:
                drops.add(DropReason.STREAM_QUEUE_FULL, cpu_port, lost)

    def expired(self, entries: list[Expired]) -> None:
        """As `Listener`."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        answer = p4r.StreamMessageResponse()
        note = answer.idle_timeout_notification
        note.timestamp = time.time_ns()
        for item in entries:
            codec = pipeline.entities.tables.by_name.get(item.table.name)
            if codec is not None:
                codec.encode_idle(item.entry, note.table_entry.add())
        if note.table_entry:
            for stream in self._primaries:
                stream.put_notification(answer)

    def digests(self, messages: list[Digest]) -> None:
        """As `Listener`."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        buffers, now_ns = pipeline.entities.digests, time.monotonic_ns()
        due: list[SendList] = []
        with self.engine.control_of(pipeline.device):
            for message in messages:
                info = pipeline.digest_named(message.name)
                due += buffers.receive(info.id, message.values, now_ns) if info is not None else []
            due += buffers.tick(now_ns)
        for item in due:
            answer = digest_list(pipeline.schema.digests[item.digest_id], item)
            for stream in self._primaries:
                stream.put_notification(answer)


def _role(request: p4r.WriteRequest | p4r.SetForwardingPipelineConfigRequest) -> str:
    return request.role or (f"id {request.role_id}" if request.role_id else "")


def _election_id(request: p4r.WriteRequest | p4r.SetForwardingPipelineConfigRequest) -> int | None:
    return U128.decode(request.election_id) if request.HasField("election_id") else None
