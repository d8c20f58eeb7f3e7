"""Counts of packets and drops: as Prometheus metrics, and as lines for the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from p4switch.engine import Engine
from p4switch.p4runtime import ControlPlane
from splitmerge.errors import BadInput


class Sample(NamedTuple):
    """One count. ``where`` is a port's number, or the name of what is below or inside the switch."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: int


def drops(engine: Engine, control: ControlPlane) -> Iterator[Sample]:
    """Every frame or message lost, by place and reason: ports, queues, pipeline, streams."""
    engine.outputs()  # brings what is lost below a port up to date too
    for (reason, port), count in engine.drops.by_reason_and_port().items():
        yield Sample("drops", (("place", f"port {port}"), ("reason", reason.value)), count)
    lost_below = Counter(engine.lost_below)
    for io in engine.ports:
        names = ",".join(io.ports().values())
        for below, count in io.drops().items():
            lost_below[names, below] += count
    for (names, below), count in lost_below.items():
        yield Sample("drops", (("place", names), ("reason", below)), count)
    pipeline = control.pipeline
    if pipeline is not None:
        state = pipeline.device.state
        for why, count in dict(state.drops).items():
            yield Sample("drops", (("place", "pipeline"), ("reason", why.value)), count)
        yield Sample("drops", (("place", "digests"), ("reason", "queue_full")), state.digests.dropped)
        yield Sample("drops", (("place", "digests"), ("reason", "not_enabled")), pipeline.entities.digests.dropped)
    for stream in control.streams():
        place = ("place", f"stream {stream.id}")
        yield Sample("drops", (place, ("reason", "packets")), stream.dropped_packets)
        yield Sample("drops", (place, ("reason", "notifications")), stream.dropped_notifications)


def traffic(engine: Engine) -> Iterator[Sample]:
    """Frames and bytes of every port, both ways."""
    outputs = engine.outputs()  # brings what was received up to date too
    for port, (packets, octets) in dict(engine.received).items():
        yield Sample("received_packets", (("port", str(port)),), packets)
        yield Sample("received_bytes", (("port", str(port)),), octets)
    for port, queue in outputs.items():
        yield Sample("sent_packets", (("port", str(port)),), queue.packets)
        yield Sample("sent_bytes", (("port", str(port)),), queue.bytes)


def samples(engine: Engine, control: ControlPlane) -> list[Sample]:
    """All counts. Drops are looked at first: so no frame shows as lost that does not show as received."""
    lost = list(drops(engine, control))
    return [*traffic(engine), *lost]


def lines(engine: Engine, control: ControlPlane) -> list[str]:
    """All counts that are not 0, one a line."""
    return [
        f"{sample.name} {' '.join(f'{key}={value!r}' for key, value in sample.labels)} {sample.value}"
        for sample in samples(engine, control)
        if sample.value
    ]


class _SwitchCollector(Collector):
    def __init__(self, engine: Engine, control: ControlPlane) -> None:
        self._engine = engine
        self._control = control

    def collect(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily] = {}
        for sample in samples(self._engine, self._control):
            keys, values = zip(*sample.labels, strict=True)
            family = families.get(sample.name)
            if family is None:
                family = CounterMetricFamily(f"p4switch_{sample.name}", _HELP[sample.name], labels=list(keys))
                families[sample.name] = family
            family.add_metric(list(values), sample.value)
        yield from families.values()
        waiting = GaugeMetricFamily("p4switch_output_queue_packets", "Frames that wait for a port", labels=["port"])
        for port, queue in self._engine.outputs().items():
            waiting.add_metric([str(port)], len(queue))
        yield waiting


_HELP = {
    "drops": "Frames and messages lost, by place and reason",
    "received_packets": "Frames received",
    "received_bytes": "Bytes received",
    "sent_packets": "Frames sent",
    "sent_bytes": "Bytes sent",
}


class MetricsServer:
    """``/metrics`` over HTTP at ``host:port``. :raises BadInput: it cannot listen there."""

    def __init__(self, address: str, engine: Engine, control: ControlPlane) -> None:
        registry = CollectorRegistry()
        registry.register(_SwitchCollector(engine, control))
        host, _, port = address.rpartition(":")
        try:
            self._server, self._thread = start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            raise BadInput("--metrics-addr", f"cannot listen on {address}: {error.strerror}") from None
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
