"""The protocol analysers. A new one needs its name in `STREAM` or `DATAGRAM`, its state in `Analysis`, and rules."""

from __future__ import annotations

from collections.abc import Callable

from middleboxes.ids.analysers.dns import DnsAnalyser, DnsState
from middleboxes.ids.analysers.ftp import FtpAnalyser, FtpState
from middleboxes.ids.analysers.http import HttpAnalyser
from middleboxes.ids.analysers.tls import TlsAnalyser, TlsState
from middleboxes.ids.analysis import DatagramAnalyser, StreamAnalyser
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.http import HttpState

STREAM: dict[str, Callable[[IdsConfig], StreamAnalyser]] = {
    "dns": DnsAnalyser,
    "ftp": FtpAnalyser,
    "http": HttpAnalyser,
    "tls": TlsAnalyser,
}
DATAGRAM: dict[str, Callable[[IdsConfig], DatagramAnalyser]] = {"dns": DnsAnalyser}
Analysis = HttpState | DnsState | FtpState | TlsState
"""What a flow's record holds of the protocol: a tagged union, for it travels as typed data."""

__all__ = ["DATAGRAM", "STREAM", "Analysis"]
