"""The pipeline alone, in memory: one core, no packet I/O."""

import subprocess
import sys
import time

from benchmarks.switch.traffic import FLOWS, flow_key, frame
from benchmarks.switch.wires import IN, OUT
from p4src import P4BLOB
from p4switch.device import Device
from p4switch.load import load_program
from p4switch.native import NativeDevice
from p4switch.runtime import ActionCall

_PREFIX = "SplitmergeIngress."


def fill(device: Device) -> None:
    """The same entries as over P4Runtime."""
    tables = device.state.tables

    def call(name: str, *args: int) -> ActionCall:
        return ActionCall(_PREFIX + name, args)

    with device.state.lock:
        tables[_PREFIX + "port_roles.port_role"].insert((IN,), call("port_roles.set_host"))
        tables[_PREFIX + "replicas.replica"].insert((7,), call("replicas.to_replica", OUT))
        flows = tables[_PREFIX + "flow.flow_v4"]
        for number in range(FLOWS):
            flows.insert(flow_key(number), call("flow.steer", 7, 0))


def native(seconds: float = 1.0) -> int:
    """Packets a second of generated code."""
    device = NativeDevice(load_program(P4BLOB.read_bytes()))
    fill(device)
    step = device.prepared_batch([(IN, frame(number, 64)) for number in range(0, FLOWS, 10)])
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += step()
    return int(done / (time.perf_counter() - start))


def interpreter(seconds: float = 1.0) -> int:
    """Packets a second of the interpreter."""
    device = Device(load_program(P4BLOB.read_bytes()))
    fill(device)
    frames = [frame(number, 64) for number in range(0, FLOWS, 10)]
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for data in frames[:200]:
            device.process(IN, data, 1)
        done += 200
    return int(done / (time.perf_counter() - start))


def compile_seconds() -> float:
    """From the program's JSON to machine code that takes packets, in a process that has done nothing before."""
    code = (
        "import time; from p4src import P4BLOB; from p4switch.load import load_program\n"
        "from p4switch.native import NativeDevice\n"
        "start = time.perf_counter(); NativeDevice(load_program(P4BLOB.read_bytes()))\n"
        "print(time.perf_counter() - start)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    return round(float(said), 3)
