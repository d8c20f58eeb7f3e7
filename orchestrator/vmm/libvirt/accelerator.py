"""Does KVM truly work here? Found by running a machine of three instructions in time: ``/dev/kvm`` may hang."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

EMULATOR = "qemu-system-x86_64"
TRY_WITHIN = 5.0
"""Seconds for the test machine to end."""
_BIOS_SIZE = 0x10000
_RESET_VECTOR = 0xFFF0
_PROGRAM = bytes.fromhex("b010 e6f4 f4")
"""mov al, 0x10; out 0xf4, al; hlt — QEMU's isa-debug-exit ends with status 2 × 0x10 + 1."""
_RAN = 33


def runs(accelerator: str) -> bool:
    """Whether QEMU executes instructions with this accelerator (``kvm``, ``tcg``) within `TRY_WITHIN`."""
    program = shutil.which(EMULATOR)
    if program is None or (accelerator == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK)):
        return False
    with tempfile.NamedTemporaryFile(prefix="splitmerge-bios-") as bios:
        image = bytearray(b"\xf4" * _BIOS_SIZE)
        image[_RESET_VECTOR : _RESET_VECTOR + len(_PROGRAM)] = _PROGRAM
        bios.write(image)
        bios.flush()
        argv = [
            *(program, "-machine", f"pc,accel={accelerator}", "-nodefaults", "-display", "none", "-m", "16"),
            *("-bios", bios.name, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"),
        ]
        return _status(argv) == _RAN


def _status(argv: list[str]) -> int | None:
    """Exit status; None if it did not end in time. One that cannot even be killed is left behind, not waited for."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(TRY_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.returncode = -9  # stuck in the kernel: no ResourceWarning, nothing more to be done
    return None
