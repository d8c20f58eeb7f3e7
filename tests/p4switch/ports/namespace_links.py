"""Runs inside a fresh network namespace: links that go and come. Prints what was seen as JSON. See test_links."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from finsy.proto import p4d, p4i, p4r, p4r_grpc  # noqa: F401  # loads the messages before gRPC starts threads
from pyroute2 import IPRoute

from p4switch.app import Switch
from p4switch.cli import config_of
from p4switch.config import SwitchConfig
from p4switch.runtime import ActionCall, ActionSet, WeightedAction
from splitmerge.linux.afpacket import PacketSocket

DEADLINE = 10.0
FRAMES = [b"\0\6" + number.to_bytes(2, "big") + bytes(56) for number in range(0, 1 << 16, 997)]


def veth(ip: IPRoute, name: str, peer: str, *, up: bool = True) -> None:
    ip.link("add", ifname=name, kind="veth", peer={"ifname": peer})
    for link in (name, peer):
        Path(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").write_text("1")
        if up or link == name:
            set_link(ip, link, "up")


def set_link(ip: IPRoute, name: str, state: str) -> None:
    ip.link("set", index=ip.link_lookup(ifname=name)[0], state=state)


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def spread(switch: Switch) -> None:
    pipeline = switch.control.pipeline
    assert pipeline is not None
    (table,) = (table for name, table in pipeline.device.state.tables.items() if name.endswith("by_selector"))
    choices = tuple(WeightedAction(ActionCall("ChoicesIngress.send", (port,)), 1, port) for port in (1, 2))
    with switch.engine.control_of(pipeline.device):
        table.insert((6,), ActionSet(choices))


def arriving(source: PacketSocket, *sinks: str) -> list[int]:
    """How many of all frames come out at each of these interfaces."""
    ends = [PacketSocket(name) for name in sinks]
    for frame in FRAMES:
        assert source.send(frame)
    counts = [0] * len(ends)

    def gathered() -> bool:
        for index, end in enumerate(ends):
            counts[index] += len(end.receive(64))
        return sum(counts) >= len(FRAMES)

    until(gathered, f"{counts} at {sinks}")
    for end in ends:
        end.close()
    return counts


def talk(ip: IPRoute, switch: Switch) -> dict[str, object]:
    down = switch.engine.ports_down
    spread(switch)
    seen: dict[str, object] = {"at the start": sorted(down())}
    set_link(ip, "h1", "up")
    until(lambda: not down(), "the first carrier")
    source = PacketSocket("h3")
    seen["both"] = arriving(source, "h1", "h2")
    set_link(ip, "h2", "down")
    until(lambda: down() == {2}, "no carrier")
    seen["one"] = arriving(source, "h1")
    ip.link("del", index=ip.link_lookup(ifname="s2")[0])
    set_link(ip, "s1", "down")
    until(lambda: down() == {1, 2}, "administratively down")
    set_link(ip, "s1", "up")
    until(lambda: down() == {2}, "up again")
    for _ in range(2):
        veth(ip, "s2", "h2")
        until(lambda: not down(), "it came back")
        again = arriving(source, "h1", "h2")
        back = PacketSocket("h2")
        received = arriving(back, "h1", "h2")
        back.close()
        seen["again"] = [again, received]
        ip.link("del", index=ip.link_lookup(ifname="s2")[0])
        until(lambda: down() == {2}, "it went")
    return seen


def main(folder: str, program: str, backend: str) -> None:
    with IPRoute() as ip:
        veth(ip, "s1", "h1", up=False)
        veth(ip, "s2", "h2")
        veth(ip, "s3", "h3")
        words = ["-i", "1@s1", "-i", "2@s2", "-i", "3@s3", "--backend", backend, program]
        config = config_of([*words, "--", "--grpc-server-addr", f"unix:{folder}/s"])
        with Switch(config) as switch:
            switch.start()
            seen = talk(ip, switch)
            assert switch.engine.failure is None
        veth(ip, "s2", "h2")
        seen["seconds to stop"] = max(stopping(config) for _ in range(5))
        print(json.dumps(seen))


def stopping(config: SwitchConfig) -> float:
    """Seconds that a switch with nothing to do takes to stop."""
    with Switch(config) as switch:
        switch.start()
        started = time.monotonic()
        switch.engine.stop()
        return time.monotonic() - started


if __name__ == "__main__":
    main(*sys.argv[1:])
