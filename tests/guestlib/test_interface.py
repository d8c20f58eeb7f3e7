"""A replica on a real interface: AF_PACKET in a namespace of its own, run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys, threading
from pathlib import Path
from topo.namespaces import enter_sandbox
enter_sandbox()
from pyroute2 import IPRoute
with IPRoute() as ip:
    ip.link("add", ifname="mb0", kind="veth", peer="far0")
    for name in ("mb0", "far0"):
        ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up", arp=False)
from guestlib import run_replica
from splitmerge.linux.afpacket import PacketSocket
from splitmerge.messages import Finish, Finished, SharedPush, SharedPushed
from tests.guestlib.conftest import frame_of, number_in
from tests.guestlib.harness import Counter, Desk, config_for
import dataclasses, select
directory = Path(sys.argv[1])
desk = Desk(directory / "o")
config = dataclasses.replace(config_for(directory), interface="mb0")
status = []
far = PacketSocket("far0")
thread = threading.Thread(target=lambda: status.append(run_replica(Counter(), config)))
thread.start()
peer, hello = desk.accept()
got = []
for start in range(0, 2000, 100):
    for number in range(start, start + 100):
        assert far.send(frame_of(number % 7, number))
    while len(got) < start + 100:
        assert select.select([far], [], [], 10)[0], f"{len(got)} frames came back"
        got += [number_in(frame) for frame in far.receive() if frame[12:14] == b"\\x08\\x00"]
assert got == list(range(2000)), got
lengths = [0, 2, 13, 1519, 3000]
assert not any(far.send(bytes(length)) for length in lengths) and far.send(bytes(14)) and far.send(bytes(1514))
assert (far.bad_frames, far.bad_length, far.send_failures) == (len(lengths), 3000, len(lengths))
with IPRoute() as ip:
    ip.link("set", index=ip.link_lookup(ifname="far0")[0], state="down")
assert not far.send(bytes(60)) and (far.bad_frames, far.send_failures) == (len(lengths), len(lengths) + 1)
peer.say(Finish(request=1))
while not isinstance(message := peer.next(), Finished):
    if isinstance(message, SharedPush):
        peer.say(SharedPushed(request=message.request))
thread.join(10)
print("status", status)
"""


@pytest.mark.integ
def test_packets_through_a_real_interface(namespaces: None, short_dir: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(short_dir)], cwd=ROOT, capture_output=True, text=True, timeout=50
    )
    assert (result.returncode, result.stdout) == (0, "status [0]\n"), result.stderr
