"""``python -m p4src build | check``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from p4src import compiler, record
from p4src.errors import P4BuildError, StaleOutputs

_EPILOG = """\
build   compiles splitmerge.p4 with p4c-bm2-ss (which must be on PATH) into p4src/build, with a record
        of the compiler's version and of the SHA-256 of every source and output
check   compares the record with the files; where p4c-bm2-ss is on PATH and is of the version
        recorded, also compiles again and compares the outputs
"""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status, 0 if all is well."""
    parser = argparse.ArgumentParser(
        prog="python -m p4src",
        description="Compile the P4 program, or check that its outputs are up to date.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("build", "check"))
    chosen = parser.parse_args(arguments)
    try:
        _say(_build() if chosen.command == "build" else _check())
    except P4BuildError as error:
        sys.stderr.write(f"p4src: {error}\n")
        return 1
    return 0


def _build() -> str:
    made = compiler.build()
    return f"compiled {len(made.sources)} sources with {made.compiler}"


def _check() -> str:
    kept = record.check()
    said = f"outputs are those of the {len(kept.sources)} sources, by {kept.compiler}"
    difference = recompile(kept)
    return f"{said}; {difference}"


def recompile(kept: record.Record) -> str:
    """Compile again and compare with the outputs; say what was done. :raises StaleOutputs: if they differ."""
    try:
        here = compiler.version()
    except P4BuildError as error:
        return f"not compiled again: {error}"
    if here != kept.compiler:
        # Another version may well write another JSON for the same program.
        return f"not compiled again: p4c here is {here}"
    with tempfile.TemporaryDirectory(prefix="p4src-") as scratch:
        made = compiler.compile_program(Path(scratch))
        pairs = zip(made, (record.P4BLOB, record.P4INFO), strict=True)
        differences = [f"  differs: {old.name}" for new, old in pairs if new.read_bytes() != old.read_bytes()]
    if differences:
        raise StaleOutputs(differences)
    return "compiled again, with the same result"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
