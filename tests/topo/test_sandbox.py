"""Namespaces and links for real: whole checksums, no chatter of the kernel's own, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.integ, pytest.mark.usefixtures("namespaces")]


def in_sandbox(body: str) -> str:
    """Run Python in a fresh sandbox with the default topology wired; returns what it prints."""
    program = (
        "from topo.namespaces import enter_sandbox, run_in\nenter_sandbox()\n"
        "from topo.model import one_switch\nfrom topo.links import wire\n"
        "topology = one_switch(2)\nwiring = wire(topology)\n" + body
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_port_has_its_interface_and_namespaces_differ() -> None:
    out = in_sandbox(
        "import os\n"
        "print(sorted(wiring.ports['s1'].items()))\n"
        "print(len({os.fstat(fd).st_ino for fd in wiring.namespaces.values()}), sorted(wiring.namespaces))\n"
    )
    assert out.splitlines() == [
        "[(1, 'client-sw'), (2, 'server-sw'), (11, 'slot1-sw'), (12, 'slot2-sw')]",
        "5 ['client', 'server', 'slot1', 'slot2', 'switch']",
    ]


def test_hosts_may_share_a_subnet_and_be_in_several() -> None:
    """Every slot gets their gateway once; a host in several subnets has one way out for each version of IP."""
    out = in_sandbox(
        "from msgspec.structs import replace\n"
        "import subprocess\n"
        "wiring.close()\n"
        "client, server = topology.hosts\n"
        "client = replace(client, name='a', addresses=('10.0.2.3/24', '10.0.9.3/24', 'fd00:2::3/64', 'fd00:9::3/64'),\n"
        "    gateways=('10.0.2.1', '10.0.9.1', 'fd00:2::1', 'fd00:9::1'))\n"
        "server = replace(server, name='b')\n"
        "slots = tuple(replace(slot, slot=slot.slot + 10) for slot in topology.slots)\n"
        "shared = replace(topology, hosts=(client, server), slots=slots, virtual=('10.0.2.100',))\n"
        "shared.validate()\n"
        "wiring = wire(shared, punt=True)\n"
        "def show(*words): print(subprocess.run(('ip', *words), capture_output=True, text=True).stdout.strip())\n"
        "run_in(wiring.namespaces['a'], lambda: (show('-4', 'route', 'show', 'default'),"
        " show('-6', 'route', 'show', 'default')))\n"
        "run_in(wiring.namespaces['slot11'], lambda: show('-4', '-br', 'address', 'show', 'mb0'))\n"
    )
    v4, v6, slot = out.splitlines()
    assert v4.startswith("default via 10.0.2.1 ") and v6.startswith("default via fd00:2::1 ")
    assert slot.split()[2:] == ["10.0.2.1/24", "10.0.9.1/24"]


def test_hosts_send_whole_checksums_and_no_frame_longer_than_the_mtu() -> None:
    out = in_sandbox(
        "import socket, select\n"
        "from splitmerge.linux.afpacket import PacketSocket\n"
        "port = PacketSocket('client-sw')\n"
        "def send():\n"
        "    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))\n"
        "    from pyroute2 import IPRoute\n"
        "    with IPRoute() as ip:\n"
        "        i = ip.link_lookup(ifname='eth0')[0]\n"
        "        ip.neigh('replace', dst='10.0.1.1', lladdr=topology.middlebox_mac, ifindex=i, state='permanent')\n"
        "    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.sendto(b'x' * 5000, ('10.0.2.2', 9))\n"
        "    u.sendto(b'y' * 100, ('10.0.2.2', 9))\n"
        "run_in(wiring.namespaces['client'], send)\n"
        "frames = []\n"
        "while select.select([port], [], [], 0.3 if len(frames) >= 5 else 10)[0]:\n"
        "    frames += [frame for frame in port.receive() if frame[12:14] == b'\\x08\\0']\n"
        "def total(data):\n"
        "    data += b'\\0' * (len(data) % 2)\n"
        "    s = sum(int.from_bytes(data[i:i+2], 'big') for i in range(0, len(data), 2))\n"
        "    while s >> 16: s = (s & 0xffff) + (s >> 16)\n"
        "    return s\n"
        "last = frames[-1]\n"
        "pseudo = last[26:34] + b'\\0\\x11' + last[38:40]\n"
        "print(len(frames), max(map(len, frames)), hex(total(pseudo + last[34:])))\n"
    )
    assert out.split() == ["5", "1514", "0xffff"]


def test_kernels_send_nothing_of_their_own_accord_once_a_switch_could_listen() -> None:
    """Else a fresh lab would have packets that the switch drops, which a user takes for losses."""
    out = in_sandbox(
        "import select, time\n"
        "from splitmerge.linux.afpacket import PacketSocket\n"
        "sockets = {PacketSocket(name): name for name in wiring.ports['s1'].values()}\n"
        "time.sleep(0.05)\n"  # a switch needs longer to start
        "for each in sockets: each.receive()\n"
        "until = time.monotonic() + 2.5\n"
        "while (left := until - time.monotonic()) > 0:\n"
        "    for each in select.select(list(sockets), [], [], left)[0]:\n"
        "        print(sockets[each], *(frame.hex() for frame in each.receive()))\n"
        "print(len(sockets), 'ports')\n"
    )
    assert out == "4 ports\n"


def test_a_sandbox_leaves_nothing_behind() -> None:
    """Looked at from a sandbox around it: this system's own interfaces come and go with other tests beside this one."""
    inner = "from topo.namespaces import enter_sandbox; enter_sandbox()\n"
    inner += "from topo.model import one_switch; from topo.links import wire; wire(one_switch(2))"
    out = in_sandbox(
        "import os, socket, subprocess, sys\n"
        "def around(): return socket.if_nameindex(), os.path.isdir('/run/netns') and sorted(os.listdir('/run/netns'))\n"
        "before = around()\n"
        f"subprocess.run([sys.executable, '-c', {inner!r}], check=True)\n"
        "assert ('client-sw' in [name for _, name in before[0]]) and around() == before\n"
        "print('as before')\n"
    )
    assert out == "as before\n"


SUCCESSOR = """
import os, signal, subprocess, sys, time
from topo.namespaces import CLONE_NEWNET, setns, unshare

def succeed(*_):  # by a process of somebody else's, in a namespace that has the number of the lab's, if that can be had
    setns(home, CLONE_NEWNET)
    until = time.monotonic() + 1
    while True:
        other = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: unshare(CLONE_NEWNET))
        if os.stat(f"/proc/{other.pid}/ns/net").st_ino == number or time.monotonic() > until:
            print(other.pid, flush=True)
            os._exit(0)
        other.kill()
        other.wait()

home = os.open("/proc/self/ns/net", os.O_RDONLY)
unshare(CLONE_NEWNET)
number = os.stat("/proc/self/ns/net").st_ino
signal.signal(signal.SIGTERM, succeed)
print("ready", flush=True)
signal.pause()
"""


def test_a_lab_that_ends_takes_nobody_elses_processes_along() -> None:
    """Its namespaces' numbers are the kernel's to give again as soon as they are gone."""
    out = in_sandbox(
        "import os, subprocess, sys, time\n"
        "from topo.launch import stop_lab\nfrom topo.spec import LabRecord\n"
        f"lab = subprocess.Popen([sys.executable, '-c', {SUCCESSOR!r}], stdout=subprocess.PIPE, text=True)\n"
        "assert lab.stdout.readline() == 'ready\\n'\n"
        "stop_lab(LabRecord(name='x', pid=lab.pid, directory='/nowhere', target='embedded', api_socket='',\n"
        "                   namespaces={'client': f'/proc/{lab.pid}/ns/net'}))\n"
        "other = int(lab.stdout.readline())\n"
        "until = time.monotonic() + 10\n"
        "while (state := open(f'/proc/{other}/stat').read().rpartition(')')[2].split()[0]) in 'RD':\n"
        "    assert time.monotonic() < until  # it has just been started\n"
        "os.kill(other, 9)\n"
        "print(state)\n"
    )
    assert out == "S\n"


def test_as_an_ordinary_user_too() -> None:
    """The same in a user namespace, where this process is root only in its own eyes."""
    if os.geteuid() != 0:
        pytest.skip("is an ordinary user already: the other tests show it")
    program = (
        "import os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self is this user's, as after a login\n"
        "from topo.namespaces import enter_sandbox\nenter_sandbox()\n"
        "from topo.model import one_switch\nfrom topo.links import wire\nprint(len(wire(one_switch(2)).ports['s1']))"
    )
    preload = "import ctypes, topo.namespaces, topo.model, topo.links, pyroute2\n"
    result = subprocess.run(
        [sys.executable, "-c", preload + program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "4"


def test_no_interface_is_a_clear_error() -> None:
    out = in_sandbox(
        "from splitmerge.linux.afpacket import PacketSocket\n"
        "from splitmerge.errors import BadInput\n"
        "try: PacketSocket('nope0')\n"
        "except BadInput as error: print(error)\n"
    )
    assert out == "interface 'nope0': No such device (see `ip link`)\n"
