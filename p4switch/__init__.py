"""The embedded switch: runs BMv2 JSON, serves P4Runtime, takes simple_switch_grpc's flags.

The layers, each importable by itself: `p4switch.load` and `p4switch.check` (program), `p4switch.runtime` (state),
`p4switch.device` (program with a back end), `p4switch.ports` and `p4switch.engine` (packets), `p4switch.p4runtime`
(control plane), `p4switch.app` (all of it).
"""

from p4switch.device import Device, Transmit
from p4switch.errors import LoadError, PortError, StateError, SwitchError, UnsupportedError

__all__ = ["Device", "LoadError", "PortError", "StateError", "SwitchError", "Transmit", "UnsupportedError"]
