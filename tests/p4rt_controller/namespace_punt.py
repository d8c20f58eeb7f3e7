"""The punt port on a veth pair whose other end plays the switch; run by test_punt.py in a process of its own."""

from __future__ import annotations

import asyncio
import select
import struct
import sys

from pyroute2 import IPRoute

from p4rt_controller.errors import SwitchUnavailable
from p4rt_controller.frames import FrameCodec
from p4rt_controller.intake import Intake
from p4rt_controller.moves import Move, MoveBook
from p4rt_controller.options import PuntPort
from p4rt_controller.packets import PacketIn, Punted
from p4rt_controller.punt import PuntPath
from p4rt_controller.schema import Pipeline
from p4src import P4BLOB, P4INFO
from splitmerge.errors import BadInput
from splitmerge.flowkey import FlowKey
from splitmerge.linux.afpacket import PacketSocket
from splitmerge.tag import TagKind
from topo.namespaces import enter_sandbox

ROOM = (100_000, 100_000_000)
CODEC = FrameCodec(Pipeline(P4INFO, P4BLOB).schema)
KEYS = [FlowKey.parse(f"udp,10.0.0.1:{port},10.0.0.2:9") for port in range(1, 9)]


def punted(key: FlowKey, number: int) -> bytes:
    """A packet of a suspended flow, as it comes over the wire."""
    low, high = key.low_addr.rjust(16, b"\0"), key.high_addr.rjust(16, b"\0")
    values = (1 << 7, 1, 4, 17, key.bucket, 7, low, high, key.low_port, key.high_port)
    header = struct.pack("!HBBBHH16s16sHH", *values)
    return bytes.fromhex("02534d00000102534d00000288b6") + header + b"%08d" % number + bytes(60)


class World:
    """A punt path, the book behind it, and the switch's end of the wire."""

    def __init__(self, ring_bytes: int = 1 << 20) -> None:
        self.book = MoveBook(ROOM, ROOM, ROOM)
        self.reasons: list[str] = []
        self.short = 0
        intake = Intake(CODEC, self.book, self.handle, lambda move: None)
        self.path = PuntPath(PuntPort("ctrl", 9, ring_bytes), CODEC, intake, self.took, self.reasons.append)
        self.switch = PacketSocket("swp", ring_bytes=16 << 20)

    def handle(self, event: PacketIn) -> Move | None:
        return self.book.punted(event, 0.0)[1] if isinstance(event, Punted) else None

    def took(self, count: int) -> None:
        self.short += count

    async def until(self, condition, what: str) -> None:
        try:
            async with asyncio.timeout(10):
                while not condition():  # noqa: ASYNC110  (the kernel's doing has no event)
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(what) from None


async def lanes() -> None:
    """Every packet is in its move's lane, in order, and other tasks had their turn meanwhile."""
    world = World()
    world.path.open()
    moves = [world.book.open(number, [key], [], [], 0.0) for number, key in enumerate(KEYS, start=1)]
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for start in range(0, 8000, 400):
        frames = [punted(KEYS[number % 8], number) for number in range(start, start + 400)]
        assert world.switch.send_many(frames) == 400
        await world.until(lambda end=start + 400: sum(len(m.lane) for m in moves) == end, "all buffered")
    task.cancel()
    for index, move in enumerate(moves):
        assert [int(frame[:8]) for frame in move.lane] == list(range(index, 8000, 8))
    assert world.short > 7900
    assert turns > 40
    assert world.path.counts().ring == world.path.counts().link == 0
    world.path.close()


async def overflow() -> None:
    """More than the ring holds before the loop comes to read: what is lost is counted."""
    world = World(ring_bytes=1 << 17)
    world.path.open()
    move = world.book.open(1, [KEYS[0]], [], [], 0.0)
    sent = 1000
    assert world.switch.send_many([punted(KEYS[0], number) for number in range(sent)]) == sent
    await world.until(lambda: len(move.lane) + world.path.counts().ring == sent, "every packet accounted for")
    assert world.path.counts().ring > 0
    numbers = [int(frame[:8]) for frame in move.lane]
    assert numbers == sorted(set(numbers))
    world.path.close()
    assert world.path.counts().ring == sent - len(numbers)


async def sending() -> None:
    """Packet-outs leave in order and in batches; a frame that is too long is counted and stops nothing."""
    world = World()
    world.path.open()
    for number in range(500):
        world.path.send(11, TagKind.RELAYED, 7, number, b"%04d" % number)
    world.path.send(11, TagKind.PLAIN, 7, 0, bytes(4000))
    world.path.send(11, TagKind.END, 7, 500, None)
    got: list[bytes] = []
    while len(got) < 501:
        await asyncio.sleep(0)
        if select.select([world.switch], [], [], 0)[0]:
            got += world.switch.receive()
    assert [struct.unpack_from("!HBII", frame, 14) for frame in got[:-1]] == [
        (11 << 7, 1, 7, number) for number in range(500)
    ]
    assert struct.unpack_from("!HBII", got[-1], 14) == (11 << 7, 3, 7, 500)
    assert world.path.counts().refused == 1
    world.path.close()


async def link() -> None:
    """The link goes away: what is under way is told, sending fails. It comes back: all goes on."""
    world = World()
    world.path.open()
    runner = asyncio.create_task(world.path.run())
    move = world.book.open(1, [KEYS[0]], [], [], 0.0)
    await asyncio.to_thread(change, "set", state="down")
    await world.until(lambda: bool(world.reasons), "told that it is down")
    assert "punt port ctrl" in world.reasons[0], world.reasons
    await asyncio.to_thread(change, "del")
    world.switch.close()

    def refused() -> bool:
        try:
            world.path.send(11, TagKind.MARKER, 1, 1, None)
        except SwitchUnavailable as error:
            assert "punt port ctrl is down" in str(error)
            return True
        return False

    await world.until(refused, "nothing is sent into nowhere")
    await asyncio.to_thread(wires)
    world.switch = PacketSocket("swp")

    def arrives() -> bool:
        world.switch.send(punted(KEYS[0], 5))
        return len(move.lane) > 0

    await world.until(arrives, "packets come again")
    world.path.send(11, TagKind.MARKER, 1, 1, None)
    await world.until(lambda: any(frame[12:14] == b"\x88\xb6" for frame in world.switch.receive()), "marker arrives")
    runner.cancel()
    world.path.close()


async def missing() -> None:
    """An interface that is not there is a clear error at once."""
    codec, book = CODEC, MoveBook(ROOM, ROOM, ROOM)
    intake = Intake(codec, book, lambda event: None, lambda move: None)
    path = PuntPath(PuntPort("nope"), codec, intake, lambda count: None, lambda reason: None)
    try:
        path.open()
    except BadInput as error:
        assert "'nope'" in str(error)
    else:
        raise AssertionError("opened")
    path.close()


def wires() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="ctrl", kind="veth", peer="swp")
        for name in ("ctrl", "swp"):
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up", arp=False)


def change(what: str, **settings: object) -> None:
    with IPRoute() as ip:
        ip.link(what, index=ip.link_lookup(ifname="ctrl")[0], **settings)


if __name__ == "__main__":
    enter_sandbox()
    wires()
    cases = {"lanes": lanes, "overflow": overflow, "sending": sending, "link": link, "missing": missing}
    asyncio.run(cases[sys.argv[1]]())
    print("ok")
