"""Asks a policy that is anybody's class: in a thread, for so long and no longer, so that nothing else waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

from orchestrator.elasticity import Recommendation
from splitmerge.errors import BadInput

BOUND = 1.0
"""Seconds that a policy may take."""


class Asker:
    """One question at a time: while the last one is not answered, no other is asked.

    A thread of its own, not an executor's: the process must be able to end while a policy hangs.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._answer: Future[Recommendation] | None = None

    async def ask(self, question: Callable[[], Recommendation]) -> Recommendation:
        """What it returns. :raises BadInput: what it raised; or it is too slow, in the same words until it returns."""
        if self._answer is not None and not self._answer.done():
            raise self._slow()
        answer: Future[Recommendation] = Future()
        self._answer = answer
        answer.set_running_or_notify_cancel()  # who waits may give up; the answer can be put down still
        threading.Thread(target=_answer, args=(question, answer), name="policy", daemon=True).start()
        try:
            async with asyncio.timeout(BOUND):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            raise self._slow() from None

    def _slow(self) -> BadInput:
        where, problem = f"elasticity: {self._name}.recommend", f"has not answered within {BOUND:g} s"
        return BadInput(where, problem, "make it quicker; it is asked again once it has")


def _answer(question: Callable[[], Recommendation], answer: Future[Recommendation]) -> None:
    try:
        answer.set_result(question())
    except BaseException as error:  # for who asked
        answer.set_exception(error)
