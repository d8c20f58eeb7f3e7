"""The intrusion detection system: the paper's port of Bro (§4.1)."""

from middleboxes.ids.alerts import Alert
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.errors import AlertLost, IdsConfigError, IdsError
from middleboxes.ids.middlebox import ASK, EXPIRE, STATISTICS, Ids
from middleboxes.ids.state import PacketCount, Statistics, TcpFlow, UdpFlow, combine
from middleboxes.ids.tally import Tally
from middleboxes.ids.watch import TALLY

__all__ = [
    "ASK",
    "EXPIRE",
    "STATISTICS",
    "TALLY",
    "Alert",
    "AlertLost",
    "Ids",
    "IdsConfig",
    "IdsConfigError",
    "IdsError",
    "PacketCount",
    "Statistics",
    "Tally",
    "TcpFlow",
    "UdpFlow",
    "combine",
]
