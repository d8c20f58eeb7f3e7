"""The ledger: numbered packets that prove what was lost, duplicated or reordered. Pure arithmetic, exact.

A sender numbers the packets of a flow 1, 2, 3, …; the receiver gives every number to `Arrivals.record` in the order of
arrival. Then, in the words of RFC 4737 §3.3 (Type-P-Reordered, byte-free version) and RFC 5560:

- NextExp starts at 1. A packet with number s that arrives for the first time is **reordered** if s < NextExp; otherwise
  it is in order, and NextExp becomes s + 1. So of 1 3 2 only the 2 is reordered, and a loss alone reorders nothing.
- a packet whose number has arrived before is **duplicated** (each further copy counts once) and is not looked at for
  order: RFC 4737 §3.4 discards copies.
- a number sent and never arrived is **lost**.
- a number below 1 was never sent; it is **foreign**, and nothing else. One above the last sent is known for foreign
  only at the end: `settle` refuses such a ledger.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from traffic.errors import LedgerError


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What one receiver counted: numbers add up as received = unique + duplicated + foreign."""

    received: int = 0
    unique: int = 0
    duplicated: int = 0
    reordered: int = 0
    foreign: int = 0
    highest: int = 0
    """The largest number that arrived; 0 if none did."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of one flow, or of many: sent = unique + lost."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    foreign: int = 0


class Arrivals:
    """One direction of one flow at its receiver. Memory grows with the numbers missing, not with those received."""

    __slots__ = ("_beyond", "_duplicated", "_foreign", "_next_expected", "_reordered", "_through")

    def __init__(self) -> None:
        self._through = 0  # every number up to here has arrived
        self._beyond: set[int] = set()
        self._next_expected = 1
        self._duplicated = self._reordered = self._foreign = 0

    def record(self, sequence: int) -> None:
        """The packet with this number arrived now."""
        if sequence == self._through + 1 and not self._beyond:
            self._through = sequence
            self._next_expected = sequence + 1
        elif sequence < 1:
            self._foreign += 1
        elif sequence <= self._through or sequence in self._beyond:
            self._duplicated += 1
        else:
            self._out_of_step(sequence)

    def _out_of_step(self, sequence: int) -> None:
        if sequence < self._next_expected:
            self._reordered += 1
        else:
            self._next_expected = sequence + 1
        self._beyond.add(sequence)
        while self._through + 1 in self._beyond:
            self._through += 1
            self._beyond.remove(self._through)

    @property
    def unique(self) -> int:
        """Different numbers that arrived."""
        return self._through + len(self._beyond)

    def counts(self) -> Counts:
        """What has been counted so far."""
        return Counts(
            received=self.unique + self._duplicated + self._foreign,
            unique=self.unique,
            duplicated=self._duplicated,
            reordered=self._reordered,
            foreign=self._foreign,
            highest=self._next_expected - 1,
        )


def settle(sent: int, counts: Counts) -> Tally:
    """The account of a flow of which numbers 1 … ``sent`` were sent.

    :raises LedgerError: if a higher number arrived.
    """
    if counts.highest > sent:
        raise LedgerError(f"number {counts.highest} arrived, but only {sent} were sent")
    return Tally(
        sent=sent,
        received=counts.received,
        lost=sent - counts.unique,
        duplicated=counts.duplicated,
        reordered=counts.reordered,
        foreign=counts.foreign,
    )


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum over flows."""
    each = list(tallies)
    return Tally(**{name: sum(getattr(tally, name) for tally in each) for name in Tally.__struct_fields__})
