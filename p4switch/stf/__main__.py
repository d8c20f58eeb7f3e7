"""``p4switch stf PROGRAM.json TEST.stf``: exit 0 if the test passes, 1 if not, 2 if it cannot be run."""

import argparse
import sys
from pathlib import Path

from p4switch.backend import BackendChoice, device_maker
from p4switch.check import check_program
from p4switch.errors import SwitchError
from p4switch.load import load_program
from p4switch.runtime import DROP_PORT
from p4switch.stf import parse_stf, run_stf


def main(arguments: list[str] | None = None) -> int:
    """Run one test."""
    parser = argparse.ArgumentParser(prog="p4switch stf", description=__doc__)
    parser.add_argument("program", type=Path, help="BMv2 JSON as p4c-bm2-ss writes it")
    parser.add_argument("test", type=Path, help="the .stf file")
    parser.add_argument("--backend", type=BackendChoice, choices=list(BackendChoice), default=BackendChoice.AUTO)
    options = parser.parse_args(arguments)
    try:
        program = load_program(options.program.read_bytes())
        check_program(program)
        device = device_maker(options.backend)(program, drop_port=DROP_PORT)
        differences = run_stf(device, parse_stf(options.test.read_text()))
    except (SwitchError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for line in differences:
        sys.stdout.write(f"{line}\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
