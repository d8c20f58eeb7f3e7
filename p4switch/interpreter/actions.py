"""Actions as Python functions, or inlined where a table can do nothing else.

p4c writes ``if`` inside actions as jumps over later primitives, and loops as jumps back. A jump sets ``j`` to the
number of the primitive where things go on. Without jumps back, each piece between jumps and targets runs unless ``j``
has gone past it; with them, pieces are picked by ``j`` until it reaches the end, or too many have run.
"""

from p4switch import ir
from p4switch.interpreter.context import Context
from p4switch.interpreter.expressions import Expressions
from p4switch.interpreter.primitives import Emitter
from p4switch.interpreter.writer import Writer

MOST_PIECES = 1 << 16
"""Pieces of one action that a packet may run; a loop beyond that ends like a failed assertion."""


def may_exit(action: ir.Action) -> bool:
    """Whether the action can end the pipeline."""
    return any(primitive.op == "exit" for primitive in action.primitives)


def can_inline(action: ir.Action) -> bool:
    """Whether the action is a plain sequence of primitives."""
    return not any(primitive.op in ("exit", "_jump", "_jump_if_zero") for primitive in action.primitives)


def write_action(context: Context, action: ir.Action, out: Writer) -> None:
    """``def action_<id>(f, p, a)``; it returns something true if the pipeline ends here."""
    params = tuple((f"a[{i}]", param.width) for i, param in enumerate(action.params))
    with out.block(f"def action_{action.id}(f, p, a)"):
        out.comment(f"action {action.name}")
        if may_exit(action):
            out.line("x = False")
        write_body(context, action, params, out)
        if may_exit(action):
            out.line("return x")
    out.line("")


def inline_action(context: Context, action: ir.Action, args: tuple[int, ...], out: Writer) -> None:
    """The action's statements with constant arguments."""
    params = tuple((str(value), value.bit_length()) for value in args)
    write_body(context, action, params, out)


def write_body(context: Context, action: ir.Action, params: tuple[tuple[str, int], ...], out: Writer) -> None:
    """The action's primitives in pieces that jumps skip."""
    emitter = Emitter(context, Expressions(context.layout, params), out)
    context.trace.action(out, action)
    starts = _starts(action)
    if len(starts) == 1 and not _jumps_back(action):
        for primitive in action.primitives:
            _write(emitter, primitive, out)
        return
    out.line("j = 0")
    pieces = list(zip(starts, [*starts[1:], len(action.primitives)], strict=True))
    if not _jumps_back(action):
        for start, end in pieces:
            with out.block(f"if j <= {start}"):
                for primitive in action.primitives[start:end]:
                    _write(emitter, primitive, out)
        return
    out.line(f"left = {MOST_PIECES}")
    with out.block(f"while j < {len(action.primitives)}"):
        out.line("left -= 1")
        out.line(f"holds(left, {context.constant('end of a loop')})")
        for start, end in pieces:
            with out.block(f"if j == {start}"):
                out.line(f"j = {end}")
                for primitive in action.primitives[start:end]:
                    _write(emitter, primitive, out)


def _jumps_back(action: ir.Action) -> bool:
    return any(
        primitive.op in ("_jump", "_jump_if_zero")
        and isinstance(primitive.args[-1], ir.Const)
        and primitive.args[-1].value <= position
        for position, primitive in enumerate(action.primitives)
    )


def _starts(action: ir.Action) -> list[int]:
    """Numbers of the primitives at which a piece starts."""
    starts = {0}
    for position, primitive in enumerate(action.primitives):
        if primitive.op in ("_jump", "_jump_if_zero"):
            target = primitive.args[-1]
            assert isinstance(target, ir.Const), "check_program saw to it"
            starts |= {position + 1, target.value}
    return sorted(start for start in starts if start < len(action.primitives)) or [0]


def _write(emitter: Emitter, primitive: ir.Primitive, out: Writer) -> None:
    match primitive:
        case ir.Primitive(op="exit"):
            emitter.trace(primitive)
            out.line("x = True")
        case ir.Primitive(op="_jump", args=(ir.Const(target),)):
            out.line(f"j = {target}")
        case ir.Primitive(op="_jump_if_zero", args=(condition, ir.Const(target))):
            assert not isinstance(condition, ir.Array | ir.Vector), "check_program saw to it"
            with out.block(f"if not {emitter.truth(condition)}"):
                out.line(f"j = {target}")
        case _:
            emitter.emit(primitive)
