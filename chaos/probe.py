"""``python -m chaos.probe ADDRESS …``: a line on standard input, and the switch's rows come back as one line of JSON.

Of several switches, the first of which has device id 1, rows are added up.

It runs in the lab's own network namespace, reads with P4Runtime as anybody may, and changes nothing.
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack

import grpc
import msgspec
from finsy.proto import p4r_grpc

from p4rt_controller.schema import Pipeline
from p4rt_controller.tables import Steer, Table
from p4src import P4BLOB, P4INFO

DEADLINE = 10.0
"""Seconds that a read may take."""


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What the switch says."""

    suspended: int = 0
    """Buckets and flows whose packets go to the controller although a replica has them."""
    buckets: dict[int, int] = {}
    """Replica → buckets that lead to it."""
    flows: dict[int, int] = {}
    """Replica → entries of flows that lead to it."""
    ports: tuple[int, ...] = ()
    """Replicas that have a port."""
    problem: str = ""


def read(stub: p4r_grpc.P4RuntimeStub, pipeline: Pipeline, device: int) -> Rows:
    """Everything, at once."""
    suspended = 0
    counts: dict[Table, dict[int, int]] = {Table.BUCKET: {}, Table.FLOW: {}}
    ports: list[int] = []
    for response in stub.Read(pipeline.read_all(device), timeout=DEADLINE):
        for table, key, value in pipeline.rows(response.entities):
            if table is Table.REPLICA and isinstance(key, int):
                ports.append(key)
            if table in counts and isinstance(value, Steer) and value.replica:
                suspended += value.suspended
                counts[table][value.replica] = counts[table].get(value.replica, 0) + 1
    return Rows(suspended=suspended, buckets=counts[Table.BUCKET], flows=counts[Table.FLOW], ports=tuple(sorted(ports)))


def together(found: list[Rows]) -> Rows:
    """The rows of several switches as if they were one's."""
    buckets, flows = Counter[int](), Counter[int]()
    for each in found:
        buckets.update(each.buckets)
        flows.update(each.flows)
    ports = sorted({port for each in found for port in each.ports})
    return Rows(
        suspended=sum(each.suspended for each in found), buckets=dict(buckets), flows=dict(flows), ports=tuple(ports)
    )


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=[("grpc.max_reconnect_backoff_ms", 200)])


def main() -> int:
    """The command."""
    pipeline = Pipeline(P4INFO, P4BLOB)
    with ExitStack() as channels:
        stubs = [p4r_grpc.P4RuntimeStub(channels.enter_context(_channel(address))) for address in sys.argv[1:]]
        for _ in sys.stdin:
            try:
                rows = together([read(stub, pipeline, device) for device, stub in enumerate(stubs, 1)])
            except grpc.RpcError as error:
                rows = Rows(problem=str(error.code()))
            sys.stdout.buffer.write(msgspec.json.encode(rows) + b"\n")
            sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
