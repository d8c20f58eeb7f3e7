"""The examples in docs/guestlib.md run, and do what the text says."""

from __future__ import annotations

import re
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Scapy

import guestlib
from guestlib import Guest, Packet, ReplicaConfig, prepare
from splitmerge.cli.trial import Trial
from splitmerge.errors import BadInput
from tests.guestlib.conftest import frame_of, key_of
from topo.model import one_switch

PAGE = Path(__file__).parents[2] / "docs" / "guestlib.md"
SOURCES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the examples define, one after the other."""
    module = types.ModuleType("page")
    sys.modules[module.__name__] = module  # where msgspec looks annotations up
    for source in SOURCES:
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


def test_what_is_to_be_imported_is_there() -> None:
    (table,) = re.findall(r"^\| from \| import \|\n(.*?)\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([\w.]+)` \| (.+) \|$", table, re.MULTILINE)
    assert len(rows) == 6
    for module, names in rows:
        found = import_module(module)
        assert [name for name in re.findall(r"`(\w+)`", names) if not hasattr(found, name)] == [], module
    errors = set(
        re.findall(r"`(\w+(?:Error|Missing|Exists|Migrated|Lost|Unavailable|Input|Timeout))`", PAGE.read_text())
    )
    assert {"FlowMissing", "LockLost"} < errors
    assert {each for each in errors if not hasattr(guestlib, each)} == {"BadInput", "ValueError"}


def test_fields_of_packets_keys_and_datagrams_are_there() -> None:
    (section,) = re.findall(r"^## Packets, keys.*?(?=^## )", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    packet = Packet.of(frame_of(1))
    datagram = import_module("middleboxes.packets").Datagram.of(packet.frame)
    _, *bullets = section.split("\n- ")
    assert len(bullets) == 3 and datagram.readable
    for thing, text in zip((packet, packet.key, datagram), bullets, strict=True):
        names = re.findall(r"`(?:FlowKey\.|Packet\.|Datagram\.)?([a-z]\w*)(?:\(.*?\))?`", text)
        assert len(names) > 2
        assert [
            name for name in names if name not in ("bytes", "str", "key", "port") and not hasattr(thing, name)
        ] == []


# -- the NAT ------------------------------------------------------------------------------------------------------

(NAT,) = [source for source in SOURCES if "class Nat:" in source]
"""By itself: it is to be whole."""
CLIENT, SERVER, EXTERNAL = "10.0.1.2", "10.0.2.2", "10.0.2.100"


class Box:
    def __init__(self) -> None:
        module = types.ModuleType("nat")
        sys.modules[module.__name__] = module
        exec(compile(NAT, str(PAGE), "exec"), module.__dict__)
        self.middlebox = module.Nat()
        self.guest = prepare(self.middlebox)

    def through(self, packet: Scapy) -> Scapy | None:
        """What becomes of it, with checksums that scapy would give it, too."""
        self.guest.sent.clear()
        self.middlebox.on_packet(self.guest, Packet.of(bytes(Ether() / packet)))
        if not self.guest.sent:
            return None
        (frame,) = self.guest.sent
        again = Ether(frame)
        for layer in (IP, TCP, UDP):
            if layer in again:
                del again[layer].chksum
        assert bytes(again) == frame
        return Ether(frame).payload


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_the_nat_translates_both_ways_and_back_to_the_same_replica(kind: type[Scapy]) -> None:
    box = Box()
    ports = set()
    for sport in range(5000, 5020):
        sent = box.through(IP(src=CLIENT, dst=SERVER) / kind(sport=sport, dport=80) / b"data")
        assert sent is not None and (sent.src, sent.dst, sent.dport, bytes(sent)[-4:]) == (
            EXTERNAL,
            SERVER,
            80,
            b"data",
        )
        back = box.through(IP(src=SERVER, dst=EXTERNAL) / kind(sport=80, dport=sent.sport) / b"back")
        assert back is not None and (back.src, back.dst, back.dport) == (SERVER, CLIENT, sport)
        again = box.through(IP(src=CLIENT, dst=SERVER) / kind(sport=sport, dport=80) / b"more")
        assert again is not None and again.sport == sent.sport
        ports.add(sent.sport)
    assert len(ports) == 20 == box.guest.table.count
    assert all({key.bucket for key in flow.keys} == {flow.key.bucket} for flow in box.guest.table.flows())


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=SERVER, dst=EXTERNAL) / UDP(sport=53, dport=2000),
        IP(src=CLIENT, dst=EXTERNAL) / UDP(sport=53, dport=2000),
        IP(src=CLIENT, dst=SERVER) / ICMP(type=8, id=9),
        IP(src=CLIENT, dst=SERVER, flags="MF") / UDP(sport=53, dport=2000),
    ],
    ids=["begun outside", "to itself", "echo", "fragment"],
)
def test_the_nat_drops_what_it_says(packet: Scapy) -> None:
    box = Box()
    assert box.through(packet) is None and box.guest.table.count == 0


def test_the_nats_mappings_end_when_they_are_idle() -> None:
    box = Box()
    for _ in range(2):
        assert box.through(IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=53)) is not None
        assert box.guest.fire_timers(box.guest.now + 299.0) == 0
    assert box.guest.fire_timers(box.guest.now + 2.0) == 1 and box.guest.table.count == 0


def test_a_lab_takes_the_nat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nat.py").write_text(NAT)
    answers = Trial("nat:Nat", {}).result().answers
    assert answers == (bytes((10, 0, 2, 100)),)
    one_switch().check_answers("nat:Nat", answers)
