"""The deparser: ``deparse(f, p)`` gives the frame."""

from p4switch import ir
from p4switch.interpreter.calculations import concatenate
from p4switch.interpreter.context import Context
from p4switch.interpreter.expressions import Expressions
from p4switch.interpreter.layout import Block
from p4switch.interpreter.primitives import Emitter
from p4switch.interpreter.writer import Writer


def write_deparser(context: Context, out: Writer) -> None:
    """``def deparse``: checksums, then primitives, then the valid headers in order, then the payload."""
    deparser = context.state.program.deparsers["deparser"]
    with out.block("def deparse(f, p)"):
        if any(checksum.update for checksum in context.state.program.checksums):
            out.line("update(f, p)")
        emitter = Emitter(context, Expressions(context.layout), out)
        for primitive in deparser.primitives:
            emitter.emit(primitive)
        out.line("w = []")
        for name in deparser.order:
            block = context.layout.blocks[name]
            with out.block(f"if f[{block.valid}]"):
                out.comment(name)
                context.trace.deparse(out, name)
                _write_header(context, name, block, out)
        out.line("w.append(p.data[p.offset:])")
        out.line("w = b''.join(w)")
        with out.block("if p.truncate >= 0"):
            out.line("w = w[:p.truncate]")
        out.line("return w")
    out.line("")


def _write_header(context: Context, name: str, block: Block, out: Writer) -> None:
    e = Expressions(context.layout)
    size = block.type.fixed_width // 8
    if name in context.layout.raw:
        out.line(f"w.append(f[{context.layout.raw[name]}])")
        return
    varbit = block.type.varbit
    if varbit is None:
        terms = [(e.unsigned(ir.FieldRef(name, field.name), field.width), field.width) for field in block.type.fields]
        if size:
            out.line(f"w.append(({concatenate(terms)}).to_bytes({size}, 'big'))")
        return
    length = f"f[{block.base + block.offset(varbit.name) + 1}]"
    out.line("v = 0")
    for field in block.type.fields:
        width = length if field.varbit else str(field.width)
        text = f"f[{block.base + block.offset(field.name)}]"
        if not field.varbit:
            text = e.unsigned(ir.FieldRef(name, field.name), field.width)
        out.line(f"v = v << {width} | {text}")
    out.line(f"w.append(v.to_bytes({size} + {length} // 8, 'big'))")
