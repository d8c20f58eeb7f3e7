"""Stateful NAT64 (paper §2.1): IPv6-only hosts reach IPv4 servers. RFC 6146, 7915 and 6052."""

from middleboxes.nat64.bib import BIB, Bib, Binding
from middleboxes.nat64.config import Nat64Config
from middleboxes.nat64.middlebox import Nat64
from middleboxes.nat64.session import Path, Session

__all__ = ["BIB", "Bib", "Binding", "Nat64", "Nat64Config", "Path", "Session"]
