"""How grpcio waits is said before it is imported: it looks once."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAID = """
import importlib, os, sys
from importlib import metadata
known, version, module, *words = metadata.version, *sys.argv[1:]
metadata.version = lambda name: version if name == "grpcio" else known(name)
main = importlib.import_module(module).main
assert "grpc" not in sys.modules, "too late"
sys.argv[1:] = words
try:
    main()
except SystemExit:
    pass
assert "grpc" in sys.modules
print(os.environ.get("GRPC_EXPERIMENTS"))
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("orchestrator.__main__", ["--config", "/nowhere/at/all"]),
        ("p4switch.cli", ["-i", "1@nothing", "--no-p4", "--", "--grpc-server-addr", "nowhere"]),
    ],
)
@pytest.mark.parametrize(
    ("version", "said", "expected"),
    [
        ("1.85.1", "", "-event_engine_listener,-event_engine_client"),
        ("1.81.1", "", "-event_engine_listener"),
        ("1.85.1", "-other", "-other"),
        ("1.86.0", "", "None"),
        ("main", "", "None"),
    ],
)
def test_it_is_said_before_grpcio_comes_unless_somebody_else_has(
    module: str, words: list[str], version: str, said: str, expected: str
) -> None:
    """And not to versions that nobody has seen with it."""
    environment = {"GRPC_EXPERIMENTS": said} if said else {}
    command = [sys.executable, "-c", SAID, version, module, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1:] == [expected], done.stderr
