"""Does KVM truly work here? Found by running a machine of three instructions in time: ``/dev/kvm`` may hang."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import IO

KVM = "/dev/kvm"
EMULATOR = "qemu-system-x86_64"
TRY_WITHIN = 5.0
"""Seconds for the test machine to end."""
_BIOS_SIZE = 0x10000
_RESET_VECTOR = 0xFFF0
_PROGRAM = bytes.fromhex("b010 e6f4 f4")
"""mov al, 0x10; out 0xf4, al; hlt — QEMU's isa-debug-exit ends with status 2 × 0x10 + 1."""
_RAN = 33


def trouble(accelerator: str) -> str:
    """Why QEMU does not execute instructions with this accelerator (``kvm``, ``tcg``) within `TRY_WITHIN`.

    Empty if it does.
    """
    program = shutil.which(EMULATOR)
    if program is None:
        return f"there is no {EMULATOR}"
    if accelerator == "kvm" and not os.access(KVM, os.R_OK | os.W_OK):
        return f"{KVM} is not there, or may not be used"
    with tempfile.NamedTemporaryFile(prefix="splitmerge-bios-") as bios, tempfile.TemporaryFile() as said:
        image = bytearray(b"\xf4" * _BIOS_SIZE)
        image[_RESET_VECTOR : _RESET_VECTOR + len(_PROGRAM)] = _PROGRAM
        bios.write(image)
        bios.flush()
        argv = [
            *(program, "-machine", f"pc,accel={accelerator}", "-nodefaults", "-display", "none", "-m", "16"),
            *("-bios", bios.name, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"),
        ]
        status = _status(argv, said)
        said.seek(0)
        last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
    if status is None:
        return f"a test machine did not end within {TRY_WITHIN:g} s"
    return "" if status == _RAN else f"a test machine ended with status {status}: {last or 'no word'}"


def _status(argv: list[str], said: IO[bytes]) -> int | None:
    """Exit status; None if it did not end in time. One that cannot even be killed is left behind, not waited for."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
    try:
        return process.wait(TRY_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.returncode = -9  # stuck in the kernel: no ResourceWarning, nothing more to be done
    return None
