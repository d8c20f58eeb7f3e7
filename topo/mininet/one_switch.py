"""The lab as a Mininet script, run as root: `python -m topo.mininet.one_switch`.

The switch node is this project's (`EmbeddedSwitch`) or ``simple_switch_grpc`` (`Bmv2Switch`). Orchestrator and agent
run in the switch's namespace; the agent forks replicas into the Mininet hosts ``slot1``, ``slot2`` … which all have the
middlebox's MAC and IP addresses.
"""

from __future__ import annotations

import argparse
import ipaddress
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

# Debian keeps mininet where a virtual environment does not look; everything else comes from the environment.
sys.path.append("/usr/lib/python3/dist-packages")
try:
    from mininet.cli import CLI
    from mininet.log import setLogLevel
    from mininet.net import Mininet
    from mininet.node import Node
except ImportError:
    sys.exit("error: Mininet is not installed (Debian and Ubuntu: sudo apt-get install mininet)")

from splitmerge.client import OrchestratorClient
from splitmerge.errors import PeerError, SplitmergeError
from topo.configs import write_agent_config, write_orchestrator_config
from topo.links import HOST_INTERFACE, MIDDLEBOX_INTERFACE, SLOT_MTU
from topo.mininet.nodes import Bmv2Switch, EmbeddedSwitch, P4RuntimeSwitch
from topo.model import Topology, one_switch
from topo.spec import LabSpec
from topo.switches import THRIFT_PORT, device_id, free_ports, grpc_address

READY_WITHIN = 30.0
STOP_WITHIN = 5.0


class Net:
    """The Mininet network of a lab, and the two processes that make it Splitmerge."""

    def __init__(self, spec: LabSpec) -> None:
        self.spec = spec
        self.mininet = Mininet(controller=None, build=False)
        self._processes: list[subprocess.Popen[bytes]] = []
        cls = EmbeddedSwitch if spec.target == "embedded" else Bmv2Switch
        count = len(spec.topology.switches)
        # The orchestrator has to reach all of them: several are beside it, in Mininet's own namespace.
        alone = count == 1
        thrift = [THRIFT_PORT] if alone else free_ports(count)
        self.switches: dict[str, P4RuntimeSwitch] = {
            name: self.mininet.addSwitch(
                name,
                cls=cls,
                cpu_port=spec.topology.cpu_port,
                device_id=device_id(position),
                grpc_address=grpc_address(position, spec.grpc_ports),
                thrift_port=thrift[position],
                inNamespace=alone,
            )
            for position, name in enumerate(spec.topology.switches)
        }
        for host in spec.topology.hosts:
            self._add(host.name, HOST_INTERFACE, host.switch, host.port)
        for slot in spec.topology.slots:
            self._add(f"slot{slot.slot}", MIDDLEBOX_INTERFACE, slot.switch, slot.port)
        for trunk in spec.topology.trunks:
            (a, a_port), (b, b_port) = trunk.ends()
            self.mininet.addLink(self.switches[a], self.switches[b], port1=a_port, port2=b_port)

    def _add(self, name: str, interface: str, switch: str, port: int) -> None:
        node = self.mininet.addHost(name, ip=None)
        self.mininet.addLink(node, self.switches[switch], port2=port, intfName1=f"{name}-{interface}")

    def start(self) -> None:
        """Bring it up. :raises SplitmergeError: / RuntimeError: if a part does not come."""
        self.mininet.build()
        topology = self.spec.topology
        for host in topology.hosts:
            self._configure(self.mininet.get(host.name), HOST_INTERFACE, host.mac)
            self._address(self.mininet.get(host.name), host.addresses, host.gateways)
        for slot in topology.slots:
            node = self.mininet.get(f"slot{slot.slot}")
            self._configure(node, MIDDLEBOX_INTERFACE, topology.middlebox_mac)
            node.cmd(f"ip link set {MIDDLEBOX_INTERFACE} mtu {SLOT_MTU}")
            self._widen(slot.switch, slot.port)
        for trunk in topology.trunks:
            for switch, port in trunk.ends():
                self._widen(switch, port)
        for each in self.switches.values():
            for interface in each.ports:  # not its loopback, which may be everybody's
                _offloads_off(each, interface.name)
        self.mininet.start()
        namespaces = {node.name: Path(f"/proc/{node.pid}/ns/net") for node in self.mininet.hosts}
        self._run("orchestrator", "orchestrator", write_orchestrator_config(self.spec))
        self._run("agent", "orchestrator.vmm", write_agent_config(self.spec, namespaces))
        self._wait_ready()

    def _configure(self, node: Node, interface: str, mac: str) -> None:
        """Give the interface the lab's own name (Mininet wants names unique while it builds) and MAC, no offloads."""
        made = f"{node.name}-{interface}"
        for command in (
            f"ip link set {made} down",
            f"ip link set {made} name {interface} address {mac}",
            "ip link set lo up",
            f"ip link set {interface} up",
        ):
            node.cmd(command)
        _offloads_off(node, interface)

    def _widen(self, switch: str, port: int) -> None:
        """Relayed packets, and those on trunks, are longer than they were."""
        node = self.switches[switch]
        node.cmd(f"ip link set {node.intfs[port].name} mtu {SLOT_MTU}")

    def _address(self, node: Node, addresses: tuple[str, ...], gateways: tuple[str, ...]) -> None:
        for address, gateway in zip(addresses, gateways, strict=True):
            family = f"-{ipaddress.ip_interface(address).version}"
            nodad = "nodad" if family == "-6" else ""
            node.cmd(f"ip {family} address add {address} dev {HOST_INTERFACE} {nodad}")
            node.cmd(f"ip {family} route add default via {gateway}")

    def _run(self, name: str, module: str, config: Path) -> None:
        with (self.spec.root / f"{name}.log").open("wb") as log:
            argv = [sys.executable, "-m", module, "--config", str(config)]
            self._processes.append(
                next(iter(self.switches.values())).popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while not self._has_replica():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.spec.root.glob("*.log"))
                raise SplitmergeError(f"no replica works within {READY_WITHIN:g} s\n{logs}")
            time.sleep(0.1)

    def _has_replica(self) -> bool:
        if not self.spec.api_socket.exists():
            return False
        try:
            with OrchestratorClient(self.spec.api_socket, timeout=2.0) as client:
                return any(each["state"] == "live" for each in client.get("/replicas"))
        except PeerError:  # it is about to listen
            return False

    def check(self) -> bool:
        """Ping, and HTTP over the kernel's own TCP, through the middlebox."""
        client, server = self.mininet.get("client"), self.mininet.get("server")
        address = self.spec.topology.hosts[1].addresses[0].split("/")[0]
        web = server.popen([sys.executable, "-m", "traffic.http_server", "--bind", address, "--port", "80"])
        try:
            fetch = f"import urllib.request as r; print(r.urlopen('http://{address}/?q=1', timeout=5).status)"
            deadline = time.monotonic() + READY_WITHIN
            while (answer := client.cmd(f'{sys.executable} -c "{fetch}" 2>&1 | tail -n 1').strip()) != "200":
                if time.monotonic() > deadline:
                    sys.stdout.write(f"HTTP through the middlebox does not work: {answer}\n")
                    return False
            sys.stdout.write(f"HTTP through the middlebox: {answer}\n")
            return True
        finally:
            web.terminate()
            web.wait(STOP_WITHIN)

    def stop(self) -> None:
        """End everything; again is harmless."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(2 * STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self.mininet.stop()


def _offloads_off(node: Node, interface: str) -> None:
    """Frames must carry whole checksums and be no longer than the MTU (see `topo.links`)."""
    program = f"from topo.links import offloads_off; offloads_off('{interface}')"
    node.cmd(f'{sys.executable} -c "{program}"')


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m topo.mininet.one_switch", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--target", choices=("embedded", "bmv2"), default="embedded", help="which switch node")
    parser.add_argument("--slots", type=int, default=4, help="room for so many replicas")
    parser.add_argument(
        "--check", action="store_true", help="HTTP through the middlebox, then end; status 0 if it works"
    )
    options = parser.parse_args()
    try:
        return run(one_switch(options.slots), options.target, check=options.check)
    except (SplitmergeError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def run(topology: Topology, target: Literal["embedded", "bmv2"], *, check: bool) -> int:
    """Bring the network up, then check it or open Mininet's CLI; the exit status."""
    setLogLevel("warning")
    with tempfile.TemporaryDirectory(prefix="splitmerge-") as directory, ExitStack() as stack:
        config = {"alerts": str(Path(directory) / "alerts.jsonl")}
        spec = LabSpec(
            name="mn",
            directory=directory,
            topology=topology,
            target=target,
            punt="packet-in",  # the switch's own links are Mininet's: none of them leads to the controller
            middlebox_config=config,
            grpc_ports=() if len(topology.switches) == 1 else free_ports(len(topology.switches)),
        )
        net = Net(spec)
        stack.callback(net.stop)
        net.start()
        if check:
            return 0 if net.check() else 1
        CLI(net.mininet)
        return 0


if __name__ == "__main__":
    sys.exit(main())
