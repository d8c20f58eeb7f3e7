"""Meters: two buckets of tokens in millionths of a unit, as `p4switch.runtime.Meter` has them, bit for bit."""

from typing import Any

from p4switch.native.changes import Changes
from p4switch.native.emit import I64, PTR, Emitter, Unit, Value, const, i64
from p4switch.native.layout import Meter
from p4switch.native.ops import Op
from p4switch.runtime.meters import Meter as RuntimeMeter
from p4switch.runtime.meters import MeterConfig

_SECOND_US = 1_000_000
_GREEN, _YELLOW, _RED = 0, 1, 2


def meter_function(unit: Unit) -> Any:
    """``u64 meter(meter*, u64 units, u64 now_us)``: take the units and say the colour."""
    found = unit.module.globals.get("meter")
    if found is not None:
        return found
    function = unit.function("meter", I64, PTR, I64, I64)
    emit = Emitter(unit, function)
    meter, units, now = function.args
    b = emit.b
    configured = emit.load(emit.at(meter, Meter.CONFIGURED), 64, 8)
    with emit.when(b.icmp_unsigned("==", configured, i64(0))):
        b.ret(i64(_GREEN))
    last = emit.load(emit.at(meter, Meter.LAST), 64, 8)
    later = b.icmp_unsigned(">", now, last)
    elapsed = b.select(later, b.sub(now, last), i64(0))
    emit.store(b.select(later, now, last), emit.at(meter, Meter.LAST), 8)
    committed = _fill(emit, meter, Meter.COMMITTED, Meter.RATES, elapsed)
    peak = _fill(emit, meter, Meter.PEAK, Meter.RATES + 16, elapsed)
    cost = b.mul(emit.resize(units, 128), const(128, _SECOND_US))
    with emit.when(b.icmp_unsigned("<", peak, cost)):
        b.ret(i64(_RED))
    emit.store(b.sub(peak, cost), emit.at(meter, Meter.PEAK), 8)
    with emit.when(b.icmp_unsigned("<", committed, cost)):
        b.ret(i64(_YELLOW))
    emit.store(b.sub(committed, cost), emit.at(meter, Meter.COMMITTED), 8)
    b.ret(i64(_GREEN))
    return function


def _fill(emit: Emitter, meter: Value, bucket: int, rates: int, elapsed: Value) -> Value:
    """Add what the time brought, up to the burst."""
    b = emit.b
    rate = emit.resize(emit.load(emit.at(meter, rates), 64, 8), 128)
    burst = b.mul(emit.resize(emit.load(emit.at(meter, rates + 8), 64, 8), 128), const(128, _SECOND_US))
    # Rates and times are below 2**63, and the bucket below 2**84: nothing overflows 128 bits.
    have = b.add(emit.load(emit.at(meter, bucket), 128, 8), b.mul(emit.resize(elapsed, 128), rate))
    full = emit.least(have, burst)
    emit.store(full, emit.at(meter, bucket), 8)
    return full


class NativeMeter(RuntimeMeter):
    """A meter whose buckets are in the region."""

    __slots__ = ("_changes", "_offset")

    def __init__(self, changes: Changes, offset: int) -> None:
        super().__init__()
        self._changes = changes
        self._offset = offset

    def configure(self, config: MeterConfig | None, where: str, now_us: int) -> None:
        """As `Meter.configure`."""
        super().configure(config, where, now_us)
        words = [0] * (Meter.SIZE // 8)
        if config is not None:
            words[0], words[Meter.LAST // 8] = 1, now_us
            for at, burst in ((Meter.COMMITTED, config.committed_burst), (Meter.PEAK, config.peak_burst)):
                low_high = burst * _SECOND_US
                words[at // 8], words[at // 8 + 1] = low_high & (1 << 64) - 1, low_high >> 64
            rates = (config.committed_rate, config.committed_burst, config.peak_rate, config.peak_burst)
            words[Meter.RATES // 8 :] = rates
        for position, word in enumerate(words):
            self._changes.add(Op.POKE, self._offset + 8 * position, word)

    def execute(self, units: int, now_us: int) -> int:
        """Only generated code executes this meter."""
        raise NotImplementedError("the meter is in the native back end's memory")
