"""What a move asks of replicas in one step: one request after the other, each repeated until it is answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from orchestrator.migration.asks import Ask
from orchestrator.migration.events import Instruction, Send
from orchestrator.migration.plan import Times
from splitmerge import messages as m


class Requests:
    """Times are seconds of the clock that the move is given."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._asks: deque[Ask] = deque()
        self._pause = 0.0
        self._again: float | None = None
        self._deadline: float | None = None

    @property
    def current(self) -> Ask | None:
        """The request that waits for its answer."""
        return self._asks[0] if self._asks else None

    @property
    def due(self) -> float | None:
        """When there is something to do if no answer comes; None: never."""
        dues = (self._again, self._deadline)
        return min((at for at in dues if at is not None), default=None)

    def begin(
        self, asks: Iterable[Ask], now: float, within: float | None = None, *, made: bool = False
    ) -> list[Instruction]:
        """Make these requests. ``within``: seconds for all of them; None: however long it takes.

        ``made``: the first has been made a moment ago: it is repeated when that is due.
        """
        self._asks.extend(asks)
        self._deadline = None if within is None else now + within
        first = self.go_on(now)
        return [] if made else first

    def clear(self) -> None:
        """Nothing is wanted any more."""
        self._asks.clear()
        self._again = self._deadline = None

    def of(self, replica: int) -> Ask | None:
        """The request that waits for its answer, if this replica was asked."""
        ask = self.current
        return None if ask is None or ask.replica != replica else ask

    def answered(self) -> None:
        """The current one is: what comes now is the next one's turn."""
        self._asks.popleft()

    def go_on(self, now: float) -> list[Instruction]:
        """Make the next request; there is one."""
        self._pause = self._times.retry
        return self._send(now)

    def instead(self, asks: Iterable[Ask], now: float) -> list[Instruction]:
        """What is asked is put otherwise from now on."""
        self._asks = deque(asks)
        return self.repeat(now)

    def overdue(self, now: float) -> bool:
        """Whether the time for all of them is over."""
        return self._deadline is not None and now >= self._deadline

    def tick(self, now: float) -> list[Instruction]:
        """Repeat the current one if that is due."""
        return [] if self._again is None or now < self._again else self.repeat(now)

    def repeat(self, now: float) -> list[Instruction]:
        """Make the current request again, and the next time after twice as long."""
        self._pause = min(self._pause * 2, self._times.retry_most)
        return self._send(now)

    def _send(self, now: float) -> list[Instruction]:
        self._again = now + self._pause
        return [Send(self._asks[0].replica, self._asks[0].message)]


def answers(message: m.Message, ask: Ask) -> bool:
    """Whether this is what the request waits for."""
    return isinstance(message, ask.answer) and getattr(message, "epoch", None) == ask.epoch


def refuses(message: m.Refused, ask: Ask) -> bool:
    """Whether this refuses the request."""
    return message.request == type(ask.message).__name__ and message.epoch == ask.epoch
