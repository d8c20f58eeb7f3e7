"""The test programs, packet by packet as BMv2 has it, and packets that nobody meant to send."""

import random
from pathlib import Path

import pytest

from p4switch.check import check_program
from p4switch.device import Device
from p4switch.load import load_program
from p4switch.stf import parse_stf, run_stf

PROGRAMS = Path(__file__).parent.parent / "programs"
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.json"))
OURS = Path(__file__).parents[3] / "p4src" / "build" / "splitmerge.json"


def device_of(path: Path) -> Device:
    program = load_program(path.read_bytes())
    check_program(program)
    return Device(program)


@pytest.mark.parametrize("name", NAMES)
def test_packets_come_out_as_recorded(name: str) -> None:
    test = parse_stf((PROGRAMS / f"{name}.stf").read_text())
    assert run_stf(device_of(PROGRAMS / f"{name}.json"), test) == []


@pytest.mark.parametrize("path", [*(PROGRAMS / f"{name}.json" for name in NAMES), OURS], ids=lambda path: path.stem)
def test_no_packet_raises(path: Path) -> None:
    device = device_of(path)
    rng = random.Random(1)
    for length in range(101):
        for port in (0, 1, 11, 510):
            device.process(port, bytes(length), length)
            device.process(port, rng.randbytes(length), length)
            device.process(port, bytes([rng.randrange(16)]) + rng.randbytes(length), length)
    device.process(1, rng.randbytes(9000), 1)


@pytest.mark.parametrize("name", NAMES)
def test_generated_source_is_the_same_each_time(name: str) -> None:
    one, other = (device_of(PROGRAMS / f"{name}.json").backend for _ in range(2))
    assert getattr(one, "source") == getattr(other, "source")  # noqa: B009  # only the interpreter has it
