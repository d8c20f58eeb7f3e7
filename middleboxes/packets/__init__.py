"""Reading and rewriting packets: what middleboxes that translate have in common."""

from middleboxes.packets.checksum import checksum, ones_sum, pseudo_header, transport_checksum, updated
from middleboxes.packets.datagram import ACK, FIN, PSH, RST, SYN, Datagram
from middleboxes.packets.stage import Stage

__all__ = [
    "ACK",
    "FIN",
    "PSH",
    "RST",
    "SYN",
    "Datagram",
    "Stage",
    "checksum",
    "ones_sum",
    "pseudo_header",
    "transport_checksum",
    "updated",
]
