"""Errors name the place and the remedy; the public names are pinned."""

from __future__ import annotations

import splitmerge
from splitmerge.errors import BadInput, PeerError, SplitmergeError, Timeout, WireError


def test_public_names() -> None:
    assert splitmerge.__all__ == [
        "BUCKETS",
        "BadInput",
        "FlowKey",
        "PeerError",
        "SplitmergeError",
        "Tag",
        "TagKind",
        "WireError",
    ]
    assert all(hasattr(splitmerge, name) for name in splitmerge.__all__)


def test_bad_input_keeps_its_parts() -> None:
    error = BadInput("--name", "too long", "use a shorter one")
    assert (error.where, error.problem, error.remedy) == ("--name", "too long", "use a shorter one")
    assert str(error) == "--name: too long (use a shorter one)"
    assert isinstance(error, ValueError)


def test_one_tree() -> None:
    assert issubclass(WireError, PeerError) and issubclass(PeerError, SplitmergeError)
    assert str(Timeout("marker", 2.5)) == "marker: nothing within 2.5 s"
