"""Which back end runs a program: the native one where it can, else the interpreter, and never without saying so."""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from p4switch.device import Device
from p4switch.engine import Engine, EngineOptions
from p4switch.errors import UnsupportedError
from p4switch.ir import Program
from p4switch.ir.walk import looked_at, target_field
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


@dataclass(frozen=True, slots=True)
class Variant:
    """What else a device is to do."""

    traced: bool = False
    """Tell ``p4switch.packet``'s logger what happens to each packet."""
    queues: int = 1
    """Queues of each port."""


def device_maker(choice: BackendChoice, variant: Variant | None = None) -> Callable[..., Device]:
    """What makes the device of a program; takes `Device`'s arguments.

    The maker raises UnsupportedError if the back end asked for cannot run the program. Only the interpreter traces:
    it stands in for the back end asked for, which the log says when this is called.
    """
    wanted = variant or Variant()
    if wanted.traced:
        from p4switch.interpreter.traced import TracedInterpreter  # only where it is used

        if choice is not BackendChoice.INTERPRETER:
            log.warning("the interpreter runs all programs at this log level, as only it can trace packets")
        return partial(Device, backend=TracedInterpreter, queues=wanted.queues)
    if choice is BackendChoice.INTERPRETER:
        return partial(Device, queues=wanted.queues)

    def make(program: Program, *, drop_port: int) -> Device:
        try:
            if choice is BackendChoice.AUTO:
                _refuse_depths(program)
            return _native(program, drop_port, wanted.queues)
        except UnsupportedError as error:
            if choice is BackendChoice.NATIVE:
                raise
            log.warning("the interpreter runs this program, as the native back end cannot: %s", error)
            return Device(program, drop_port=drop_port, queues=wanted.queues)

    return make


def _refuse_depths(program: Program) -> None:
    """The native loop holds its input back and lets no queue grow, so depths are 0 there: not what anybody is after."""
    looked = looked_at(program)
    for name in ("queueing_metadata.enq_qdepth", "queueing_metadata.deq_qdepth"):
        if target_field(program, name) in looked:
            raise UnsupportedError(f"{name} other than 0", "standard_metadata", "--backend native, if 0 will do")


def _native(program: Program, drop_port: int, queues: int) -> Device:
    if queues > 1:
        raise UnsupportedError("more than one queue for each port", "--priority-queues", "--backend interpreter")
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
