"""A real ``simple_switch_grpc`` for tests that bring their packets through its nanomsg socket."""

from __future__ import annotations

import pytest

from topo import bmv2


def bmv2_with_nanomsg() -> str:
    """Its path. Skips the test where it is not on PATH, or was built without nanomsg."""
    found = bmv2.find()
    if found is None:
        pytest.skip("simple_switch_grpc is not on PATH")
    if bmv2.lacks(found, bmv2.PACKETS):
        pytest.skip(f"{found} was built without nanomsg, which brings these tests' packets")
    return found
