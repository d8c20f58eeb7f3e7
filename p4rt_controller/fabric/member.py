"""One of several switches: a `Controller` whose moves are run by the `Fabric`, a step at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from p4rt_controller.controller import Controller
from p4rt_controller.errors import UnknownReplica, WriteRejected
from p4rt_controller.events import ControllerEvent
from p4rt_controller.moves import MoveBook
from p4rt_controller.options import ControllerOptions
from p4rt_controller.packets import over_trunk
from p4rt_controller.rounds import idle
from p4rt_controller.tables import OverTrunk, Table
from splitmerge.tag import TagKind


class Member(Controller):
    """See the module's text. An *edge* has hosts: only edges have flow and bucket entries."""

    def __init__(
        self, name: str, options: ControllerOptions, events: Callable[[ControllerEvent], None], book: MoveBook
    ) -> None:
        super().__init__(options, events, book)
        self.name = name
        self.number = options.number
        self.edge = bool(options.host_ports)

    # -- replicas ------------------------------------------------------------------------------------------

    async def reach(self, replica: int, port: int) -> None:
        """The replica is behind another switch, which this trunk port leads to. Idempotent."""
        self._desired.put(Table.REPLICA, replica, OverTrunk(port))
        await self._sync([(Table.REPLICA, replica)])

    # -- parts of a move -----------------------------------------------------------------------------------

    async def follow(self, origin: Member, epoch: int, replica: int, busy: Callable[[], bool] = idle) -> int:
        """Return when a replica behind this switch has processed all that ``origin`` steered to it before; rounds.

        ``busy``: as `Controller.drain`'s.
        :raises Timeout: after ``marker_deadline``. :raises UnknownReplica: if it is not behind this switch.
        """
        port = self._port(replica)
        await origin.wait_ready()
        await self.wait_ready()
        via = None if origin is self else origin._sender(replica, TagKind.MARKER, epoch)
        return await self._traffic.markers.round_trip(TagKind.MARKER, epoch, replica, port, via, busy)

    async def fence(self, origin: Member, epoch: int) -> int:
        """Return when all that ``origin`` sent towards this switch before the call has reached it; rounds.

        :raises Timeout: after ``marker_deadline``.
        """
        await origin.wait_ready()
        await self.wait_ready()
        via = origin._sender(self.number, TagKind.FENCE, epoch)
        return await self._traffic.markers.round_trip(TagKind.FENCE, epoch, 0, 0, via)

    def _sender(self, destination: int, kind: TagKind, epoch: int) -> Callable[[int], None]:
        """Sends a frame of this kind over the trunks to a replica or switch, the way that data goes."""
        way = self._desired.get(Table.REPLICA, destination)
        if not isinstance(way, OverTrunk):
            raise UnknownReplica(destination)

        def send(sequence: int) -> None:
            self._traffic.send(way.port, TagKind.PLAIN, 0, 0, over_trunk(destination, kind, epoch, sequence))

        return send


async def together(works: Iterable[Awaitable[Any]]) -> list[Any]:
    """All results. Every one runs to its end, so that no write is cut off; then the first error, if any, is raised.

    `WriteRejected` only if there is no other, with all refusals: it says that the rest was done.
    """
    results = await asyncio.gather(*works, return_exceptions=True)
    errors = [result for result in results if isinstance(result, BaseException)]
    if not errors:
        return results
    if (other := next((error for error in errors if not isinstance(error, WriteRejected)), None)) is not None:
        raise other
    raise WriteRejected([each for error in errors if isinstance(error, WriteRejected) for each in error.refusals])
