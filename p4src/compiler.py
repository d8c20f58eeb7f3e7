"""Runs p4c-bm2-ss and keeps its outputs free of the machine that they were made on."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from p4src.errors import CompilerFailed, CompilerMissing
from p4src.record import FOLDER, P4BLOB, P4INFO, PROGRAM, RECORD, Record, hashes, save, sources

COMPILER = "p4c-bm2-ss"
ARGUMENTS = ("--std", "p4-16", "-Wall", "-Werror")
DEADLINE = 300.0
"""Seconds that one run of the compiler may take; it takes about one."""

_ABSOLUTE_NAME = re.compile(rb'("(?:filename|program)" : ")/(?:[^"/]*/)*')


def compiler() -> Path:
    """The compiler on PATH. :raises CompilerMissing: if there is none."""
    found = shutil.which(COMPILER)
    if found is None:
        raise CompilerMissing(COMPILER)
    return Path(found)


def version() -> str:
    """What the compiler says of itself, on one line. :raises CompilerMissing: :raises CompilerFailed:"""
    said = _run([str(compiler()), "--version"], FOLDER)
    # The path that it was called by comes first.
    return f"{COMPILER} {' '.join(said.split()).partition(' ')[2]}"


def compile_program(into: Path, folder: Path = FOLDER) -> tuple[Path, Path]:
    """Compile the folder's program; return the paths of the JSON and of the P4Info, in folder ``into``.

    The outputs name sources relative to ``folder``, and files of p4c's own by their last component.
    :raises CompilerMissing: :raises CompilerFailed: if the program is wrong.
    """
    blob, p4info = into / P4BLOB.name, into / P4INFO.name
    _run([str(compiler()), *ARGUMENTS, "-o", str(blob), "--p4runtime-files", str(p4info), PROGRAM], folder)
    blob.write_bytes(without_machine(blob.read_bytes()))
    return blob, p4info


def without_machine(blob: bytes) -> bytes:
    """p4c's JSON with every absolute file name cut down to its last component."""
    return _ABSOLUTE_NAME.sub(rb"\1", blob)


def build() -> Record:
    """Compile into the build folder and write the record; the old outputs stay if anything fails."""
    said = version()
    with tempfile.TemporaryDirectory(prefix="p4src-") as scratch:
        made = compile_program(Path(scratch))
        P4BLOB.parent.mkdir(exist_ok=True)
        for path, place in zip(made, (P4BLOB, P4INFO), strict=True):
            place.write_bytes(path.read_bytes())
    record = Record(compiler=said, arguments=ARGUMENTS, sources=hashes(sources()), outputs=hashes([P4BLOB, P4INFO]))
    save(record, RECORD)
    return record


def _run(command: list[str], folder: Path) -> str:
    """What the command said, on either output (the version comes on standard error).

    :raises CompilerFailed: if it ends with another status than 0.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False)
    said = done.stdout + done.stderr
    if done.returncode:
        raise CompilerFailed([Path(command[0]).name, *command[1:]], done.returncode, said)
    return said
