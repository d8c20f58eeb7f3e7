"""A small P4Runtime client: messages filled in directly, as rates are measured."""

import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import grpc
from finsy.proto import p4i, p4r, p4r_grpc
from google.protobuf import text_format

from benchmarks.switch.traffic import FLOWS, flow_key, frame
from benchmarks.switch.wires import IN, OUT

CPU, DEVICE, REPLICA = 510, 1, 7
_STOP = object()


class Client:
    """Primary of a switch, with the project's program; without ``stream`` it only writes."""

    def __init__(self, address: str, election: int, *, stream: bool = True) -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", 64 << 20)])
        grpc.channel_ready_future(self._channel).result(timeout=20)
        self._stub = p4r_grpc.P4RuntimeStub(self._channel)
        self._election = election
        self._requests: queue.Queue[object] = queue.Queue()
        self.packet_ins = 0
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        if not stream:
            return
        self._reader.start()
        first = p4r.StreamMessageRequest()
        first.arbitration.device_id = DEVICE
        first.arbitration.election_id.low = election
        self._requests.put(first)
        assert self._ready.wait(10), "no answer to the arbitration"

    def _stream(self) -> Iterator[p4r.StreamMessageRequest]:
        while (item := self._requests.get()) is not _STOP:
            assert isinstance(item, p4r.StreamMessageRequest)
            yield item

    def _read(self) -> None:
        try:
            for message in self._stub.StreamChannel(self._stream()):
                if message.WhichOneof("update") == "packet":
                    self.packet_ins += 1
                else:
                    self._ready.set()
        except grpc.RpcError:
            return

    def configure(self, p4info: Path, blob: Path, flow_size: int = 0) -> None:
        """Send the program; ``flow_size``: with that many entries in its IPv4 flow table."""
        info, program = p4i.P4Info(), blob.read_bytes()
        text_format.Parse(p4info.read_text(), info)
        self.info = info
        if flow_size:
            program = self._resized(program, flow_size)
        request = p4r.SetForwardingPipelineConfigRequest(device_id=DEVICE)
        request.election_id.low = self._election
        request.action = p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
        request.config.p4info.CopyFrom(info)
        request.config.p4_device_config = program
        self._stub.SetForwardingPipelineConfig(request, timeout=30)
        self.learn(info)

    def _resized(self, program: bytes, size: int) -> bytes:
        tree = json.loads(program)
        for pipeline in tree["pipelines"]:
            for table in pipeline["tables"]:
                if table["name"].endswith(".flow_v4"):
                    table["max_size"] = size
        for item in self.info.tables:
            if item.preamble.alias == "flow_v4":
                item.size = size
        return json.dumps(tree).encode()

    def learn(self, info: p4i.P4Info) -> None:
        """Ids by alias."""
        self._tables = {item.preamble.alias: item.preamble.id for item in info.tables}
        self._actions = {item.preamble.alias: item.preamble.id for item in info.actions}

    def read_program(self, p4info: Path) -> None:
        """Ids of a program that is there already."""
        info = p4i.P4Info()
        text_format.Parse(p4info.read_text(), info)
        self.learn(info)

    def entry(self, table: str, match: Iterable[int], action: str, *args: int) -> p4r.TableEntry:
        """An entry with exact match fields."""
        made = p4r.TableEntry(table_id=self._tables[table])
        for number, value in enumerate(match, start=1):
            made.match.add(field_id=number).exact.value = _bytes(value)
        call = made.action.action
        call.action_id = self._actions[action]
        for number, value in enumerate(args, start=1):
            call.params.add(param_id=number, value=_bytes(value))
        return made

    def flow(self, number: int, replica: int = REPLICA) -> p4r.TableEntry:
        """The entry of a flow."""
        return self.entry("flow_v4", flow_key(number), "steer", replica, 0)

    def write(self, kind: int, entries: Sequence[p4r.TableEntry]) -> None:
        """One request."""
        request = p4r.WriteRequest(device_id=DEVICE)
        request.election_id.low = self._election
        for made in entries:
            request.updates.add(type=kind).entity.table_entry.CopyFrom(made)
        self._stub.Write(request, timeout=60)

    def requests(self, kind: int, numbers: range, batch: int) -> list[p4r.WriteRequest]:
        """Requests for flows, made ready so that only the switch is timed."""
        made = []
        for start in range(numbers.start, numbers.stop, batch):
            request = p4r.WriteRequest(device_id=DEVICE)
            request.election_id.low = self._election
            for number in range(start, min(start + batch, numbers.stop)):
                request.updates.add(type=kind).entity.table_entry.CopyFrom(self.flow(number))
            made.append(request)
        return made

    def send(self, request: p4r.WriteRequest) -> None:
        """One request made earlier."""
        self._stub.Write(request, timeout=60)

    def prepare(self) -> None:
        """All but the flows."""
        insert = p4r.Update.INSERT
        self.write(insert, [self.entry("port_role", (IN,), "set_host")])
        self.write(insert, [self.entry("port_role", (OUT,), "set_replica", REPLICA)])
        self.write(insert, [self.entry("replica", (REPLICA,), "to_replica", OUT)])
        key = (*flow_key(0)[:2], 700, flow_key(0)[3], 17)  # the flow of frame(suspended=True)
        self.write(insert, [self.entry("flow_v4", key, "steer", REPLICA, 1)])
        request = p4r.WriteRequest(device_id=DEVICE)
        request.election_id.low = self._election
        session = request.updates.add(type=insert).entity.packet_replication_engine_entry.clone_session_entry
        session.session_id = 1
        session.replicas.add(egress_port=CPU, instance=1)
        self._stub.Write(request, timeout=10)

    def fill(self, count: int = FLOWS) -> None:
        """Insert flows."""
        for request in self.requests(p4r.Update.INSERT, range(count), 1000):
            self.send(request)

    def close(self) -> None:
        self._requests.put(_STOP)
        self._channel.close()
        if self._reader.is_alive():
            self._reader.join(5)


def _bytes(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8))


def write_steadily(address: str, election: int, p4info: str, rate: int, batch: int) -> None:
    """Modify flows, ``rate`` updates a second in requests of ``batch``, until killed. Runs in a process of its own.

    It writes as the primary whose stream another process holds.
    """
    client = Client(address, election, stream=False)
    client.read_program(Path(p4info))
    requests = client.requests(p4r.Update.MODIFY, range(FLOWS), batch)
    print("ready", flush=True)
    start, done = time.monotonic(), 0
    while True:
        client.send(requests[done % len(requests)])
        done += 1
        time.sleep(max(0.0, start + done * batch / rate - time.monotonic()))


__all__ = ["Client", "frame", "write_steadily"]
