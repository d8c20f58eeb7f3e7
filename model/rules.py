"""What is searched: kinds of moves, and the rules of the protocol, each of which can be left out.

A rule that can be left out without any violation would be one that nobody needs, or a model that cannot see its
absence: `tests/model` leaves out each and demands a counterexample.
"""

from __future__ import annotations

from dataclasses import dataclass

RULES = {
    "drain": "the source is frozen only when it has met a marker behind the last packets that it was sent",
    "hold": "the owner-to-be holds packets that reach it directly until it has all earlier ones",
    "loop": "the buffer counts as complete only when a marker has come back through the CPU port",
    "freeze": "the source stops using a flow before it stages its state",
    "staged": "the decision waits until the target has confirmed the state",
    "prepare": "packets are redirected to the target only when it has confirmed that it holds them",
    "clear": "a move that is called off drains the source before the source holds",
    "thaw-first": "a move that is called off restores the network only when the source uses the flow again, and holds",
    "return": "what the target held goes back to the source when the move is called off",
    "return-drain": "the target gives its packets back only when it has met a marker behind the last of them",
    "seal": "what the target gave back, and has not arrived, is taken no more before younger packets are delivered",
    "journal": "a step is on disk before it is taken",
    "flush": "a new orchestrator drains the owner before the owner holds again",
    "suspend-again": "a new orchestrator suspends the scope before the switch is filled or anything goes on",
    "fresh": "a new orchestrator relays under a fresh epoch",
    "numbers": "a replica accepts only the relayed packet with the number that it expects",
    "keep-buffer": "packets that a move of a dead replica leaves in the buffer wait for its successor",
    "keep-held": "packets that the target holds are its own when the source dies",
    "empty-hold": "a hold in which nothing waits yet does not run out",
    "no-expiry": "packets held before the decision are never given to the middlebox",
    "fence": "a replica ignores requests of an epoch that has ended there",
    "wait": "packets that meet a frozen flow wait at the source",
    "forward": "packets that wait at the source go to the target after the decision",
    "drain-late": "the source drops its copy only when it has met a marker behind the last late packet",
}
"""Rule → what it says. A configuration uses those that its kind of move has."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One kind of move to be searched."""

    buffer: str
    """``cpu`` or ``replica``; ``none`` where the guarantee needs no buffer."""
    guarantee: str
    rules: frozenset[str]
    """Rules that a move of this kind has."""

    @property
    def name(self) -> str:
        """As the command line names it."""
        return f"{self.buffer}/{self.guarantee}"

    @property
    def ordered(self) -> bool:
        """Whether packets must be processed in the order sent."""
        return self.guarantee == "order-preserving"


def _kind(buffer: str, guarantee: str, rules: str) -> Configuration:
    return Configuration(buffer, guarantee, frozenset(rules.split()))


CONFIGURATIONS = {
    each.name: each
    for each in (
        _kind("cpu", "order-preserving",
              "drain hold empty-hold loop freeze staged clear journal flush fresh numbers keep-buffer suspend-again"),
        _kind("cpu", "loss-free", "drain loop freeze staged journal numbers keep-buffer"),
        _kind("replica", "order-preserving",
              "drain hold empty-hold loop freeze staged prepare clear thaw-first return return-drain seal journal "
              "flush fresh numbers keep-buffer keep-held no-expiry fence suspend-again"),
        _kind("none", "no-buffer", "freeze staged wait forward drain-late journal"),
        _kind("none", "none", "freeze staged drain-late journal"),
    )
}  # fmt: skip
"""Name → configuration. Loss-free with the replica's buffer is the order-preserving one."""
