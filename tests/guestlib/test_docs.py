"""The examples in docs/guestlib.md run, and do what the text says."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from guestlib import Guest, Packet, ReplicaConfig, prepare
from splitmerge.errors import BadInput
from tests.guestlib.conftest import frame_of, key_of

PAGE = Path(__file__).parents[2] / "docs" / "guestlib.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the examples define, one after the other."""
    module = types.ModuleType("page")
    sys.modules[module.__name__] = module  # where msgspec looks annotations up
    for source in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(source, str(PAGE), "exec"), module.__dict__)
    return module.__dict__


def test_the_worked_example(page: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    chatter = page["Chatter"]()
    guest = prepare(chatter)
    for flow in (1, 1, 2):
        chatter.on_packet(guest, Packet.of(frame_of(flow)))
    chatter.on_packet(guest, Packet.of(bytes(60)))
    assert guest.sent == [frame_of(1), frame_of(1), frame_of(2), bytes(60)]
    with guest.flow(key_of(1)) as talk:
        assert talk.packets == 2
    chatter.on_finish(guest)
    assert capsys.readouterr().out == "all replicas together: 3\n"
    assert guest.fire_timers(guest.now + 61.0) == 2
    assert guest.table.count == 0


def configured(**settings: object) -> ReplicaConfig:
    return ReplicaConfig(replica=1, interface="mb0", control="unix:/c", peer="unix:/p", settings=settings)


def test_the_example_of_a_configuration(page: dict[str, Any]) -> None:
    for settings, passed in (({"most": 2}, 2), ({}, 3)):
        limiter = page["Limiter"]()
        guest = prepare(limiter, configured(**settings))
        for _ in range(3):
            limiter.on_packet(guest, Packet.of(frame_of(1)))
        assert len(guest.sent) == passed
        assert guest.fire_timers(guest.now + 59.0) == 0 and guest.fire_timers(guest.now + 2.0) == 1


def test_the_example_of_a_refusal(page: dict[str, Any]) -> None:
    (said,) = re.findall(r"^error: (.+)$", PAGE.read_text(), re.MULTILINE)
    with pytest.raises(BadInput) as caught:
        prepare(page["Limiter"](), configured(mots=20))
    assert str(caught.value) == said


def test_every_call_in_the_table_exists() -> None:
    calls = re.findall(r"^\| `(\w+)\(", PAGE.read_text(), re.MULTILINE)
    assert len(calls) > 10
    guest = Guest()
    assert [call for call in calls if not hasattr(guest, call)] == []
