"""The packet modifier of §4.2: NAT for TCP, UDP and ICMP echo, with an application-layer gateway for FTP."""

from middleboxes.alg.config import AlgConfig, Forwarded
from middleboxes.alg.expect import EXPECTED, Expectation, Expectations
from middleboxes.alg.middlebox import Alg
from middleboxes.alg.state import Ftp, Mapping

__all__ = [
    "EXPECTED",
    "Alg",
    "AlgConfig",
    "Expectation",
    "Expectations",
    "Forwarded",
    "Ftp",
    "Mapping",
]
