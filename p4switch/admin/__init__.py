"""Commands to a running switch: its ports, over a Unix socket."""

from p4switch.admin.ports import PortState, SwitchPorts, open_interface
from p4switch.admin.socket import ControlSocket

__all__ = ["ControlSocket", "PortState", "SwitchPorts", "open_interface"]
