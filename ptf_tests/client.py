"""A small synchronous P4Runtime client for tests: one stream, blocking calls, every wait with a deadline.

finsy's entities and messages do the encoding; its own client is asyncio, which PTF's tests are not.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import finsy
import grpc
from finsy.proto import U128, p4r, p4r_grpc

DEADLINE = 10.0
"""Seconds that one call, or the wait for one message, may take."""
ELECTION_ID = 1


class WriteRefused(Exception):
    """The switch refused an update; ``code`` is the gRPC status, the text has the details."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code = error.code()
        super().__init__(f"{error.code().name}: {error.details()}")


class Client:
    """Connected, primary, with the pipeline loaded."""

    def __init__(self, address: str, device_id: int, schema: finsy.P4Schema) -> None:
        self.schema = schema
        self.packet_ins: queue.Queue[finsy.P4PacketIn] = queue.Queue()
        self.idle: queue.Queue[finsy.P4TableEntry] = queue.Queue()
        self._arbitration: queue.Queue[p4r.MasterArbitrationUpdate] = queue.Queue()
        self._requests: queue.Queue[p4r.StreamMessageRequest | None] = queue.Queue()
        self._device_id = device_id
        self._election_id = U128.encode(ELECTION_ID)
        self._channel = grpc.insecure_channel(address)
        self._stub = p4r_grpc.P4RuntimeStub(self._channel)
        self._stream = self._stub.StreamChannel(iter(self._requests.get, None))
        threading.Thread(target=self._receive, name="p4runtime stream", daemon=True).start()
        self._become_primary()
        self._load_pipeline()

    def close(self) -> None:
        """Give the stream back."""
        self._requests.put(None)
        self._stream.cancel()
        self._channel.close()

    # -- tables ---------------------------------------------------------------------------------------

    def insert(self, *entities: Any) -> None:
        """Insert them, in one request. :raises WriteRefused:"""
        self._write(p4r.Update.INSERT, entities)

    def modify(self, *entities: Any) -> None:
        """Modify them, in one request. :raises WriteRefused:"""
        self._write(p4r.Update.MODIFY, entities)

    def delete(self, *entities: Any) -> None:
        """Delete them, in one request. :raises WriteRefused:"""
        self._write(p4r.Update.DELETE, entities)

    def read(self, entity: Any) -> Iterator[Any]:
        """Everything on the switch that the entity describes."""
        request = p4r.ReadRequest(device_id=self._device_id, entities=[entity.encode(self.schema)])
        for response in self._stub.Read(request, timeout=DEADLINE):
            for found in response.entities:
                yield type(entity).decode(found, self.schema)

    # -- packets --------------------------------------------------------------------------------------

    def packet_out(self, payload: bytes, **metadata: int) -> None:
        """Send a frame through the switch; metadata that is not given is 0."""
        fields = {"egress_port": 0, "_pad": 0, "kind": 0, "epoch": 0, "sequence": 0} | metadata
        self._requests.put(finsy.P4PacketOut(payload, **fields).encode_update(self.schema))

    def packet_in(self, deadline: float = DEADLINE) -> finsy.P4PacketIn:
        """The next packet-in. :raises queue.Empty: if there is none within so many seconds."""
        return self.packet_ins.get(timeout=deadline)

    def has_packet_in(self) -> bool:
        """Whether one has come that nobody took."""
        return not self.packet_ins.empty()

    # -- inside ---------------------------------------------------------------------------------------

    def _write(self, kind: int, entities: tuple[Any, ...]) -> None:
        updates = [p4r.Update(type=kind, entity=entity.encode(self.schema)) for entity in entities]
        request = p4r.WriteRequest(device_id=self._device_id, election_id=self._election_id, updates=updates)
        try:
            self._stub.Write(request, timeout=DEADLINE)
        except grpc.RpcError as error:
            raise WriteRefused(error) from None

    def _become_primary(self) -> None:
        update = p4r.MasterArbitrationUpdate(device_id=self._device_id, election_id=self._election_id)
        self._requests.put(p4r.StreamMessageRequest(arbitration=update))
        answer = self._arbitration.get(timeout=DEADLINE)
        assert answer.status.code == 0, f"not primary: {answer}"

    def _load_pipeline(self) -> None:
        config = p4r.ForwardingPipelineConfig(p4info=self.schema.p4info, p4_device_config=self.schema.p4blob)
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=self._device_id,
            election_id=self._election_id,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT,
            config=config,
        )
        # A switch may compile the program before it answers.
        self._stub.SetForwardingPipelineConfig(request, timeout=6 * DEADLINE)

    def _receive(self) -> None:
        try:
            for message in self._stream:
                self._dispatch(message)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                raise

    def _dispatch(self, message: p4r.StreamMessageResponse) -> None:
        match message.WhichOneof("update"):
            case "arbitration":
                self._arbitration.put(message.arbitration)
            case "packet":
                self.packet_ins.put(finsy.P4PacketIn.decode(message, self.schema))
            case "idle_timeout_notification":
                for entry in message.idle_timeout_notification.table_entry:
                    self.idle.put(finsy.P4TableEntry.decode_entry(entry, self.schema))
            case other:
                raise AssertionError(f"unexpected message on the stream: {other}")


def until(condition: Any, what: str, deadline: float = DEADLINE) -> None:
    """Ask again until the condition holds. :raises AssertionError: after so many seconds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {deadline:g} s"
