"""Asks a policy that is anybody's class: in a thread, for so long and no longer, so that nothing else waits for it.

The thread is never an executor's, which the end of the process would wait for: a policy may hang.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TypeVar

from orchestrator.elasticity import Recommendation
from splitmerge.errors import BadInput

BOUND = 1.0
"""Seconds that a policy may take."""


T = TypeVar("T")
_Asked = tuple[Callable[[], Recommendation], Future[Recommendation]]


class Asker:
    """One question at a time: while the last one is not answered, no other is asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._answer: Future[Recommendation] | None = None

    async def ask(self, question: Callable[[], Recommendation]) -> Recommendation:
        """What it returns. :raises BadInput: what it raised; or it is too slow, in the same words until it returns."""
        if self._answer is not None and not self._answer.done():
            raise self._slow()
        self._answer = answer = _begin(question)
        try:
            async with asyncio.timeout(BOUND):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            raise self._slow() from None

    def _slow(self) -> BadInput:
        return _slow(self._name, "make it quicker; it is asked again once it has")


class WaitingAsker:
    """The same for who has no event loop and nothing else to do, and asks often: one thread answers everything."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._questions: SimpleQueue[_Asked | None] = SimpleQueue()
        self._late = False
        threading.Thread(target=self._run, name="policy", daemon=True).start()

    def ask(self, question: Callable[[], Recommendation]) -> Recommendation:
        """What it returns.

        :raises BadInput: what it raised; or it is too slow, after which nothing is asked any more.
        """
        if self._late:
            raise _slow(self._name, "make it quicker")
        answer: Future[Recommendation] = Future()
        answer.set_running_or_notify_cancel()
        self._questions.put((question, answer))
        done, _ = wait([answer], timeout=BOUND)
        if not done:
            self._late = True
            raise _slow(self._name, "make it quicker")
        return answer.result()

    def close(self) -> None:
        """Its thread ends, once the policy has answered."""
        self._questions.put(None)

    def _run(self) -> None:
        while (asked := self._questions.get()) is not None:
            _answer(*asked)


async def aside(work: Callable[[], T]) -> T:
    """What it returns, or raises, however long it takes; the process can end meanwhile."""
    return await asyncio.wrap_future(_begin(work))


def _begin(work: Callable[[], T]) -> Future[T]:
    answer: Future[T] = Future()
    answer.set_running_or_notify_cancel()  # who waits may give up; the answer can be put down still
    threading.Thread(target=_answer, args=(work, answer), name="policy", daemon=True).start()
    return answer


def _slow(name: str, remedy: str) -> BadInput:
    return BadInput(f"elasticity: {name}.recommend", f"has not answered within {BOUND:g} s", remedy)


def _answer(question: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(question())
    except BaseException as error:  # for who asked
        answer.set_exception(error)
