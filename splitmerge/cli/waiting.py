"""Commands that wait for the orchestrator. Ctrl-C ends the command, not what it asked for, and nor does an answer that
does not come in time: this says what goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitmerge.cli.errors import Interrupted, Overdue
from splitmerge.client import OrchestratorClient
from splitmerge.errors import NoAnswerYet, SplitmergeError, Unreachable
from topo.naming import command

ASK_WITHIN = 3.0
"""Seconds for the orchestrator to say which moves are under way."""
NAMED_MOST = 3
"""Moves that are named one by one."""
LONG = 120.0
"""Seconds to wait for an operation that moves many flows, makes replicas, or tries a policy."""
_LONGEST = 7 * 86_400.0
"""Seconds; a socket does not take any number, and what is wrong is for the orchestrator to say."""

Move = Mapping[str, Any]


def _any(move: Move) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Action:
    """What the orchestrator does for a command, whether that waits or not."""

    what: str
    """As the subject of “… goes on”."""
    follow: str
    """The command that shows how far it is."""
    ours: Callable[[Move], bool] = _any
    """Whether a move that is under way can be of it."""
    cancels: bool = True
    """Calling its moves off leaves flows where they are; else the action would begin others."""
    undo: str = ""
    """A command, and what it does about the rest; or why nothing does."""


@contextmanager
def goes_on(directory: Path, client: OrchestratorClient, action: Action) -> Iterator[None]:
    """Around the request that is waited for.

    :raises Interrupted: when Ctrl-C comes in it. :raises Overdue: if the answer does not come in time.
    :raises Unreachable: if it may have begun, with how to find out what became of it.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(*told(directory, action, _under_way(client.socket))) from None
    except NoAnswerYet as error:
        raise Overdue(error.seconds, *told(directory, action, _under_way(client.socket))) from None
    except Unreachable as error:
        if not error.asked:
            raise
        look = f"before you ask again, see with `{command(directory, action.follow)}` what became of {action.what}"
        raise Unreachable(error.where, error.problem, f"{look}; {error.remedy}") from error


def patience(deadline: float | None, times: int = 1) -> float:
    """Seconds to wait for moves with this deadline, made so many ``times`` one after the other.

    The orchestrator answers `moves.late` seconds (10) behind the deadline at the latest. Too long a one it refuses.
    """
    return min(times * (LONG + (deadline or 0.0)), _LONGEST)


def told(directory: Path, action: Action, running: Sequence[Move] | None) -> tuple[str, str]:
    """What goes on in the lab of this directory; and how to follow it, and to call it off.

    :param running: the moves under way; None: nobody says.
    """
    moves = [move for move in running or () if move["source"] and action.ours(move)]  # a new flow's have no source
    problem = f"{action.what} goes on"
    if moves:
        problem += ": " + ", ".join(_name(move) for move in moves[:NAMED_MOST])
        problem += f" and {len(moves) - NAMED_MOST} more moves" if len(moves) > NAMED_MOST else ""
    else:
        problem += ", unless it is over" if running is not None else "; which moves are under way, nobody says now"
    remedies = [f"`{command(directory, action.follow)}` shows it"]
    if moves and action.cancels:
        number, it = (str(moves[0]["epoch"]), "it") if len(moves) == 1 else ("NUMBER", "one")
        remedies.append(f"`{command(directory, 'cancel', number)}` calls {it} off")
    return problem, "; ".join([*remedies, *filter(None, [action.undo])])


def _name(move: Move) -> str:
    return f"move {move['epoch']} from replica {move['source']} to {move['target']}"


def _under_way(socket: Path) -> list[Move] | None:
    """Asked anew: the interrupted client's connection still waits. Another Ctrl-C ends this too."""
    try:
        with OrchestratorClient(socket, ASK_WITHIN) as client:
            moves: list[Move] = client.get("/status")["moves_running"]
            return moves
    except (SplitmergeError, KeyboardInterrupt):
        return None
