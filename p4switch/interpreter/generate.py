"""The whole program as one Python module, compiled and ready to call."""

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

from p4switch.errors import UnsupportedError
from p4switch.interpreter.actions import write_action
from p4switch.interpreter.calculations import write_calculation, write_checksums
from p4switch.interpreter.context import Context
from p4switch.interpreter.deparsers import write_deparser
from p4switch.interpreter.layout import Layout
from p4switch.interpreter.packet import Packet
from p4switch.interpreter.parsers import ParserWriter
from p4switch.interpreter.pipelines import PipelineWriter
from p4switch.interpreter.tracing import Narrator, Silent
from p4switch.interpreter.writer import Writer
from p4switch.runtime import State

_serial = count(1)


@dataclass(frozen=True, slots=True)
class Generated:
    """The functions of one program, and their ``source`` to read."""

    source: str
    parse: Callable[[list[int], bytes, Packet], int]
    verify: Callable[[list[int], Packet], int]
    ingress: Callable[[list[int], Packet], object]
    egress: Callable[[list[int], Packet], object]
    deparse: Callable[[list[int], Packet], bytes]


def generate(
    state: State, layout: Layout, random: Random, trace: Silent | None = None, tracer: object = None
) -> Generated:
    """Write and compile; with a Narrator as ``trace``, the variant that tells ``tracer`` each step.

    :raises UnsupportedError: an expression nests deeper than Python's own compiler allows.
    """
    context = Context(state, layout, random, trace or Silent())
    source = _write(context)
    filename = f"<p4switch program {next(_serial)}>"
    try:
        code = compile(source, filename, "exec")
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise UnsupportedError(f"an expression this deep ({error})", "program") from None
    # tracebacks show the generated lines
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names = context.names
    if isinstance(trace, Narrator):
        names |= {name: text for text, name in trace.texts.items()}
        names |= {name: getattr(tracer, name) for name in ("debug", "trace", "found", "chosen")}
    exec(code, names)  # the text holds numbers and our own names only; see Writer.comment and Context
    return Generated(source, names["parse"], names["verify"], names["ingress"], names["egress"], names["deparse"])


def _write(context: Context) -> str:
    program = context.state.program
    out = Writer()
    for calculation in program.calculations.values():
        write_calculation(context, calculation, out)
    write_checksums(context, out)
    for action in program.actions.values():
        write_action(context, action, out)
    out.line(f"actions = {{{', '.join(f'{number}: action_{number}' for number in program.actions)}}}")
    out.line("")
    ParserWriter(context, out).write()
    for name in ("ingress", "egress"):
        PipelineWriter(context, program.pipelines[name], out).write()
    write_deparser(context, out)
    return out.text()
