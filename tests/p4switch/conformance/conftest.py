"""Fixtures of the conformance tests."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finsy.proto import p4r

from tests.bmv2 import bmv2_with_nanomsg
from tests.p4switch.conformance.harness import CONFIGS, NAMES, Wire, embedded, simple_switch_grpc
from tests.p4switch.p4runtime.conftest import Client, Names, configs, ent, names, start, switch
from topo import bmv2

__all__ = ["configs", "ent", "names", "start", "switch"]  # fixtures of the server's tests, used here too


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


class Bench:
    """A switch with one of our programs, a primary, and all ports."""

    def __init__(self, program: str, client: Client, wire: Wire) -> None:
        self.client = client
        self.wire = wire
        self.names: Names = NAMES[program]
        self.config: p4r.ForwardingPipelineConfig = CONFIGS[program]


_REAL = pytest.param("simple_switch_grpc", marks=pytest.mark.integ)


@pytest.fixture(params=["interpreter", "native", *([_REAL] if bmv2.find() else [])])
def bench(request: pytest.FixtureRequest, folder: Path) -> Iterator[Callable[..., Bench]]:
    """Starts a switch with a program, on either back end; and a real simple_switch_grpc, where it is on PATH."""
    if request.param == "native":
        pytest.importorskip("llvmlite")
    with contextlib.ExitStack() as stack:

        def start(program: str) -> Bench:
            if request.param == "simple_switch_grpc":
                opened = simple_switch_grpc(bmv2_with_nanomsg(), folder)
            else:
                opened = embedded(folder, "--backend", request.param)
            address, wire = stack.enter_context(opened)
            client = stack.enter_context(contextlib.closing(Client(address)))
            client.arbitrate(1)
            assert client.status() == (0, 1)
            client.set_pipeline(CONFIGS[program])
            return Bench(program, client, wire)

        yield start
