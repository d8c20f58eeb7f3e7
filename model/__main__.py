"""``python -m model``: search the protocol's states, every interleaving, and say what was found.

    python -m model                                   every kind of move, every fault, three packets
    python -m model --kind cpu/order-preserving --fault orchestrator --packets 4
    python -m model --pairs --packets 2               every pair of faults
    python -m model --without drain                   leave a rule out, and see a shortest way to break the move
    python -m model --rules                           what rules there are

Exit status 1 if an invariant is violated (with --without: if none is).
"""

from __future__ import annotations

import argparse
import sys
from functools import cache
from itertools import combinations_with_replacement

import msgspec

from model.faults import FAULTS
from model.rules import CONFIGURATIONS, RULES, Configuration
from model.search import Result, search

_ONCE = frozenset({"source", "target", "cancel"})
"""Faults that cannot happen twice."""


def pairs() -> list[str]:
    """Every pair of faults."""
    single = [name for name in FAULTS if name != "nothing" and "+" not in name]
    return [f"{a}+{b}" for a, b in combinations_with_replacement(single, 2) if a != b or a not in _ONCE]


@cache
def counterexample(kind: Configuration, rule: str, packets: int = 3) -> Result | None:
    """A violation when this rule is left out, with as few packets as do; None if there is none."""
    for count in range(1, packets + 1):
        for fault in FAULTS:
            result = search(kind, count, fault, frozenset({rule}))
            if result.violation is not None:
                return result
    return None


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", action="append", choices=CONFIGURATIONS, help="buffer/guarantee (default: all)")
    parser.add_argument("--fault", action="append", metavar="FAULT", help=f"one of {', '.join(FAULTS)}; or A+B")
    parser.add_argument("--pairs", action="store_true", help="every pair of faults")
    parser.add_argument("--packets", type=int, default=3, help="packets that may come, at any time (default 3)")
    parser.add_argument("--without", metavar="RULE", help="leave out this rule, or `each` in turn")
    parser.add_argument("--rules", action="store_true", help="list the rules")
    parser.add_argument("--json", action="store_true", help="one JSON object a search")
    options = parser.parse_args()
    if options.rules:
        for rule, what in RULES.items():
            sys.stdout.write(f"{rule:14} {what}\n")
        return 0
    faults = pairs() if options.pairs else options.fault or list(FAULTS)
    unknown = {part for fault in faults for part in fault.split("+")} - FAULTS.keys()
    if options.packets < 1:
        parser.error(f"--packets {options.packets}: at least 1")
    if unknown:
        parser.error(f"--fault {', '.join(sorted(unknown))}: no such fault; there are {', '.join(FAULTS)}")
    if options.without not in {None, "each", *RULES}:
        parser.error(f"--without {options.without}: no such rule; see --rules")
    kinds = [CONFIGURATIONS[name] for name in options.kind or CONFIGURATIONS]
    if options.without:
        return _without(kinds, options)
    status = 0
    for kind in kinds:
        for fault in faults:
            result = search(kind, options.packets, fault)
            _show(result, as_json=options.json)
            status |= result.violation is not None
    return status


def _without(kinds: list[Configuration], options: argparse.Namespace) -> int:
    status = 0
    for kind in kinds:
        for rule in sorted(kind.rules if options.without == "each" else kind.rules & {options.without}):
            found = counterexample(kind, rule, options.packets)
            if found is None:
                sys.stdout.write(f"{kind.name}: without {rule!r} nothing breaks\n")
                status = 1
            else:
                _show(found, as_json=options.json)
    return status


def _show(result: Result, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    left_out = f" without {', '.join(result.without)}" if result.without else ""
    sys.stdout.write(
        f"{result.configuration:24} {result.fault:20} {result.packets} packets {result.states:8} states "
        f"{result.ends:5} ends {result.seconds:6.1f} s  {result.violation or 'holds'}{left_out}\n"
    )
    for number, label in enumerate(result.trace, 1):
        sys.stdout.write(f"    {number:2} {label}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
