"""What the searches over links that do what they like share: messages on their way, and the rules that deliver them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from splitmerge.messages import Message


class LossyWorld(ABC):
    """Replicas and a service. ``moment`` counts what happens, ``now`` is everybody's clock."""

    def __init__(self) -> None:
        self.flying: list[tuple[int, Message, bool]] = []
        """Replica, message, and whether it goes to the replica."""
        self.now = 0.0
        self.moment = 0

    @abstractmethod
    def deliver(self, index: int, *, keep: bool = False) -> None:
        """One of those on their way arrives. ``keep``: and will once more."""

    @abstractmethod
    def judge(self) -> None:
        """Everybody comes to an end, and what was seen must be right."""

    def deliver_all(self) -> None:
        while self.flying:
            self.deliver(0)

    def _tick(self) -> float:
        self.moment += 1
        return float(self.moment)


class OverLossyLinks(RuleBasedStateMachine):
    """Messages arrive in any order, again, or never; in the end `LossyWorld.judge` is asked."""

    world: LossyWorld

    @precondition(lambda self: self.world.flying)
    @rule(which=st.integers(0, 99), fate=st.sampled_from(["deliver", "deliver", "deliver", "repeat", "lose"]))
    def network(self, which: int, fate: str) -> None:
        index = which % len(self.world.flying)
        if fate == "lose":
            del self.world.flying[index]
        else:
            self.world.deliver(index, keep=fate == "repeat")

    @rule()
    def network_in_order(self) -> None:
        for _ in range(len(self.world.flying)):
            self.world.deliver(0)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.judge()
