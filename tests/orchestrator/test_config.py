"""Configuration files: what is taken, and what a mistake is answered with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config import Config, check, load, parse
from orchestrator.process import controller_options, network_options
from orchestrator.vmm import AgentConfig
from p4rt_controller import PuntPort
from p4rt_controller.fabric import FabricOptions
from splitmerge.errors import BadInput

GOOD: dict[str, Any] = {
    "control": "unix:/run/control.sock",
    "api": "unix:/run/api.sock",
    "journal": "/run/journal.db",
    "slots": {"1": 11, "2": 12},
    "switch": {
        "address": "127.0.0.1:9559",
        "host_ports": [1],
        "routes": [
            {"network": "10.0.1.0/24", "port": 1, "src_mac": "02:00:00:00:00:fe", "dst_mac": "02:00:00:00:01:02"}
        ],
        "addresses": [{"address": "10.0.1.1", "mac": "02:00:00:00:00:fe"}],
        "tuning": {"relay_window": 8},
    },
}


def read(data: object) -> Config:
    return check(parse(json.dumps(data).encode(), Config, "file", toml=False))


def test_a_good_file() -> None:
    config = read(GOOD)
    assert config.slots == {1: 11, 2: 12} and config.journal == Path("/run/journal.db")
    assert config.switch is not None
    options = controller_options(config.switch)
    assert options.relay_window == 8 and options.routes[0].port == 1


def test_a_punt_port_is_the_controllers() -> None:
    switch = {**GOOD["switch"], "punt": {"interface": "eth9", "port": 48}}
    options = controller_options(read({**GOOD, "switch": switch}).switch)
    assert options.punt == PuntPort("eth9", 48)
    assert controller_options(read(GOOD).switch).punt is None


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "orchestrator.toml"
    path.write_text(
        'control = "unix:/c"\napi = "unix:/a"\njournal = "j"\n[slots]\n1 = 11\n[switch]\naddress = "a:1"\n'
        "[moves]\nretry = 0.5\n"
    )
    assert load(path, Config).moves.retry == 0.5


@pytest.mark.parametrize("said", [{"packets": 5}, {"bytes": 5}, {"when_full": "drop"}, {"buffer": "cpu"}])
def test_defaults_that_are_of_no_use_to_one_another_are_refused(said: dict[str, object]) -> None:
    (name,) = said
    with pytest.raises(BadInput, match=rf"defaults\.{name}: no use to moves with guarantee none"):
        read({**GOOD, "defaults": {"guarantee": "none", **said}})
    assert read({**GOOD, "defaults": said}).defaults.guarantee == "order-preserving"


@pytest.mark.parametrize("guarantee", ["none", "no-buffer"])
def test_defaults_that_are_so_anyway_are_taken(guarantee: str) -> None:
    read({**GOOD, "defaults": {"guarantee": guarantee, "buffer": "replica", "when_full": "abort", "deadline": 1}})


def one(**more: Any) -> dict[str, Any]:
    return {"address": "127.0.0.1:9559", **more}


PUNT = {"interface": "punt"}
ROUTE = GOOD["switch"]["routes"][0]
SEVERAL: dict[str, Any] = {
    **{name: value for name, value in GOOD.items() if name != "switch"},
    "slots": {"1": "a:11", "2": "b:11"},
    "switches": {"a": one(host_ports=[1], routes=[ROUTE]), "b": one(address="127.0.0.1:9560", device_id=2)},
    "trunks": [{"a": "a", "a_port": 21, "b": "b", "b_port": 22}],
}


def test_several_switches() -> None:
    config = read(SEVERAL)
    assert config.slots == {1: 11, 2: 512 + 11} and config.assignment == "hash"
    options = network_options(config)
    assert isinstance(options, FabricOptions)
    assert [(route.port, each.trunk_ports) for each in options.planned().values() for route in each.routes] == [
        (1, (21,)),
        (22, (22,)),
    ]


def test_a_replica_may_send_at_once_what_the_smallest_switch_keeps() -> None:
    assert read(GOOD).room == 512
    switches = {"a": one(host_ports=[1], routes=[ROUTE], room=3072), "b": one(device_id=2, room=1024)}
    assert read(SEVERAL | {"switches": switches}).room == 1024


@pytest.mark.parametrize("room", [127, (1 << 20) + 1])
def test_a_switch_that_keeps_less_than_lies_between_two_loops_is_refused(room: int) -> None:
    with pytest.raises(BadInput, match="switch 'switch': room: "):
        read({**GOOD, "switch": one(room=room)})


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"switch": GOOD["switch"]}, "switch: not exactly one of switch, switches"),
        ({"switches": {}, "slots": {"1": 11}}, "switch: not exactly one of switch, switches"),
        ({"slots": {"1": "c:11"}}, "slots.1: 'c:11' names no switch"),
        ({"slots": {"1": "a:x"}}, "slots.1: 'x' is no port"),
        ({"slots": {"1": f"a:{'9' * 5000}"}}, "is no port"),
        ({"slots": {"9" * 5000: 11}}, "got `str` - at `key` in `$.slots`"),
        ({"slots": {"1": 5000}}, "slots.1: place 5000 is at no switch"),
        ({"trunks": []}, "switch 'b': no trunk leads from it to 'a'"),
        ({"trunks": [{"a": "a", "a_port": 1, "b": "b", "b_port": 1}]}, "switch 'a': port 1 is a host's and a trunk's"),
        ({"trunks": [{"a": "a", "a_port": 21, "b": "b"}]}, "trunks[0]: Object missing required field `b_port`"),
        ({"switches": {"a": one(), "b": one(device_id=2)}}, "switches: none has a host port"),
        ({"switches": {"a": one(host_ports=[1]), "b": one()}}, "switches: two have one address and device id"),
        (
            {"switches": {"a": one(host_ports=[1], punt=PUNT), "b": one(device_id=2, punt=PUNT)}},
            "switches: two have one punt interface",
        ),
        (
            {"switches": {"a": one(host_ports=[1]), "b": one(device_id=2, assignment="round-robin")}},
            "switch 'b': assignment differs",
        ),
        (
            {"switches": {"a": one(host_ports=[1], routes=[ROUTE | {"port": 9}]), "b": one(device_id=2)}},
            "switch 'a', route 10.0.1.0/24: port 9 is no host's",
        ),
        (
            {
                "switches": {
                    "a": one(host_ports=[1], routes=[ROUTE]),
                    "b": one(device_id=2, host_ports=[1], routes=[ROUTE]),
                }
            },
            "switch 'b', route 10.0.1.0/24: is at switch 'a' too",
        ),
    ],
)
def test_several_switches_that_make_no_network_are_refused(change: dict[str, Any], part: str) -> None:
    with pytest.raises(BadInput) as refused:
        network_options(read(SEVERAL | change))
    assert part in str(refused.value)


def test_trunks_of_one_switch_are_refused() -> None:
    with pytest.raises(BadInput, match="trunks: there is one switch"):
        read(GOOD | {"trunks": SEVERAL["trunks"]})


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("unknown key", {"colour": 1}, "colour"),
    ("unknown key inside", {"switch": {"address": "a:1", "adress": 1}}, "adress"),
    ("wrong type", {"switch": {"address": 5}}, "switch.address"),
    ("wrong choice", {"switch": {"address": "a", "assignment": "luck"}}, "switch.assignment"),
    ("no slots", {"slots": {}}, "slots"),
    ("slot no number", {"slots": {"a": 1}}, "slots"),
    ("two slots, one port", {"slots": {"1": 11, "2": 11}}, "slots"),
    ("api elsewhere", {"api": "tcp:0.0.0.0:80"}, "api"),
    ("thresholds", {"elasticity": {"policy": "flow-count", "settings": {"merge_below": 70}}}, "elasticity"),
    ("no lock service", {"locks": {"service": "zookeeper"}}, "locks.service"),
    ("no lease", {"locks": {"lease": 0}}, "locks.lease"),
    ("no time at all", {"deadlines": {"hello": 0}}, "deadlines.hello"),
]


@pytest.mark.parametrize(("change", "place"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_mistakes_name_their_place(change: dict[str, Any], place: str) -> None:
    with pytest.raises(BadInput, match=place.replace(".", r"\.")) as caught:
        read(GOOD | change)
    assert caught.value.remedy


def test_unknown_tuning_is_refused() -> None:
    with pytest.raises(BadInput, match=r"switch\.tuning\.speed"):
        controller_options(read(GOOD | {"switch": {"address": "a:1", "tuning": {"speed": 9}}}).switch)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        load(tmp_path / "none.toml", Config)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_parse_or_are_refused(raw: bytes, toml: bool) -> None:
    with pytest.raises(BadInput):
        parse(raw, Config, "file", toml=toml)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "moves", "elasticity", "deadlines", "x"]), JSON))
def test_any_change_parses_or_is_refused(change: dict[str, Any]) -> None:
    try:
        read(GOOD | change)
    except BadInput as error:
        assert error.where


def test_the_agent_tells_its_replicas_what_they_need() -> None:
    raw = {"control": "unix:/c", "middlebox": "a:B", "directory": "/run/x", "slots": {"1": {"interface": "mb0"}}}
    config = parse(json.dumps(raw).encode(), AgentConfig, "file", toml=False)
    replica = config.replica_config(7, 1)
    assert (replica.replica, replica.interface, replica.peer) == (7, "mb0", "unix:/run/x/replica-7.sock")
    with pytest.raises(BadInput, match="slot"):
        config.replica_config(7, 2)
    odd = parse(json.dumps(raw | {"replica": {"colour": 1}}).encode(), AgentConfig, "file", toml=False)
    with pytest.raises(BadInput, match="colour"):
        odd.replica_config(7, 1)
