"""Which back end runs a program: the native one where it can, else the interpreter, and never without saying so."""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from enum import StrEnum

from p4switch.device import Device
from p4switch.engine import Engine, EngineOptions
from p4switch.errors import UnsupportedError
from p4switch.ir import Program
from p4switch.ports import PacketIo

log = logging.getLogger("p4switch")


class BackendChoice(StrEnum):
    """``--backend``. AUTO: native, or the interpreter with the reason in the log; the others: that one or an error."""

    AUTO = "auto"
    NATIVE = "native"
    INTERPRETER = "interpreter"


def native_is_installed() -> bool:
    """Whether llvmlite is there."""
    return importlib.util.find_spec("llvmlite") is not None


def device_maker(choice: BackendChoice) -> Callable[..., Device]:
    """What makes the device of a program; takes `Device`'s arguments.

    The maker raises UnsupportedError if the back end asked for cannot run the program.
    """
    if choice is BackendChoice.INTERPRETER:
        return Device

    def make(program: Program, *, drop_port: int) -> Device:
        try:
            return _native(program, drop_port)
        except UnsupportedError as error:
            if choice is BackendChoice.NATIVE:
                raise
            log.warning("the interpreter runs this program, as the native back end cannot: %s", error)
            return Device(program, drop_port=drop_port)

    return make


def _native(program: Program, drop_port: int) -> Device:
    if not native_is_installed():
        raise UnsupportedError("native code without llvmlite", "this installation", "pip install llvmlite")
    from p4switch.native import NativeDevice  # only where llvmlite is

    device = NativeDevice(program, drop_port=drop_port)
    log.info("native code made in %.2f s", device.library.seconds)
    return device


def make_engine(choice: BackendChoice, ports: Sequence[PacketIo], options: EngineOptions) -> Engine:
    """The engine for devices of this choice."""
    if choice is BackendChoice.INTERPRETER or not native_is_installed():
        return Engine(ports, options)
    from p4switch.native.engine import NativeEngine  # only where llvmlite is

    return NativeEngine(ports, options)
