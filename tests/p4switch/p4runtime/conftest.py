"""A whole switch in this process, over real gRPC on a Unix socket; its ports are socket pairs."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import U128, p4i, p4r, p4r_grpc, rpc_status
from google.protobuf import text_format

from p4src import P4BLOB, P4INFO
from p4switch.engine import Engine, EngineOptions
from p4switch.p4runtime import ControlPlane, PipelineOptions, Server, ServerOptions, StreamLimits
from p4switch.ports import Received, Sent

PROGRAMS = Path(__file__).parent / "programs"
DEADLINE = 10.0
CPU_PORT = 510


class PairPort:
    """A port whose wire is one end of a socket pair: the test holds the other, ``wire``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.wire.settimeout(DEADLINE)

    def fileno(self) -> int:
        return self._socket.fileno()

    def ports(self) -> Mapping[int, str]:
        return {self.port: f"pair{self.port}"}

    def receive(self, limit: int) -> list[Received]:
        frames = []
        for _ in range(limit):
            try:
                frames.append(Received(self.port, self._socket.recv(65536)))
            except BlockingIOError:
                break
        return frames

    def send(self, port: int, frame: bytes) -> Sent:
        try:
            self._socket.send(frame)
        except OSError:
            return Sent.LATER
        return Sent.YES

    def drops(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._socket.close()
        self.wire.close()


class Client:
    """A P4Runtime client with a stream. ``stub`` for unary calls."""

    def __init__(self, address: str, device_id: int = 1) -> None:
        self.device_id = device_id
        self.election_id: int | None = None
        self.role = ""
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_metadata_size", 1 << 20)])
        self.stub = p4r_grpc.P4RuntimeStub(self._channel)
        self._requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
        self.responses: queue.SimpleQueue[p4r.StreamMessageResponse | grpc.RpcError | None] = queue.SimpleQueue()
        self._call = self.stub.StreamChannel(iter(self._requests.get, None))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self.responses.put(response)
            self.responses.put(None)
        except grpc.RpcError as error:
            self.responses.put(error)

    def send(self, message: p4r.StreamMessageRequest) -> None:
        self._requests.put(message)

    def arbitrate(self, election_id: int | None, role: str = "", device_id: int | None = None) -> None:
        update = p4r.MasterArbitrationUpdate(device_id=self.device_id if device_id is None else device_id)
        if election_id is not None:
            update.election_id.CopyFrom(U128.encode(election_id))
        if role:
            update.role.name = role
        self.election_id, self.role = election_id, role
        self.send(p4r.StreamMessageRequest(arbitration=update))

    def next(self, kind: str) -> Any:
        """The next message of the stream, which must be of this kind."""
        response = self.responses.get(timeout=DEADLINE)
        assert isinstance(response, p4r.StreamMessageResponse), response
        assert response.WhichOneof("update") == kind, response
        return getattr(response, kind)

    def status(self) -> tuple[int, int | None]:
        """(status code, election id) of the arbitration message that comes next."""
        update = self.next("arbitration")
        return update.status.code, U128.decode(update.election_id) if update.HasField("election_id") else None

    def ended(self) -> grpc.StatusCode:
        """The status with which the stream has ended."""
        error = self.responses.get(timeout=DEADLINE)
        assert isinstance(error, grpc.RpcError), error
        return error.code()

    def write_request(self, *updates: p4r.Update, atomicity: int = 0) -> p4r.WriteRequest:
        request = p4r.WriteRequest(device_id=self.device_id, role=self.role, updates=updates, atomicity=atomicity)
        if self.election_id is not None:
            request.election_id.CopyFrom(U128.encode(self.election_id))
        return request

    def write(self, *updates: p4r.Update, atomicity: int = 0) -> None:
        self.stub.Write(self.write_request(*updates, atomicity=atomicity), timeout=DEADLINE)

    def codes(self, *updates: p4r.Update, atomicity: int = 0) -> list[int]:
        """The canonical codes of the updates, from the details of the error; all 0 if it went through."""
        try:
            self.write(*updates, atomicity=atomicity)
        except grpc.RpcError as error:
            return [item.canonical_code for item in details(error)]
        return [0] * len(updates)

    def insert(self, *entities: p4r.Entity) -> None:
        self.write(*(p4r.Update(type="INSERT", entity=entity) for entity in entities))

    def modify(self, *entities: p4r.Entity) -> None:
        self.write(*(p4r.Update(type="MODIFY", entity=entity) for entity in entities))

    def delete(self, *entities: p4r.Entity) -> None:
        self.write(*(p4r.Update(type="DELETE", entity=entity) for entity in entities))

    def read(self, *queries: p4r.Entity) -> list[p4r.Entity]:
        request = p4r.ReadRequest(device_id=self.device_id, entities=queries)
        return [entity for response in self.stub.Read(request, timeout=DEADLINE) for entity in response.entities]

    def set_pipeline(self, config: p4r.ForwardingPipelineConfig | None, action: str = "VERIFY_AND_COMMIT") -> None:
        request = p4r.SetForwardingPipelineConfigRequest(device_id=self.device_id, role=self.role, action=action)
        if self.election_id is not None:
            request.election_id.CopyFrom(U128.encode(self.election_id))
        if config is not None:
            request.config.CopyFrom(config)
        self.stub.SetForwardingPipelineConfig(request, timeout=DEADLINE)

    def close(self) -> None:
        self._requests.put(None)
        self._call.cancel()
        self._thread.join(DEADLINE)
        self._channel.close()


def details(error: grpc.RpcError) -> list[p4r.Error]:
    """The p4.v1.Error messages of a failed batch."""
    status = rpc_status.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found = []
    for packed in status.details:
        item = p4r.Error()
        assert packed.Unpack(item)
        found.append(item)
    return found


def config_of(blob: Path, info: Path, cookie: int | None = None) -> p4r.ForwardingPipelineConfig:
    p4info = p4i.P4Info()
    text_format.Parse(info.read_text(), p4info)
    config = p4r.ForwardingPipelineConfig(p4info=p4info, p4_device_config=blob.read_bytes())
    if cookie is not None:
        config.cookie.cookie = cookie
    return config


SPLITMERGE = config_of(P4BLOB, P4INFO)
ENTITIES = config_of(PROGRAMS / "entities.json", PROGRAMS / "entities.p4info.txtpb")


class Running:
    """A running switch and its clients."""

    def __init__(self, path: Path, *, strict: bool = False, limits: StreamLimits | None = None) -> None:
        self.wires = {port: PairPort(port) for port in (1, 2, 11, 12)}
        # Whoever reads a wire is a thread beside the switch's, which may be without a processor for a while.
        patient = EngineOptions(cpu_port=CPU_PORT, output_queue=1 << 16, send_patience=DEADLINE)
        self.engine = Engine(tuple(self.wires.values()), patient)
        options = ServerOptions(device_id=1, strict=strict, limits=limits or StreamLimits())
        self.control = ControlPlane(self.engine, options, PipelineOptions(strict=strict))
        self.address = f"unix:{path}/switch.sock"
        self.server = Server(self.control, self.address)
        self._clients: list[Client] = []
        self.engine.start()
        self.server.start()

    def client(self, device_id: int = 1) -> Client:
        client = Client(self.address, device_id)
        self._clients.append(client)
        return client

    def primary(self, config: p4r.ForwardingPipelineConfig | None = None, election_id: int = 1) -> Client:
        client = self.client()
        client.arbitrate(election_id)
        assert client.status() == (0, election_id)
        if config is not None:
            client.set_pipeline(config)
        return client

    def send(self, port: int, frame: bytes) -> None:
        self.wires[port].wire.send(frame)

    def receive(self, port: int) -> bytes:
        return self.wires[port].wire.recv(65536)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.server.stop()
        self.engine.stop()
        self.control.arbitration.validate_state()
        assert self.engine.failure is None


class Names:
    """Ids of a P4Info by alias."""

    def __init__(self, info: p4i.P4Info) -> None:
        groups = (info.tables, info.actions, info.counters, info.meters, info.registers, info.digests)
        more = (info.action_profiles, info.value_sets, info.direct_counters, info.direct_meters)
        self._ids = {item.preamble.alias: item.preamble.id for group in groups + more for item in group}

    def __getattr__(self, alias: str) -> int:
        return self._ids[alias]

    def __getitem__(self, alias: str) -> int:
        return self._ids[alias]

    def action(self, name: str, *values: bytes) -> p4r.Action:
        params = [p4r.Action.Param(param_id=i, value=value) for i, value in enumerate(values, 1)]
        return p4r.Action(action_id=self._ids[name], params=params)

    def entry(self, table: str, *match: Any, action: p4r.Action | None = None, **fields: Any) -> p4r.Entity:
        """Match fields by position: bytes are exact, None is don't care, else a FieldMatch without its id."""
        entity = p4r.Entity(table_entry=p4r.TableEntry(table_id=self._ids[table], **fields))
        for number, item in enumerate(match, 1):
            if item is None:
                continue
            field = entity.table_entry.match.add()
            if isinstance(item, bytes):
                field.exact.value = item
            else:
                field.CopyFrom(item)
            field.field_id = number
        if action is not None:
            entity.table_entry.action.action.CopyFrom(action)
        return entity


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts a switch; it is stopped, and checked, after the test."""
    running: list[Running] = []

    def starter(**options: Any) -> Running:
        path = tmp_path / str(len(running))
        path.mkdir()
        running.append(Running(path, **options))
        return running[-1]

    yield starter
    for item in running:
        item.close()


@pytest.fixture
def connect() -> Iterator[Callable[[str], Client]]:
    """Connects to any P4Runtime server."""
    clients: list[Client] = []

    def connecter(address: str) -> Client:
        clients.append(Client(address))
        return clients[-1]

    yield connecter
    for client in clients:
        client.close()


@pytest.fixture
def switch(start: Callable[..., Running]) -> Running:
    return start()


@pytest.fixture
def sm(switch: Running) -> Client:
    """The primary of a switch with the project's program."""
    return switch.primary(SPLITMERGE)


@pytest.fixture
def ent(switch: Running) -> Client:
    """The primary of a switch with the program that has every kind of entity."""
    return switch.primary(ENTITIES)


@pytest.fixture(scope="session")
def names() -> Names:
    return Names(ENTITIES.p4info)


@pytest.fixture(scope="session")
def sm_names() -> Names:
    return Names(SPLITMERGE.p4info)


@pytest.fixture(scope="session")
def configs() -> dict[str, p4r.ForwardingPipelineConfig]:
    return {"splitmerge": SPLITMERGE, "entities": ENTITIES}


@pytest.fixture(scope="session")
def error_details() -> Callable[[grpc.RpcError], list[p4r.Error]]:
    return details
