"""How grpcio waits is said before it is imported: it looks once."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAID = """
import importlib, os, sys
main = importlib.import_module(sys.argv[1]).main
assert "grpc" not in sys.modules, "too late"
sys.argv[1:] = sys.argv[2:]
try:
    main()
except SystemExit:
    pass
assert "grpc" in sys.modules
print(os.environ["GRPC_EXPERIMENTS"])
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("orchestrator.__main__", ["--config", "/nowhere/at/all"]),
        ("p4switch.cli", ["-i", "1@nothing", "--no-p4", "--", "--grpc-server-addr", "nowhere"]),
    ],
)
@pytest.mark.parametrize("said", ["", "-other"])
def test_it_is_said_before_grpcio_comes_unless_somebody_else_has(module: str, words: list[str], said: str) -> None:
    environment = {"GRPC_EXPERIMENTS": said} if said else {}
    done = subprocess.run(
        [sys.executable, "-c", SAID, module, *words], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1:] == [said or "-event_engine_listener,-event_engine_client"], done.stderr
