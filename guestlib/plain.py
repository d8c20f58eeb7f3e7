"""Functions of a middlebox that would not run when they are called: coroutine functions, and generators.

Nothing here awaits or iterates: calling one makes an object and runs none of its code, so that every packet would be
gone without a trace. They are refused by name where they are known before a packet comes, and what a plain function
returns is looked at where it is not None.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator

from guestlib.errors import MiddleboxError

REMEDY = "write a plain `def`, and no `yield` in it: the library calls it, and neither awaits nor iterates"


def unplain(function: object) -> str | None:
    """What a function is, if its code would not run when it is called; None if it would."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):  # an object or a class that is called
        function = getattr(type(function), "__call__", function)  # noqa: B004
    for is_one, what in _KINDS:
        if is_one(function):
            return what
    return None


_KINDS: tuple[tuple[Callable[[object], bool], str], ...] = (
    (inspect.iscoroutinefunction, "a coroutine function (`async def`)"),
    (inspect.isasyncgenfunction, "an asynchronous generator (`async def` with `yield`)"),
    (inspect.isgeneratorfunction, "a generator (it has a `yield`)"),
)


def refuse_unplain(where: str, which: str, function: object) -> None:
    """:raises MiddleboxError: if the code of this function, called ``which``, would not run when it is called."""
    if (what := unplain(function)) is not None:
        raise MiddleboxError(where, f"{which} is {what}, of which no line would run", REMEDY)


def not_run(result: object) -> NotRun | None:
    """What a function returned, if it is code that has not run, as an error; it never will then. None if it is not."""
    if not isinstance(result, Coroutine | Generator | AsyncGenerator):
        return None
    if not isinstance(result, AsyncGenerator):
        result.close()  # or the interpreter warns of it, somewhere
    return NotRun(f"it returned a {type(result).__name__}, of which no line has run: {REMEDY}")


class NotRun(TypeError):
    """A function of a middlebox returned code that has not run."""
