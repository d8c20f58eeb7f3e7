"""The example in docs/guestlib.md runs, and does what the text says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guestlib import Guest, Packet, prepare
from tests.guestlib.conftest import frame_of, key_of

PAGE = Path(__file__).parents[2] / "docs" / "guestlib.md"


def test_the_worked_example(capsys: pytest.CaptureFixture[str]) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    page: dict[str, object] = {"__name__": "page"}
    exec(compile(source, str(PAGE), "exec"), page)
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


def test_every_call_in_the_table_exists() -> None:
    calls = re.findall(r"^\| `(\w+)\(", PAGE.read_text(), re.MULTILINE)
    assert len(calls) > 10
    guest = Guest()
    assert [call for call in calls if not hasattr(guest, call)] == []
