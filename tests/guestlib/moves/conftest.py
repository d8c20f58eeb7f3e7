"""The two replicas of a move, looked over at the end."""

from __future__ import annotations

import pytest

from tests.guestlib.moves.replicas import make


@pytest.fixture
def source():
    guest = make(1)
    yield guest
    guest.table.validate_state()


@pytest.fixture
def target():
    guest = make(2)
    yield guest
    guest.table.validate_state()
