"""The record beside the compiled outputs: from which sources, by which compiler.

p4c is in no package registry, so its outputs are committed. The record lets every machine, also one without p4c,
see that they belong to the sources beside them: it holds a hash of each.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from p4src.errors import StaleOutputs

FOLDER = Path(__file__).parent
"""The folder of the sources; names in a record are relative to it."""
BUILD = FOLDER / "build"
PROGRAM = "splitmerge.p4"
P4BLOB = BUILD / "splitmerge.json"
P4INFO = BUILD / "splitmerge.p4info.txtpb"
RECORD = BUILD / "record.json"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was compiled. Hashes are SHA-256 in hexadecimal, by file name relative to the folder."""

    compiler: str
    """What ``p4c-bm2-ss --version`` said, on one line."""
    arguments: tuple[str, ...]
    sources: dict[str, str]
    outputs: dict[str, str]


def hashes(paths: list[Path], folder: Path = FOLDER) -> dict[str, str]:
    """The SHA-256 of each file, by its name relative to ``folder``, in the order of names."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)
    }


def sources(folder: Path = FOLDER) -> list[Path]:
    """Every P4 file of the program."""
    return sorted(folder.rglob("*.p4"))


def load(path: Path = RECORD) -> Record:
    """The record in this file. :raises StaleOutputs: if there is none, or it is no record."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError) as error:
        raise StaleOutputs([f"{path.name}: {error}"]) from error


def save(record: Record, path: Path = RECORD) -> None:
    """Write the record, one field a line, so that a change reads well in a diff."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def check(folder: Path = FOLDER) -> Record:
    """The folder's record, if its hashes are those of the files. :raises StaleOutputs: names each file that differs."""
    record = load(folder / RECORD.relative_to(FOLDER))
    outputs = [folder / path.relative_to(FOLDER) for path in (P4BLOB, P4INFO)]
    actual = hashes(sources(folder), folder) | hashes([path for path in outputs if path.exists()], folder)
    differences = compare(record.sources | record.outputs, actual)
    if differences:
        raise StaleOutputs(differences)
    return record


def compare(recorded: dict[str, str], actual: dict[str, str]) -> list[str]:
    """One line for each file that was changed, added or removed since; empty if none was."""
    changed = [
        f"  changed: {name}" for name in sorted(recorded.keys() & actual.keys()) if recorded[name] != actual[name]
    ]
    added = [f"  added:   {name}" for name in sorted(actual.keys() - recorded.keys())]
    removed = [f"  removed: {name}" for name in sorted(recorded.keys() - actual.keys())]
    return changed + added + removed
