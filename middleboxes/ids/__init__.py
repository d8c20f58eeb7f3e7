"""The intrusion detection system: the paper's port of Bro (§4.1)."""

from middleboxes.ids.alerts import Alert
from middleboxes.ids.config import IdsConfig
from middleboxes.ids.errors import AlertLost, IdsConfigError, IdsError
from middleboxes.ids.middlebox import EXPIRE, STATISTICS, Ids
from middleboxes.ids.state import PacketCount, Statistics, TcpFlow, combine

__all__ = [
    "EXPIRE",
    "STATISTICS",
    "Alert",
    "AlertLost",
    "Ids",
    "IdsConfig",
    "IdsConfigError",
    "IdsError",
    "PacketCount",
    "Statistics",
    "TcpFlow",
    "combine",
]
