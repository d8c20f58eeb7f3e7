"""A middlebox's own configuration: checked by a Struct, or read as a dict whose unread keys are named."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import pytest

from guestlib import Guest, Packet, ReplicaConfig, configure, prepare
from splitmerge.errors import BadInput

GIVEN = {"idle": 5, "most": 2}


class Limits(msgspec.Struct, frozen=True, rename="kebab"):
    most: Annotated[int, msgspec.Meta(ge=1)] = 100
    per_second: float = 0.0

    def __post_init__(self) -> None:
        if self.per_second > self.most:
            raise ValueError("per-second is above most")


class Nothing(msgspec.Struct):
    """A middlebox that there is nothing to set of."""


def test_a_struct_takes_what_is_given_and_has_defaults_for_the_rest() -> None:
    guest = Guest(config={"per-second": 3})
    assert guest.configure(Limits) == Limits(most=100, per_second=3.0)
    assert guest.unread() == ()


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (Limits, {"mots": 1, "a": 2}, "w: no such field: a, mots (fields: most, per-second)"),
        (Limits, {"per_second": 1}, "w: no such field: per_second (fields: most, per-second)"),
        (Limits, {"most": 0}, "w: Expected `int` >= 1 - at `$.most` (fields: most, per-second)"),
        (Limits, {"most": 1, "per-second": 2}, "w: per-second is above most (fields: most, per-second)"),
        (Nothing, {"most": 1}, "w: no such field: most (it has no fields)"),
    ],
)
def test_what_a_struct_does_not_take_is_refused_by_name(
    kind: type[msgspec.Struct], given: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        configure(kind, given, "w")
    assert str(caught.value) == said


def walk(config: Mapping[str, Any]) -> object:
    return [key for key in config if key]


@pytest.mark.parametrize(
    ("read", "unread"),
    [
        (lambda config: config["idle"], ("most",)),
        (lambda config: config.get("idle", 30), ("most",)),
        (lambda config: "idle" in config, ("most",)),
        (lambda config: config.setdefault("idle", 30), ("most",)),
        (lambda config: config.pop("idle", 30), ("most",)),
        (lambda config: config.get("idel", 30), ("idle", "most")),
        (lambda config: config["idle"] and config["most"], ()),
        (lambda config: config["idle"] and dict(config), ()),
        (lambda config: config["idle"] and config | {}, ()),
        (lambda config: config["idle"] and config.copy(), ()),
        (lambda config: config["idle"] and {**config}, ()),
        (lambda config: config["idle"] and walk(config), ()),
        (lambda config: config["idle"] and list(config.values()), ()),
        (lambda config: config["idle"] and json.dumps(config), ()),
        (lambda config: msgspec.convert(config, dict[str, int]), ()),
        (msgspec.json.encode, ()),
    ],
)
def test_keys_of_the_dict_that_nobody_asks_for_are_known(
    read: Callable[[Any], object], unread: tuple[str, ...]
) -> None:
    guest = Guest(config=GIVEN)
    read(guest.config)
    assert guest.unread() == unread


def test_of_a_configuration_that_is_never_looked_at_every_key_is_unread() -> None:
    assert Guest(config=GIVEN).unread() == ("idle", "most")
    assert Guest().unread() == ()


def test_the_dict_is_what_was_given() -> None:
    config = Guest(config=GIVEN).config
    assert isinstance(config, dict) and config == GIVEN and json.loads(json.dumps(config)) == GIVEN
    with pytest.raises(KeyError):
        config["none"]


class Deaf:
    """Asks for one key, if it is told which."""

    def __init__(self, key: str = "") -> None:
        self._key = key

    def setup(self, guest: Guest) -> None:
        if self._key:
            guest.config.get(self._key)

    def on_packet(self, guest: Guest, packet: Packet) -> None: ...


@pytest.mark.parametrize(("key", "named"), [("", "idle, most"), ("idle", "most")])
def test_the_agents_log_names_what_the_setup_has_not_read(
    key: str, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "guestlib"):
        prepare(Deaf(key), ReplicaConfig(1, "mb0", "unix:/c", "unix:/p", settings=GIVEN))
    where = f"middlebox {__name__}:Deaf"
    assert caplog.messages == [f"{where}: its setup has not read, of its configuration: {named}"]


class Figuring(Deaf):
    def setup(self, guest: Guest) -> None:
        guest.figures["seen"] = "none"  # type: ignore[assignment]


def test_a_figure_of_the_setup_that_cannot_be_told_is_refused_before_the_snapshot() -> None:
    with pytest.raises(
        BadInput, match=f"middlebox {__name__}:Figuring: a figure that its setup makes: 'seen' is a str"
    ):
        prepare(Figuring())
