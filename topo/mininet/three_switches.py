"""Three switches in a ring as a Mininet script, run as root: `python -m topo.mininet.three_switches`.

The topology is `topo/topologies/three-switches.toml`: hosts at two of the switches, replica slots at all. Moves between
replicas at different switches go over the trunks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from splitmerge.errors import SplitmergeError
from topo.mininet.one_switch import run
from topo.model import load_topology


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m topo.mininet.three_switches", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded", help="which switch node")
    parser.add_argument("--check", action="store_true", help="HTTP through the middlebox, then end; 0 if it works")
    options = parser.parse_args()
    try:
        return run(load_topology(Path("three-switches")), options.target, check=options.check)
    except (SplitmergeError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
