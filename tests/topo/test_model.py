"""Topologies as data: what is accepted, and what the refusal of the rest says."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from orchestrator.config import Config, check, load, parse
from orchestrator.migration import Options
from orchestrator.process import network_options
from orchestrator.vmm.config import AgentConfig
from p4rt_controller.fabric import FabricOptions
from splitmerge.errors import BadInput
from splitmerge.trunks import Trunk
from topo.configs import write_agent_config, write_orchestrator_config
from topo.model import Host, Slot, load_topology, one_switch
from topo.spec import LabSpec

LAB = one_switch(2)
CLIENT, SERVER = LAB.hosts


def addressed(address: str, gateway: str) -> Host:
    return replace(CLIENT, addresses=(address,), gateways=(gateway,))


def test_the_default_lab() -> None:
    assert [(host.name, host.port) for host in LAB.hosts] == [("client", 1), ("server", 2)]
    assert LAB.slots == (Slot(slot=1, port=11), Slot(slot=2, port=12))
    gateways = ("10.0.1.1", "fd00:1::1", "10.0.2.1", "fd00:2::1")
    assert LAB.middlebox_addresses() == (*gateways, *LAB.virtual)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"slots": (Slot(slot=1, port=1),)}, "used twice: 1"),
        ({"slots": ()}, "0 slots"),
        ({"slots": (Slot(slot=1, port=510),)}, "510 is not a data port"),
        ({"hosts": (CLIENT, replace(SERVER, name="client"))}, "used twice: client"),
        ({"hosts": (replace(CLIENT, name="Client 1"),)}, "not a usable name"),
        ({"hosts": (replace(CLIENT, mac="x"),)}, "mac 'x'"),
        ({"hosts": (replace(CLIENT, gateways=()),)}, "2 addresses, 0 gateways"),
        ({"hosts": (replace(CLIENT, gateways=("10.0.9.1", "fd00:1::1")),)}, "10.0.9.1 is outside"),
        ({"hosts": (replace(CLIENT, addresses=("10.0.1/24", "fd00:1::2/64")),)}, "10.0.1/24"),
        ({"hosts": (CLIENT, replace(SERVER, mac=CLIENT.mac))}, "MAC addresses: used twice"),
        ({"hosts": (replace(CLIENT, name="slot1"),)}, "the lab's own"),
        ({"hosts": (replace(CLIENT, name="switch"),)}, "the lab's own"),
        ({"hosts": (replace(CLIENT, name="agent"),)}, "the lab's own"),
        ({"hosts": (replace(CLIENT, name="punt"),)}, "the lab's own"),
        ({"hosts": (replace(CLIENT, name="localhost"),)}, "host 'localhost': every command means itself"),
        ({"slots": (Slot(slot=-2, port=11),)}, "number slots from 1"),
        ({"cpu_port": 11}, "cpu_port: 11"),
        ({"cpu_port": 99999}, "cpu_port: 99999"),
        ({"punt_port": 11}, "punt_port: 11"),
        ({"punt_port": 510}, "punt_port: 510"),
        ({"punt_port": 500, "cpu_port": 500}, "punt_port: 500"),
        ({"hosts": (replace(CLIENT, addresses=("10.0.1.2", "fd00:1::2/64")),)}, "no prefix length"),
        ({"middlebox_mac": "zz"}, "middlebox_mac"),
        ({"virtual": ("10.0.9.9",)}, "in no host's subnet"),
        ({"virtual": ("10.0.1.1",)}, "a gateway's"),
        ({"virtual": ("ten",)}, "virtual address 'ten'"),
        ({"virtual": ("10.0.1.100", "10.0.1.100")}, "virtual address '10.0.1.100': .* given twice"),
        ({"virtual": ("fd00:1::100", "fd00:1:0::100")}, "virtual address 'fd00:1:0::100': .* given twice"),
        ({"virtual": ("10.0.1.255",)}, "broadcast address of 10.0.1.0/24"),
        ({"virtual": ("224.0.0.1",)}, "224.0.0.1 is a multicast address"),
        ({"hosts": (replace(CLIENT, mac="01:00:5e:00:00:01"),)}, "host 'client': mac 01:00:5e:00:00:01 is a group's"),
        ({"hosts": (replace(CLIENT, mac="00:00:00:00:00:00"),)}, "host 'client': mac 00:00:00:00:00:00 is nobody's"),
        ({"middlebox_mac": "ff:ff:ff:ff:ff:ff"}, "middlebox_mac: mac .* is a group's"),
        ({"hosts": (addressed("10.0.1.1/24", "10.0.1.1"), SERVER)}, "gateway 10.0.1.1 is its own address"),
        ({"hosts": (addressed("10.0.1.0/24", "10.0.1.1"), SERVER)}, "10.0.1.0 is the subnet 10.0.1.0/24 itself"),
        ({"hosts": (addressed("10.0.1.255/24", "10.0.1.1"), SERVER)}, "broadcast address of 10.0.1.0/24"),
        ({"hosts": (addressed("fd00:1::/64", "fd00:1::1"), SERVER)}, "the subnet fd00:1::/64 itself"),
        ({"hosts": (addressed("224.0.0.5/24", "224.0.0.1"), SERVER)}, "224.0.0.5 is a multicast address"),
        ({"hosts": (addressed("ff02::5/64", "ff02::1"), SERVER)}, "ff02::5 is a multicast address"),
        ({"hosts": (addressed("127.0.0.2/24", "127.0.0.1"), SERVER)}, "127.0.0.2 is a loopback address"),
        ({"hosts": (addressed("10.0.1.2/0", "10.0.1.1"), SERVER)}, "host 'client': address '10.0.1.2/0' has everybody"),
        ({"hosts": (addressed("fd00::2/0", "fd00::1"), SERVER)}, "host 'client': address 'fd00::2/0' has everybody"),
        ({"hosts": (addressed("10.0.1.2/4", "10.0.1.1"), SERVER)}, "the subnet of 10.0.1.2/4 begins inside 0.0.0.0/8"),
        ({"hosts": (addressed("fe80::5/64", "fe80::1"), SERVER)}, "fe80::5 is a link-local address"),
        ({"hosts": (addressed("fe80::5%eth0/64", "fe80::1"), SERVER)}, "fe80::5%eth0/64 has a zone"),
        ({"hosts": (addressed("10.0.1.2/24", "10.0.1.0"), SERVER)}, "gateway: 10.0.1.0 is the subnet"),
        ({"hosts": (addressed("10.0.2.2/24", "10.0.2.1"), SERVER)}, "host 'server': 10.0.2.2 is host 'client''s"),
        (
            {"hosts": (replace(CLIENT, addresses=("10.0.1.2/24", "10.0.1.2/24"), gateways=("10.0.1.1", "10.0.1.1")),)},
            "host 'client': 10.0.1.2 is host 'client''s",
        ),
        ({"hosts": (addressed("10.0.2.1/24", "10.0.2.9"), SERVER)}, "host 'client': 10.0.2.1 is a gateway's"),
        ({"slots": (Slot(slot=250, port=11),)}, "slot: 250 .number slots from 1, to 249"),
        ({"slots": (Slot(slot=0, port=11),)}, "slot: 0 .number slots from 1"),
    ],
)
def test_a_bad_topology_is_refused_by_name(change: dict[str, object], part: str) -> None:
    with pytest.raises(BadInput, match=part):
        replace(LAB, **change).validate()


@pytest.mark.parametrize(("address", "gateway"), [("10.0.9.0/31", "10.0.9.1"), ("fd00:9::/127", "fd00:9::1")])
def test_both_addresses_of_a_link_of_two_are_hosts(address: str, gateway: str) -> None:
    replace(LAB, hosts=(addressed(address, gateway), SERVER), virtual=()).validate()


def test_hosts_of_one_subnet_share_their_gateway() -> None:
    other = replace(addressed("10.0.2.3/24", "10.0.2.1"), name="second", mac="02:00:00:00:02:03", port=3)
    shared = replace(LAB, hosts=(*LAB.hosts, other))
    shared.validate()
    assert shared.middlebox_addresses() == LAB.middlebox_addresses(), "once: a switch has one answer for an address"
    assert [str(each) for each in shared.gateways()][-2:] == ["10.0.2.1/24", "fd00:2::1/64"]


def test_a_gateway_is_one_address_however_it_is_written_and_has_the_widest_subnet() -> None:
    one = addressed("fd00:1::2/64", "fd00:1::1")
    other = replace(addressed("fd00:1::3/48", "fd00:1:0::1"), name="second", mac="02:00:00:00:02:03", port=3)
    topology = replace(LAB, hosts=(one, other), virtual=())
    topology.validate()
    assert [str(each) for each in topology.gateways()] == ["fd00:1::1/48"]


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("10.0.1.100", None),
        ("fd00:2::100", None),
        ("192.0.2.1", None),  # in nobody's subnet: it goes to the gateway
        ("10.0.1.101", "10.0.1.101 is not virtual .* 10.0.1.100, 10.0.2.100"),
        ("fd00:1::101", "fd00:1::101 is not virtual .* fd00:1::100, fd00:2::100"),
        ("10.0.2.2", "10.0.2.2 is not virtual"),
        ("10.0.2.1", "10.0.2.1 is not virtual"),  # the replicas' kernels would answer too
    ],
)
def test_where_a_middlebox_answers_is_compared_with_the_topology(address: str, problem: str | None) -> None:
    answers = [ipaddress.ip_address(address).packed]
    if problem is None:
        LAB.check_answers("x:X", answers)
        return
    with pytest.raises(BadInput, match=f"--middlebox x:X: {problem}"):
        LAB.check_answers("x:X", answers)


RING = load_topology(Path("three-switches"))


def test_the_three_switches_that_come_along() -> None:
    assert RING.switches == ("s1", "s2", "s3") and len(RING.trunks) == 3
    assert [(host.name, host.switch) for host in RING.hosts] == [("client", "s1"), ("server", "s3")]
    assert {slot.switch for slot in RING.slots} == set(RING.switches)
    assert RING.ports_of("s1") == [1, 11, 12, 21, 23]
    assert [RING.place(slot) for slot in RING.slots[:3]] == [11, 512 + 11, 1024 + 11]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"switches": ("s1", "s2")}, "host 'server': no switch 's3' .one of: s1, s2."),
        ({"trunks": RING.trunks[:1]}, "switch 's3': no trunk leads from it to 's1'"),
        ({"trunks": (*RING.trunks, Trunk("s1", 30, "s9", 30))}, "no switch 's9'"),
        ({"trunks": (*RING.trunks, Trunk("s1", 11, "s2", 30))}, "ports of s1: used twice: 11"),
        ({"trunks": (*RING.trunks, Trunk("s1", 21, "s2", 30))}, "port 21 of s1 has a trunk already"),
        ({"slots": (Slot(slot=1, port=11, switch="s4"),)}, "slot 1: no switch 's4'"),
        ({"switches": ("s1", "s2", "s3", "Core 1")}, "switch 'Core 1': not a usable name"),
        ({"hosts": (replace(RING.hosts[0], name="s2"), RING.hosts[1])}, "the lab's own"),
        ({"hosts": (replace(RING.hosts[0], name="punt2"), RING.hosts[1])}, "the lab's own"),
    ],
)
def test_switches_and_trunks_that_make_no_network_are_refused_by_name(change: dict[str, object], part: str) -> None:
    with pytest.raises(BadInput, match=part):
        replace(RING, **change).validate()


def test_a_lab_of_several_switches_is_told_to_the_orchestrator(tmp_path: Path) -> None:
    path = write_orchestrator_config(LabSpec(name="x", directory=str(tmp_path), topology=RING))
    config = check(load(path, Config))
    options = network_options(config)
    assert isinstance(options, FabricOptions)
    assert config.slots == {slot.slot: RING.place(slot) for slot in RING.slots}
    assert config.room == 1024, "a third: what comes over a trunk is from two"
    planned = options.planned()["s1"]
    assert planned.trunk_ports == (21, 23) and planned.host_ports == (1,)
    assert planned.beyond == ((0xF001, 21), (0xF002, 23))
    assert {str(route.network): route.port for route in planned.routes} == {
        "10.0.1.2/32": 1, "fd00:1::2/128": 1, "10.0.2.2/32": 23, "fd00:2::2/128": 23,
    }  # fmt: skip


def test_a_lab_may_have_many_switches(tmp_path: Path) -> None:
    names = tuple(f"s{number}" for number in range(1, 33))
    star = tuple(Trunk("s1", 100 + at, name, 100) for at, name in enumerate(names[1:]))
    topology = replace(RING, switches=names, trunks=star)
    topology.validate()
    path = write_orchestrator_config(LabSpec(name="x", directory=str(tmp_path), topology=topology))
    assert check(load(path, Config)).room == 128


def test_topologies_load_from_json(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    path.write_bytes(msgspec.json.encode(LAB))
    assert load_topology(path) == LAB


def test_topologies_load_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        """
        virtual = ["10.0.1.100", "fd00:1::100", "10.0.2.100", "fd00:2::100"]
        slots = [{slot = 1, port = 11}, {slot = 2, port = 12}]
        [[hosts]]
        name = "client"
        port = 1
        mac = "02:00:00:00:01:02"
        addresses = ["10.0.1.2/24", "fd00:1::2/64"]
        gateways = ["10.0.1.1", "fd00:1::1"]
        [[hosts]]
        name = "server"
        port = 2
        mac = "02:00:00:00:02:02"
        addresses = ["10.0.2.2/24", "fd00:2::2/64"]
        gateways = ["10.0.2.1", "fd00:2::1"]
        """
    )
    assert load_topology(path) == LAB


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "lab.json"),
        (" \n", "lab.json: is empty"),
        ('{"hosts": [], "slots": [], "colour": 1}', "colour"),
        (msgspec.json.encode(LAB).decode()[:-1] + ', "cpu_port": 510}', "key 'cpu_port' twice in one object"),
        ('{"hosts": [{"name": "a"}], "slots": []}', r"\$.hosts\[0\]"),
    ],
)
def test_a_bad_file_is_refused_by_place(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "lab.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=part):
        load_topology(path)
    with pytest.raises(BadInput, match="No such file"):
        load_topology(tmp_path / "none.json")


SENSELESS = [
    ({"trunks": (*RING.trunks, Trunk("s1", 30, "s9", 30))}, "trunk s1:30 – s9:30"),
    ({"trunks": RING.trunks[:1]}, "switch 's3'"),
    ({"switches": ("s1", "s1"), "trunks": (), "hosts": (), "slots": ()}, "switches"),
    ({"hosts": (replace(RING.hosts[0], name="s2"), RING.hosts[1])}, "host 's2'"),
    ({"cpu_port": 0}, "cpu_port"),
]


@pytest.mark.parametrize(("change", "place"), SENSELESS, ids=[each[1] for each in SENSELESS])
def test_whatever_is_wrong_with_a_topology_of_a_file_the_file_is_named(
    tmp_path: Path, change: dict[str, object], place: str
) -> None:
    path = tmp_path / "lab.json"
    path.write_bytes(msgspec.json.encode(replace(RING, **change)))
    with pytest.raises(BadInput) as refused:
        load_topology(path)
    assert refused.value.where == f"{path}: {place}" and refused.value.remedy


def test_a_lab_whose_sockets_would_not_fit_is_refused(tmp_path: Path) -> None:
    LabSpec(name="x", directory="/run/x").validate()
    with pytest.raises(BadInput, match="too long for Unix sockets"):
        LabSpec(name="x", directory="/run/" + "x" * 100).validate()


def test_what_replicas_are_told_is_in_their_agents_configuration_and_checked(tmp_path: Path) -> None:
    slots = one_switch(1)
    spec = LabSpec(name="x", directory=str(tmp_path), topology=slots, replica={"hold_packets": 500, "batch": 8})
    spec.validate()
    path = write_agent_config(spec, {"slot1": Path("/proc/1/fd/1")})
    config = parse(path.read_bytes(), AgentConfig, str(path), toml=False).replica_config(1, 1)
    assert (config.hold_packets, config.hold_bytes, config.batch) == (500, 128 * 1024 * 1024, 8)
    for wrong, said in (({"hold_packets": 1}, "2 at least"), ({"hold": 1}, "name fields of guestlib.ReplicaConfig")):
        with pytest.raises(BadInput, match=said):
            LabSpec(name="x", directory="/run/x", replica=wrong).validate()


@pytest.mark.parametrize(
    ("elasticity", "message"),
    [
        ({"settings": {"split_above": 60, "merge_below": 61}}, "merge below 61"),
        ({"settings": {"split": 60}}, "no setting 'split'"),
        ({"colour": 1}, "colour"),
        ({"max_replicas": 10**22}, "max_replicas <= 65535"),
        ({"scale_in": "drain"}, "assignment least-loaded"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(elasticity: dict[str, Any], message: str) -> None:
    LabSpec(name="x", directory="/run/x", policy="flow-count").validate()
    with pytest.raises(BadInput, match=message):
        LabSpec(name="x", directory="/run/x", policy="flow-count", elasticity=elasticity).validate()


def test_how_flows_move_is_told_to_the_orchestrator(tmp_path: Path) -> None:
    how = {"when_full": "drop", "references": 0.5, "deadline": 7.0, "packets": 500, "bytes": 70_000}
    spec = LabSpec(name="x", directory=str(tmp_path), guarantee="loss-free", buffer="cpu", defaults=how)
    spec.validate()
    config = check(load(write_orchestrator_config(spec), Config))
    assert config.defaults == Options(guarantee="loss-free", buffer="cpu", **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"deadline": -1}, "deadline: -1"),
        ({"when_full": "x"}, "when_full"),
        ({"colour": 1}, "colour"),
        ({"guarantee": "none", "packets": 5}, "moves: packets"),
    ],
)
def test_how_flows_move_is_refused_if_it_makes_no_sense(how: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        LabSpec(name="x", directory="/run/x", defaults=how).validate()


def test_hosts_refuse_unknown_fields() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"name": "a", "port": 1, "mac": "", "addresses": [], "gateways": [], "x": 1}', type=Host)
