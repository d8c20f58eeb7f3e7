"""Programs that were tampered with: refused by name, or run; whatever is loaded never brings the process down.

In a process of its own, as what is feared is a crash of generated code.
"""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from p4switch.check import check_program
from p4switch.device import Device
from p4switch.errors import SwitchError
from p4switch.load import load_program
from p4switch.native import NativeDevice

ROOT = Path(__file__).parents[3]
PROGRAMS = ROOT / "tests" / "p4switch" / "programs"
TRIALS = 25
FRAME = bytes(range(1, 200))


def values(node: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a program but those of source lines."""
    items: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        items = [(key, value) for key, value in node.items() if key not in ("source_info", "source_fragment")]
    elif isinstance(node, list):
        items = list(enumerate(node))
    return [(node, key) for key, _ in items] + [pair for _, value in items for pair in values(value)]


def tamper(program: Any, rng: random.Random) -> None:
    """Change one value in a way that often loads: another number, another name, its neighbour."""
    places = values(program)
    holder, key = rng.choice(places)
    old = holder[key]
    match old:
        case bool():
            holder[key] = not old
        case int():
            holder[key] = rng.choice([0, 1, old + 1, old * 2, 1 << 16, -1])
        case str() if old.startswith("0x"):
            holder[key] = hex(rng.getrandbits(rng.choice([1, 8, 16, 48])))
        case _:
            other, name = rng.choice([place for place in places if type(place[0][place[1]]) is type(old)])
            holder[key] = copy.deepcopy(other[name])


def run(name: str, seed: int) -> int:
    """How many of the trials loaded."""
    text, rng, loaded = (PROGRAMS / f"{name}.json").read_text(), random.Random(seed), 0
    for _ in range(TRIALS):
        program = json.loads(text)
        for _ in range(rng.randint(1, 2)):
            tamper(program, rng)
        with suppress(SwitchError):
            made = load_program(json.dumps(program).encode())
            check_program(made)
            loaded += 1
            for device in (Device(made), NativeDevice(made)):
                for length in (0, 13, 14, 60, len(FRAME)):
                    with device.state.lock:
                        device.process(1, FRAME[:length], 1)
    return loaded


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["actions", "parsers", "tables"])
def test_a_program_that_was_tampered_with_runs_or_is_refused(name: str) -> None:
    pytest.importorskip("llvmlite")
    words = [sys.executable, "-m", "tests.p4switch.native.test_mutated_programs", name, "7"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 2, "most are refused, as they should be, but not all"


if __name__ == "__main__":
    print(run(sys.argv[1], int(sys.argv[2])))
