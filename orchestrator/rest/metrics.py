"""Prometheus metrics, read from the orchestrator when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.service import Orchestrator
from p4src.reasons import DropReason

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds, in seconds, of the buckets of suspension times."""
ENDED = "ended"
"""Label `replica` of what replicas had counted that have ended: sums over all labels never go down."""


class _Collector(Collector):
    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    def collect(self) -> Iterator[Metric]:
        yield from self._replicas()
        yield from self._moves()
        yield from self._locks()
        yield from self._coherent()
        yield from self._assigner()
        yield from self._controller()
        yield from self._switches()
        yield from self._processes()

    def _replicas(self) -> Iterator[Metric]:
        fleet = self._orchestrator.fleet
        yield GaugeMetricFamily("splitmerge_replicas", "Replicas that take flows", value=len(fleet.live()))
        died = self._orchestrator.replicas_died
        yield CounterMetricFamily("splitmerge_replicas_died", "Replicas that ended without being asked to", value=died)
        yield from self._replacements()
        flows = GaugeMetricFamily("splitmerge_replica_flows", "Flows held", labels=["replica"])
        packets = CounterMetricFamily("splitmerge_replica_packets", "Packets processed", labels=["replica"])
        cpu = CounterMetricFamily("splitmerge_replica_cpu_seconds", "CPU time used", labels=["replica"])
        drops = CounterMetricFamily("splitmerge_replica_drops", "Packets dropped", labels=["replica", "reason"])
        for each in fleet.working():
            name = str(each.number)
            flows.add_metric([name], each.flows)
            if each.stats is not None:
                packets.add_metric([name], each.stats.packets)
                cpu.add_metric([name], each.stats.cpu_seconds)
                for reason, count in sorted(each.stats.drops.items()):
                    drops.add_metric([name, reason], count)
        packets.add_metric([ENDED], fleet.ended.packets)
        cpu.add_metric([ENDED], fleet.ended.cpu_seconds)
        for reason, count in sorted(fleet.ended.drops.items()):
            drops.add_metric([ENDED, reason], count)
        yield from (flows, packets, cpu, drops)

    def _replacements(self) -> Iterator[Metric]:
        core = self._orchestrator.replacements
        yield CounterMetricFamily(
            "splitmerge_replacements", "Replicas that came in place of dead ones", value=core.made
        )
        help_text = "Tries to make one that came to nothing, or died young"
        yield CounterMetricFamily("splitmerge_replacement_tries_failed", help_text, value=core.tries_failed)
        yield GaugeMetricFamily("splitmerge_replacements_owed", "Replicas that are still to come", value=len(core.owed))
        help_text = "Dead replicas in whose place none comes by itself"
        yield GaugeMetricFamily("splitmerge_replacements_given_up", help_text, value=core.absent)

    def _moves(self) -> Iterator[Metric]:
        mover = self._orchestrator.mover
        ended = CounterMetricFamily("splitmerge_moves", "Moves that have ended", labels=["outcome"])
        for outcome, count in sorted(mover.reports.outcomes.items()):
            ended.add_metric([outcome], count)
        yield ended
        running = len(mover.running())
        yield GaugeMetricFamily("splitmerge_moves_running", "Moves under way", value=running)
        times = sorted(each.suspended for each in mover.reports if each.suspended)
        buckets = [(str(bound), float(sum(each <= bound for each in times))) for bound in BOUNDS]
        buckets.append(("+Inf", float(len(times))))
        yield HistogramMetricFamily(
            "splitmerge_suspended_seconds", "Time packets were held back, newest moves", buckets, sum_value=sum(times)
        )

    def _locks(self) -> Iterator[Metric]:
        locks = self._orchestrator.shared_state.locks
        help_text = "Locks given on since the holder's lease had run out"
        yield CounterMetricFamily("splitmerge_locks_taken_over", help_text, value=locks.taken_over)
        yield CounterMetricFamily("splitmerge_fenced_writes", "Writes refused for an old token", value=locks.fenced)

    def _coherent(self) -> Iterator[Metric]:
        hub = self._orchestrator.shared_state.hub
        help_text = "Parts of objects with a combiner that are kept, those of ended replicas too"
        yield GaugeMetricFamily("splitmerge_shared_elements", help_text, value=hub.kept)
        yield GaugeMetricFamily("splitmerge_shared_bytes", "Bytes of their values", value=hub.kept_bytes)
        help_text = "Parts of ended replicas that were combined into another one"
        yield CounterMetricFamily("splitmerge_shared_folded", help_text, value=hub.folded)
        help_text = "Parts that came too long after their replica's end, and were not taken"
        yield CounterMetricFamily("splitmerge_shared_late", help_text, value=hub.late)
        help_text = "Parts of more objects than are kept, which were not taken"
        yield CounterMetricFamily("splitmerge_shared_refused", help_text, value=hub.refused)

    def _assigner(self) -> Iterator[Metric]:
        help_text = "Announcements of new flows dropped, by reason"
        drops = CounterMetricFamily("splitmerge_orchestrator_drops", help_text, labels=["reason"])
        for reason, count in self._orchestrator.assigner.drops.items():
            drops.add_metric([reason], count)
        yield drops

    def _controller(self) -> Iterator[Metric]:
        figures = self._orchestrator.packet_figures()
        if figures is None:
            return
        passed = CounterMetricFamily("splitmerge_controller_packets", "Packets at the controller", labels=["what"])
        drops = CounterMetricFamily("splitmerge_controller_drops", "Packets dropped there", labels=["reason"])
        waiting = GaugeMetricFamily("splitmerge_controller_waiting", "What is kept there now", labels=["what"])
        for family, counts in ((passed, figures.passed), (drops, figures.drops), (waiting, figures.waiting)):
            for name, count in counts.items():
                family.add_metric([name], count)
            yield family

    def _switches(self) -> Iterator[Metric]:
        known = self._orchestrator.switch_drops
        help_text = "Packets dropped by the P4 program, as of the last reading"
        drops = CounterMetricFamily("splitmerge_switch_drops", help_text, labels=["switch", "reason"])
        help_text = "Packets sent up to the controller, which are not dropped"
        punted = CounterMetricFamily("splitmerge_switch_punted", help_text, labels=["switch"])
        for name in known.names():
            counts = known.of(name)
            punted.add_metric([name], counts.pop(DropReason.PUNTED, 0))
            for reason, count in sorted(counts.items()):
                drops.add_metric([name, reason.name.lower()], count)
        help_text = "Times that a switch came back without the pipeline, since the orchestrator began"
        restarts = CounterMetricFamily("splitmerge_switch_restarts", help_text, labels=["switch"])
        for name, state in self._orchestrator.switches().items():
            restarts.add_metric([name], state.restarts)
        yield from (drops, punted, restarts)

    def _processes(self) -> Iterator[Metric]:
        help_text = "Orchestrators that had this journal before this one"
        yield CounterMetricFamily("splitmerge_orchestrator_restarts", help_text, value=self._orchestrator.restarts)
        help_text = "Connections of agents to this orchestrator"
        met = self._orchestrator.fleet.agents.met
        yield CounterMetricFamily("splitmerge_agent_connections", help_text, value=met)


def render(orchestrator: Orchestrator) -> bytes:
    """All metrics, in Prometheus's text form."""
    registry = CollectorRegistry()
    registry.register(_Collector(orchestrator))
    return generate_latest(registry)
