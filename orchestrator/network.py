"""What the orchestrator asks of the Split/Merge-aware SDN (§3.2); `p4rt_controller.Controller` satisfies it.

Every coroutine is idempotent and either does all of what it says or raises an error of the
`splitmerge.errors.SplitmergeError` tree; each has deadlines of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from p4rt_controller import DropCounts, PacketFigures, RestoredState, Room, SwitchState
from splitmerge.messages import Scope


class ResumedLike(Protocol):
    """What `Network.resume` reports."""

    @property
    def relayed(self) -> int:
        """Buffered packets delivered to the replica."""

    @property
    def dropped(self) -> int:
        """Packets that the buffer had no room for, or whose flows were refused."""

    @property
    def refused(self) -> tuple[bytes, ...]:
        """New flows that the switch refused entries."""

    @property
    def refusal(self) -> str:
        """Why it did."""


class Network(Protocol):
    """The tables of the switch, and the buffer of suspended packets."""

    async def register_replica(self, replica: int, port: int) -> None:
        """The replica is reached through this switch port."""

    async def unregister_replica(self, replica: int) -> None:
        """The port belongs to no replica any more."""

    async def set_buckets(self, owners: Mapping[int, int | None]) -> None:
        """Owners without a move; None: new flows of the bucket are the controller's."""

    async def reserve(self, keys: Iterable[bytes], replica: int) -> None:
        """Entries for these flows, whose packets go to the replica already: for all of them, or none gets one."""

    async def suspend(
        self, epoch: int, scope: Scope, source: int, room: Room | None = None, *, mark: bool = False
    ) -> None:
        """Buffer the scope's packets from now on. ``room``: no more of them than this; more are dropped and counted.

        ``mark``: a `drain` of the source follows, and what that waits for may be sent already.
        """

    async def redirect(self, epoch: int, scope: Scope, source: int, target: int, *, mark: bool = False) -> None:
        """Point the scope from source to target, not suspended: from the return on nothing new goes to the source.

        ``mark``: as `suspend`'s.
        """

    async def drain(self, epoch: int, replica: int, busy: Callable[[], bool] = ...) -> object:
        """Return when the replica has processed all that the switch sent it earlier: before this call, or before the
        scope was pointed away from it under this epoch, if that was told of the drain (``mark``).

        ``busy``: whether it works its packets off; while it does it is waited for, past the deadline.
        """

    async def resume(
        self,
        epoch: int,
        scope: Scope,
        target: int,
        *,
        ordered: bool = True,
        new: bool = False,
        busy: Callable[[], bool] = ...,
    ) -> ResumedLike:
        """Point the scope to the replica; return when it has accepted all that was buffered, in order, and END.

        ``ordered``: the replica holds what comes directly until END. Else delivery may begin before all is collected.
        ``new``: nobody has had these flows; those that the switch refuses entries are left out, and dropped packets of.
        ``busy``: as `drain`'s, for markers that go ahead.
        """

    async def steer(self, keys: Mapping[bytes, int], second: Iterable[bytes]) -> None:
        """Entries that lead to these replicas, without a move. ``second``: those that moves of buckets leave alone."""

    def waiting(self, keys: Iterable[bytes]) -> Collection[bytes]:
        """Those of these flows whose packets wait at the controller, while no move has them."""

    async def switch_drops(self) -> Mapping[str, DropCounts]:
        """Packets that the P4 program dropped, by reason, as each switch that is not away counts them."""

    async def flow_packets(self) -> Mapping[bytes, int]:
        """Packets that each flow's own entry has matched, as the switch counts them."""

    def packet_figures(self) -> PacketFigures:
        """What became of the packets that came to the controller."""

    async def forget(self, keys: Iterable[bytes]) -> int:
        """Delete these flows' entries; how many there were."""

    def abandon(self, epoch: int) -> int:
        """A move is over: what is still buffered waits for the next move of its flows.

        Packets that a replica may have had are thrown away: the number of those, 0 after a `resume`.
        """


class SwitchNetwork(Network, Protocol):
    """A network that can take over an earlier process's state, as `p4rt_controller.Controller` does."""

    def restore(self, state: RestoredState) -> None:
        """Before it connects."""

    def keep_for(self, awaited: Callable[[Iterable[bytes]], Collection[bytes]]) -> None:
        """Packets at the controller of flows that ``awaited`` names wait as long as it does so."""

    def switches(self) -> Mapping[str, SwitchState]:
        """Every switch by its name."""
