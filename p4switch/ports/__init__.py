"""Packet I/O of the switch: Linux interfaces, nanomsg, dumps, and the output queues in front of them."""

from p4switch.ports.base import DropReason, Drops, Numbered, OutputQueue, PacketIo, Received, Sent
from p4switch.ports.dump import DumpPort
from p4switch.ports.files import FilePorts
from p4switch.ports.inbox import Inbox
from p4switch.ports.interface import InterfacePort
from p4switch.ports.links import LinkMonitor
from p4switch.ports.nanomsg import NanomsgPorts
from p4switch.ports.pcap import PcapPort
from p4switch.ports.priority import PriorityQueues

__all__ = [
    "DropReason",
    "Drops",
    "DumpPort",
    "FilePorts",
    "Inbox",
    "InterfacePort",
    "LinkMonitor",
    "NanomsgPorts",
    "Numbered",
    "OutputQueue",
    "PacketIo",
    "PcapPort",
    "PriorityQueues",
    "Received",
    "Sent",
]
