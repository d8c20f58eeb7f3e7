"""Messages to clients: what the control plane has to say, as protobuf has it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

from finsy.proto import U128, p4d, p4r, rpc_status
from google.protobuf.any_pb2 import Any as AnyMessage

from p4switch.p4runtime.arbitration import Notify
from p4switch.p4runtime.bytestrings import encode
from p4switch.p4runtime.digests import SendList
from p4switch.p4runtime.schema import DigestInfo
from p4switch.p4runtime.status import SPACE, Code, Refused

_CHUNK = 1000
"""Entities in one ReadResponse."""


class BatchRefused(Refused):
    """Updates of a batch were refused. ``errors``: one for each update of the request, None for those done."""

    def __init__(self, errors: Sequence[Refused | None]) -> None:
        self.errors = tuple(errors)
        failed = [(i, error) for i, error in enumerate(errors) if error is not None]
        first, why = failed[0]
        super().__init__(Code.UNKNOWN, f"{len(failed)} of {len(self.errors)} refused; first, {first}: {why.message}")

    def details(self) -> rpc_status.Status:
        """google.rpc.Status with one p4.v1.Error for each update, those done included."""
        status = rpc_status.Status(code=self.code, message=self.message)
        for error in self.errors:
            item = p4r.Error()
            if error is not None:
                item.canonical_code, item.message, item.space, item.code = error.code, error.message, SPACE, error.code
            packed = AnyMessage()
            packed.Pack(item)
            status.details.append(packed)
        return status


def arbitration_notice(device_id: int, notify: Notify) -> p4r.StreamMessageResponse:
    """What a client is told of who is primary."""
    answer = p4r.StreamMessageResponse()
    update = answer.arbitration
    update.device_id = device_id
    if notify.role.startswith("id "):
        update.role.id = int(notify.role[3:])
    elif notify.role:
        update.role.name = notify.role
    if notify.role_config is not None:
        update.role.config.ParseFromString(notify.role_config)
    if notify.election_id is not None:
        update.election_id.CopyFrom(U128.encode(notify.election_id))
    update.status.code, update.status.message = notify.code, notify.message
    return answer


def stream_error(message: p4r.StreamMessageRequest, error: Refused) -> p4r.StreamMessageResponse:
    """What a client is told of a stream message that was refused."""
    answer = p4r.StreamMessageResponse()
    item = answer.error
    item.canonical_code, item.message, item.space = error.code, error.message, SPACE
    match message.WhichOneof("update"):
        case "packet":
            item.packet_out.packet_out.CopyFrom(message.packet)
        case "digest_ack":
            item.digest_list_ack.digest_list_ack.CopyFrom(message.digest_ack)
        case _:
            item.other.SetInParent()
    return answer


def digest_list(info: DigestInfo, item: SendList) -> p4r.StreamMessageResponse:
    """What a client is told of digests."""
    answer = p4r.StreamMessageResponse()
    digest = answer.digest
    digest.digest_id, digest.list_id, digest.timestamp = item.digest_id, item.list_id, time.time_ns()
    for values in item.values:
        data = digest.data.add()
        if info.kind == "bit":
            data.bitstring = encode(values[0])
            continue
        into: p4d.P4StructLike = data.struct if info.kind == "struct" else data.tuple
        for value in values:
            into.members.add(bitstring=encode(value))
    return answer


def chunks(entities: Iterator[p4r.Entity], errors: Sequence[Refused | None]) -> Iterator[p4r.ReadResponse]:
    """Answers to a Read, of up to `_CHUNK` entities. :raises BatchRefused: at the end, if there are ``errors``."""
    sent = False
    while chunk := list(itertools.islice(entities, _CHUNK)):
        sent = True
        yield p4r.ReadResponse(entities=chunk)
    if any(errors):
        raise BatchRefused(errors)
    if not sent:
        yield p4r.ReadResponse()  # simple_switch_grpc always answers one; some clients read one without looking
