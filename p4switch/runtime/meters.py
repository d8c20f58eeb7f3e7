"""Two-rate three-colour meters (RFC 2698, colour-blind), as BMv2 has them: a meter without a configuration is green."""

from dataclasses import dataclass
from enum import IntEnum

from p4switch import ir
from p4switch.errors import BadEntry

_SECOND_US = 1_000_000


class Colour(IntEnum):
    """What a meter says of a packet, with v1model's numbers."""

    GREEN = 0
    YELLOW = 1
    RED = 2


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """Rates in units (packets or bytes) a second, bursts in units; peak at least committed."""

    committed_rate: int
    committed_burst: int
    peak_rate: int
    peak_burst: int


class Meter:
    """One meter: two buckets of tokens, in millionths of a unit so that the arithmetic is exact."""

    __slots__ = ("_committed", "_last_us", "_peak", "config")

    def __init__(self) -> None:
        self.config: MeterConfig | None = None
        self._committed = 0
        self._peak = 0
        self._last_us = 0

    def configure(self, config: MeterConfig | None, where: str, now_us: int) -> None:
        """Set rates and fill both buckets; None takes the configuration away.

        :raises BadEntry: a rate or burst is negative; ``where`` names the meter.
        """
        if config is not None:
            values = (config.committed_rate, config.committed_burst, config.peak_rate, config.peak_burst)
            if min(values) < 0:
                raise BadEntry(where, "rates and bursts of a meter are not negative")
            self._committed = config.committed_burst * _SECOND_US
            self._peak = config.peak_burst * _SECOND_US
            self._last_us = now_us
        self.config = config

    def execute(self, units: int, now_us: int) -> int:
        """Take ``units`` (1, or the packet's bytes) and say the colour."""
        config = self.config
        if config is None:
            return 0
        elapsed = max(0, now_us - self._last_us)
        self._last_us = max(now_us, self._last_us)
        self._committed = min(self._committed + elapsed * config.committed_rate, config.committed_burst * _SECOND_US)
        self._peak = min(self._peak + elapsed * config.peak_rate, config.peak_burst * _SECOND_US)
        cost = units * _SECOND_US
        if self._peak < cost:
            return Colour.RED
        self._peak -= cost
        if self._committed < cost:
            return Colour.YELLOW
        self._committed -= cost
        return Colour.GREEN


class MeterArray:
    """An indirect meter array."""

    def __init__(self, spec: ir.MeterArray) -> None:
        self.spec = spec
        self.by_packets = spec.unit == "packets"
        self.meters = [Meter() for _ in range(spec.size)]

    def __len__(self) -> int:
        return self.spec.size

    def __getitem__(self, index: int) -> Meter:
        """:raises BadEntry: no such index."""
        if not 0 <= index < self.spec.size:
            raise BadEntry(self.spec.name, f"index {index} is outside of 0..{self.spec.size - 1}")
        return self.meters[index]

    def configure(self, index: int, config: MeterConfig | None, now_us: int) -> None:
        """:raises BadEntry: no such index, or a bad configuration."""
        self[index].configure(config, self.spec.name, now_us)

    def execute(self, index: int, length: int, now_us: int) -> int:
        """The colour of a packet of ``length`` bytes; ``index`` must exist."""
        return self.meters[index].execute(1 if self.by_packets else length, now_us)
