"""What tests share: see conftest.py."""

from __future__ import annotations

import gc
import multiprocessing

import pynng

FORK = multiprocessing.get_context("fork")


class _Wire:
    """In a cycle, as what asyncio has run mostly is: only the collector finds it."""

    def __init__(self) -> None:
        self.socket = pynng.Pair0()
        self.itself = self


def test_a_forked_process_does_not_finalise_what_the_worker_left() -> None:
    gc.disable()
    try:
        _Wire().socket.close()
        process = FORK.Process(target=gc.collect)
        process.start()
    finally:
        gc.enable()
    process.join(10)
    process.kill()
    assert process.exitcode == 0
