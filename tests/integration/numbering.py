"""A middlebox for the tests: gives every packet a number that no other one has, whichever replica it comes to."""

from __future__ import annotations

from pathlib import Path

import msgspec

from guestlib import SYNCH, FlowMissing, Guest, Packet
from guestlib.coherence.history import Outcome, Recorder

NUMBER = "numbering.number"
"""Key of the object without a combiner."""


class Number(msgspec.Struct):
    """Coherent: the newest number."""

    number: int = 0


class Last(msgspec.Struct):
    """Partitioned: the newest number of a flow."""

    number: int = 0


class Numbering:
    """Forwards; numbers are drawn inside the flow's transaction, so that moves meet replicas that wait for the lock."""

    def setup(self, guest: Guest) -> None:
        guest.register_state(Number, Last)
        guest.create_shared(NUMBER, Number())
        self._recorder: Recorder | None = None

    def on_packet(self, guest: Guest, packet: Packet) -> None:
        if packet.key is not None:
            self._draw(guest, packet)
        guest.send(packet.frame)

    def _draw(self, guest: Guest, packet: Packet) -> None:
        assert packet.key is not None
        if self._recorder is None:
            path = Path(guest.config["directory"]) / f"history-{guest.replica}"
            self._recorder = Recorder(path, str(guest.replica))
        try:
            last = guest.get_flow(packet.key)
        except FlowMissing:
            guest.create_flow(packet.key, Last())
            last = guest.get_flow(packet.key)
        call = self._recorder.begin(NUMBER)
        with guest.shared(NUMBER, SYNCH) as newest:
            call.read(newest.number)
            newest.number += 1
            call.write(newest.number)
        call.end(Outcome.WRITTEN)
        if newest.number <= last.number:
            guest.figures["backwards"] = guest.figures.get("backwards", 0) + 1
        last.number = newest.number
        guest.put_flow(packet.key)
