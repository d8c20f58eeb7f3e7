"""Load generators, each a library function and a command (``python -m traffic.udp …``), and the ledger."""

from traffic.errors import LedgerError, TrafficError, TrafficInput
from traffic.ledger import Arrivals, Counts, Tally, settle, total

__all__ = ["Arrivals", "Counts", "LedgerError", "Tally", "TrafficError", "TrafficInput", "settle", "total"]
