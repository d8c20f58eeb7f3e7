"""The section ``elasticity`` of the configuration, and policies by name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec

from orchestrator.elasticity.damper import Damper, Limits
from orchestrator.elasticity.meter import Meter
from orchestrator.elasticity.observation import Figure, Policy
from orchestrator.elasticity.policies import (
    AverageFlows,
    Evening,
    Explicit,
    FlowCount,
    Foresight,
    Static,
    Target,
    Utilisation,
)
from orchestrator.elasticity.trial import try_policy
from splitmerge import choices
from splitmerge.errors import BadInput
from splitmerge.plugins import REMEDY, found_as, import_here, in_words, instead_of

POLICIES: dict[str, type[Policy]] = {
    "explicit": Explicit,
    "static": Static,
    "flow-count": FlowCount,
    "average-flows": AverageFlows,
    "utilisation": Utilisation,
    "target": Target,
}
"""By the name that configurations take; others are named ``package.module:Class``."""

BOUNDS: dict[str, tuple[float, float]] = {
    "interval": (0.01, 3600.0),
    "window": (0.01, 86400.0),
    "cool_down": (0.0, 86400.0),
    "start_up": (0.0, 86400.0),
}
"""Seconds, least and most: looking all the time leaves no processor for anything else."""


class ElasticityConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When replicas come and go by themselves (docs/elasticity.md)."""

    policy: str = "explicit"
    """One of `POLICIES`, or ``package.module:Class``."""
    settings: dict[str, Any] = {}
    """The policy's own: see its fields."""
    min_replicas: int = 1
    max_replicas: int = 8
    consecutive: int = 3
    """A recommendation comes through when it was made this many times in a row."""
    cool_down: float = 5.0
    """Seconds after an action in which none comes through."""
    interval: float = 1.0
    """Seconds between two looks."""
    window: float = 3.0
    """Rates are averages over so many seconds."""
    headroom: float = 0.0
    """Look ahead by so many times the time that a replica takes to start; 0: do not."""
    start_up: float = 0.0
    """Seconds that a replica is taken to need to start until one of its kind has."""
    rebalance: bool = True
    """A new replica gets its share of the flows there are; else it gets new flows only."""
    scale_in: Literal["move", "drain"] = "move"
    """A replica's flows move, then it ends; or (§5.3's baseline) it gets no new ones and ends when it has none."""
    even_above: float = 0.0
    """Even the load once the busiest replica has more than so many times the average; 0: never."""
    even_by: Figure = "flows"
    """The load that is evened."""
    even_moves: int = 64
    """Buckets, or flows, that one such round moves at most."""

    @property
    def made(self) -> Policy:
        """The policy with all that the section adds to it. :raises BadInput: naming what makes no sense."""
        policy = make_policy(self.policy, self.settings)
        if self.headroom:
            policy = Foresight(policy, self.headroom, self.interval * self.consecutive)
        if self.even_above:
            policy = Evening(policy, self.even_by, self.even_above)
        return policy

    @property
    def limits(self) -> Limits:
        """The bounds. :raises BadInput: if they make no sense."""
        return Limits(self.min_replicas, self.max_replicas, self.consecutive, self.cool_down)

    def damper(self) -> Damper:
        """A new one. :raises BadInput: if something makes no sense."""
        return Damper(self.made, self.limits)

    def meter(self) -> Meter:
        """A new one. :raises BadInput: if something makes no sense."""
        return Meter(self.window)

    def check(self, assignment: str) -> Damper:
        """Check all of it; the policy that is made for that, ready for use.

        Blocks for as long as a policy of one's own takes to be imported and made: first in a process of its own, for
        `trial.MADE_WITHIN` at most, then here.

        :raises BadInput: for what makes no sense, alone or with this assignment of new flows.
        """
        for name, (least, most) in BOUNDS.items():
            if not least <= (seconds := getattr(self, name)) <= most:
                raise BadInput(f"elasticity: {name}", f"{seconds} is out of range", f"{least:g} to {most:g} seconds")
        if ":" in self.policy:
            try_policy(self.policy, self.settings)
        damper = self.damper()
        self.meter()
        if not 0 <= self.headroom < float("inf"):
            problem = f"{self.headroom} is out of range"
            raise BadInput("elasticity: headroom", problem, "0, or start-up times to look ahead, as 1.5")
        if self.even_above and not 1 < self.even_above < float("inf"):
            raise BadInput("elasticity: even_above", f"{self.even_above} is out of range", "0, or more than 1")
        if self.even_moves < 1:
            raise BadInput("elasticity: even_moves", f"{self.even_moves} is too few", "at least 1")
        by_hash = assignment == "hash"
        if by_hash and not self.rebalance:
            problem = "a new replica would get nothing: it has no buckets"
            raise BadInput("elasticity: rebalance = false", problem, "assignment least-loaded or round-robin")
        if by_hash and self.scale_in == "drain":
            problem = "a replica goes on getting its buckets' new flows"
            raise BadInput("elasticity: scale_in = drain", problem, "assignment least-loaded or round-robin")
        return damper

    @property
    def acts(self) -> bool:
        """Whether anything can come of looking."""
        return self.policy != "explicit" or self.min_replicas > 1 or bool(self.even_above)


SECTION = tuple(name for name in ElasticityConfig.__struct_fields__ if name not in ("policy", "settings"))
"""Its keys that one value is enough for."""
_SECTION_HAS = f"the section has: {', '.join(SECTION)}"


def settings_help() -> str:
    """Every name that ``--set`` takes, in words: each policy's own, and the section's."""
    own = {name: ", ".join(_fields(kind)) for name, kind in POLICIES.items()}
    policies = "; ".join(f"{name}: {fields}" for name, fields in own.items() if fields)
    return f"a setting of the policy ({policies}) or a key of the section ({', '.join(SECTION)})"


def section(policy: str, words: Iterable[str]) -> dict[str, Any]:
    """The section that ``name=value`` words describe: names of the section's keys are these, others the policy's own.

    Values are JSON, or text. The section is not checked. :raises BadInput: for a word of another form.
    """
    found: dict[str, Any] = {"policy": policy}
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise BadInput(f"--set {word}", "not name=value", "as --set merge_below=20")
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            value = text
        if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise BadInput(f"--set {word}", "not a finite number", "as --set cool_down=5")
        if name in ("policy", "settings"):
            raise BadInput(f"--set {word}", "is no single setting", "name the policy with --policy")
        (found if name in ElasticityConfig.__struct_fields__ else settings)[name] = value
    return found | ({"settings": settings} if settings else {})


def read_section(section: Mapping[str, Any], assignment: str) -> ElasticityConfig:
    """The checked section; blocks as `ElasticityConfig.check`. :raises BadInput: naming the key and the remedy."""
    return make_section(section, assignment)[0]


def make_section(section: Mapping[str, Any], assignment: str) -> tuple[ElasticityConfig, Damper]:
    """As `read_section`, and its policy for use."""
    try:
        config = msgspec.convert(dict(section), ElasticityConfig, strict=True)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        keys = ", ".join(ElasticityConfig.__struct_fields__)
        remedy = choices.remedy(ElasticityConfig, place, f"keys: {keys}")
        raise BadInput(f"elasticity{place.rstrip('`')}", problem, remedy) from None
    return config, config.check(assignment)


def make_policy(name: str, settings: Mapping[str, Any]) -> Policy:
    """A policy of `POLICIES`, or of ``package.module:Class``.

    :raises BadInput: if there is none of this name, or it does not take these settings.
    """
    maker: Callable[..., Policy] = POLICIES.get(name) or _load(name)
    has_fields: bool = dataclasses.is_dataclass(maker)
    if has_fields:
        return _from_fields(name, maker, settings)
    where, remedy = f"elasticity: {name}", "see the class for its settings"
    try:
        inspect.signature(maker).bind(**settings)
        return maker(**settings)
    except BadInput:  # the class's own words
        raise
    except (TypeError, ValueError) as error:
        raise BadInput(where, str(error), f"{remedy}; {_SECTION_HAS}") from None
    except (Exception, SystemExit) as error:  # whatever the class's own text raises
        raise BadInput(where, f"cannot be made: {in_words(error)}", remedy) from error


def _fields(kind: Any) -> list[str]:
    """Names of the settings of a policy that is a dataclass."""
    return [each.name for each in dataclasses.fields(kind) if each.init]


def _from_fields(name: str, maker: Any, settings: Mapping[str, Any]) -> Policy:
    known = _fields(maker)
    for unknown in [key for key in settings if key not in known]:
        its = "it has: " + (", ".join(known) or "no settings")
        raise BadInput(f"elasticity: {name}", f"no setting {unknown!r}", f"{its}; {_SECTION_HAS}")
    remedy = "see the class for its settings"
    try:
        made: Policy = msgspec.convert(dict(settings), maker, strict=True)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if isinstance(cause, BadInput):  # of the class's own check
            raise cause from None
        problem, _, place = str(error).partition(" - at `$")
        where = f"elasticity: {name}{place.rstrip('`')}"
        raise BadInput(where, problem, choices.remedy(maker, place, remedy)) from None
    except (Exception, SystemExit) as error:  # of ``__post_init__``; msgspec hands on what is no ValueError
        raise BadInput(f"elasticity: {name}", f"cannot be made: {in_words(error)}", remedy) from error
    return made


def _load(name: str) -> type[Policy]:
    module_name, _, class_name = name.partition(":")
    where = f"elasticity: policy {name!r}"
    if not class_name:
        raise BadInput(where, "there is none of this name", f"{', '.join(POLICIES)}, or package.module:Class")
    try:
        module = import_here(module_name)
    except ModuleNotFoundError as error:
        raise BadInput(where, f"no module {error.name}", REMEDY) from None
    except (Exception, SystemExit) as error:  # whatever the module's own text raises
        raise BadInput(where, f"cannot be imported: {in_words(error)}", "correct the module") from error
    found = getattr(module, class_name, None)
    if found is None:
        classes = sorted(key for key, value in vars(module).items() if hasattr(value, "recommend"))
        remedy = instead_of(module) or "it has: " + (", ".join(classes) or "no policy")
        raise BadInput(where, f"no {class_name} in {found_as(module)}", remedy)
    if not isinstance(found, type) or not callable(getattr(found, "recommend", None)):
        raise BadInput(where, "is no policy", "a class with a method recommend(seen)")
    return found
