"""What commands that make moves say of them: as tables, on standard error, and by the exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from orchestrator.migration.steps import TERMINAL, Step
from orchestrator.moves.reports import in_words
from splitmerge.cli.output import problems, show_json
from splitmerge.cli.views import NAMED, followers, show_moves, some, stayed
from topo.naming import command


def show_moved(answer: Mapping[str, Any], directory: Path, *, as_json: bool) -> None:
    """Show an answer whose moves were waited for. :raises typer.Exit: as `judge`."""
    moves = answer["moves"]
    if as_json:
        show_json(answer)
    else:
        undone = all(move["step"] == Step.UNDONE.value for move in moves)
        show_moves("not over yet" if _late(moves) else "undone" if moves and undone else "moved", moves)
    judge(moves, directory, shown=not as_json)


def judge(moves: Sequence[Mapping[str, Any]], directory: Path, *, shown: bool = False) -> None:
    """Say on standard error what is not as it should be; of moves that were ``shown`` no reasons again.

    :raises typer.Exit: with status 1 if one is late, was undone, or left flows or state behind, also if another one
        followed for some of them.
    """
    _tell_late(moves, directory)
    for move in () if shown else moves:
        if move["step"] == Step.UNDONE.value and not move.get("moot"):
            _say(stayed(move, moves) or _undone(move, moves))
    for move in [each for each in moves if each.get("untaken")]:
        _say(_untaken(move, directory))
    if any(move["stateless"] for move in moves):
        _say("replica died before all state was at the target: flows go on there without it")
    if any(move["stateless"] or not _as_wanted(move, moves) for move in moves):
        raise typer.Exit(1)


def tell_unknown(moves: Sequence[Mapping[str, Any]]) -> None:
    """Of flows that were named, those that their replicas did not have. A move of no others says so itself."""
    for move in moves:
        if move["unknown"] and move["step"] != Step.UNDONE.value:
            which = some(move["unknown"]["flows"], NAMED, move["unknown"]["keys"])
            _say(f"move {move['epoch']}: replica {move['source']} has no such flow, which did not move: {which}")


def _as_wanted(move: Mapping[str, Any], moves: Sequence[Mapping[str, Any]]) -> bool:
    """Whether its flows are where they should be; also if other moves took all of them, or they have ended."""
    if move.get("untaken"):
        return False
    if move.get("moot"):
        return True
    if move["step"] == Step.UNDONE.value and not move.get("pinned"):
        return bool(followers(move, moves))
    return bool(move["step"] == Step.DONE.value and not move.get("pinned"))


def _undone(move: Mapping[str, Any], moves: Sequence[Mapping[str, Any]]) -> str:
    where = f"its flows stay at replica {move['source']}"
    if after := [str(each["epoch"]) for each in followers(move, moves)]:
        who = f"move {after[0]} is" if len(after) == 1 else f"moves {' and '.join(after)} are"
        where = f"{who} for {'some of ' if move.get('untaken') else ''}its flows"
    return f"move {move['epoch']} was undone, {where}: {move['reason']}"


def _untaken(move: Mapping[str, Any], directory: Path) -> str:
    """What nobody takes of a move that was undone, though it could move, and what to do about that."""
    left, number, source = move["untaken"], move["epoch"], move["source"]
    what = in_words(left["keys"], left["buckets"])
    names, has = command(directory, "moves", str(number)), command(directory, "flows", f"--replica {source}")
    remedy = f"move it once more (`{names}` says what the move was to take, `{has}` what is there)"
    return f"move {number}: {what} did not move from replica {source}, and no move follows for that: {remedy}"


def _late(moves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Numbers of those that are not over, though they were waited for."""
    over = {step.value for step in TERMINAL}
    return [str(move["epoch"]) for move in moves if move["step"] not in over]


def _tell_late(moves: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """If any is late it is said which, how it is followed, and how it is called off."""
    late = _late(moves)
    if not late:
        return
    number = late[0] if len(late) == 1 else "NUMBER"
    follow, call_off = command(directory, "moves", number), command(directory, "cancel", number)
    _say(f"move {', '.join(late)} takes long and goes on by itself: see `{follow}`; `{call_off}` calls it off")


def _say(text: str) -> None:
    problems.print(text, highlight=False, markup=False, soft_wrap=True)
