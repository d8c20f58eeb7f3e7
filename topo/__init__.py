"""Topologies as data, and a lab that realises them in network namespaces with the kernel's own TCP."""

from splitmerge.trunks import Trunk
from topo.errors import LabEnded, LabNotFound, LabUnfinished, ProcessFailed, SandboxError, TopologyError
from topo.model import Host, Slot, Topology, load_topology, one_switch

__all__ = [
    "Host",
    "LabEnded",
    "LabNotFound",
    "LabUnfinished",
    "ProcessFailed",
    "SandboxError",
    "Slot",
    "Topology",
    "TopologyError",
    "Trunk",
    "load_topology",
    "one_switch",
]
