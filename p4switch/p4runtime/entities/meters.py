"""Counter and meter values on the wire ↔ values of the runtime."""

from __future__ import annotations

from finsy.proto import p4r

from p4switch.p4runtime.schema import Unit
from p4switch.p4runtime.status import Code, invalid
from p4switch.runtime import Count, MeterConfig

LARGEST_COUNT = (1 << 63) - 1


def decode_count(data: p4r.CounterData, what: str) -> Count:
    """:raises Refused: a negative count."""
    if data.packet_count < 0 or data.byte_count < 0:
        raise invalid(f"{what}: a count is not negative")
    return Count(data.packet_count, data.byte_count)


def encode_count(packets: int, octets: int, unit: Unit, into: p4r.CounterData) -> None:
    """Fill in what a counter of this unit counts, and mark the message as set."""
    into.SetInParent()
    if unit is not Unit.BYTES:
        into.packet_count = min(packets, LARGEST_COUNT)
    if unit is not Unit.PACKETS:
        into.byte_count = min(octets, LARGEST_COUNT)


def decode_meter(config: p4r.MeterConfig, what: str) -> MeterConfig:
    """:raises Refused: a negative rate or burst, or an excess burst (single-rate meters only)."""
    if min(config.cir, config.cburst, config.pir, config.pburst, config.eburst) < 0:
        raise invalid(f"{what}: rates and bursts of a meter are not negative", strict=Code.UNKNOWN)
    if config.eburst:
        raise invalid(f"{what}: eburst belongs to single-rate meters; v1model's have two rates")
    return MeterConfig(config.cir, config.cburst, config.pir, config.pburst)


def encode_meter(config: MeterConfig | None, into: p4r.MeterConfig) -> None:
    """Fill in the configuration; nothing for a meter that has none."""
    if config is None:
        return
    into.SetInParent()
    into.cir, into.cburst = config.committed_rate, config.committed_burst
    into.pir, into.pburst = config.peak_rate, config.peak_burst
