"""A real ``simple_switch_grpc`` for tests, where it is on PATH."""

from __future__ import annotations

import pytest

from topo import bmv2


def bmv2_from_path() -> str:
    """Its path. Skips the test where there is none."""
    found = bmv2.find()
    if found is None:
        pytest.skip("simple_switch_grpc is not on PATH")
    return found


def bmv2_with_nanomsg() -> str:
    """`bmv2_from_path`, for packets through its nanomsg socket. Skips the test too where it was built without."""
    found = bmv2_from_path()
    if bmv2.lacks(found, bmv2.PACKETS):
        pytest.skip(f"{found} was built without nanomsg, which brings these tests' packets")
    return found
