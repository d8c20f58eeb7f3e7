"""The native back end: the program as machine code, made by LLVM when it is loaded.

``NativeDevice(program)`` is a `p4switch.device.Device`; see docs/switch-native.md for how it works.
"""

from p4switch.native.check import check_native
from p4switch.native.device import NativeBackend, NativeDevice

__all__ = ["NativeBackend", "NativeDevice", "check_native"]
