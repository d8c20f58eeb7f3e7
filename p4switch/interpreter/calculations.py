"""Calculations (hashes over fields), and the checksums that use them."""

from itertools import groupby

from p4switch import ir
from p4switch.interpreter.context import Context
from p4switch.interpreter.expressions import Expressions
from p4switch.interpreter.writer import Writer


def write_calculation(context: Context, calculation: ir.Calculation, out: Writer) -> None:
    """``def calculation_<n>(f, p)``: the hash of the inputs; those of invalid headers are left out."""
    function = context.hash(calculation.name, calculation.algorithm)
    with out.block(f"def {context.calculation(calculation.name)}(f, p)"):
        out.comment(f"{calculation.name}: {calculation.algorithm}  {calculation.source or ''}")
        _write_inputs(context, calculation, out)
        out.line("r = -n % 8")
        out.line(f"return {function}(v << r, n + r)")
    out.line("")


def _write_inputs(context: Context, calculation: ir.Calculation, out: Writer) -> None:
    """``v``: the inputs as one number, ``n``: their bits."""
    out.line("v = n = 0")
    for header, group in groupby(_flatten(context, calculation), key=_header):
        parts = list(group)
        if header is None or context.layout.program.headers[header].metadata:
            _write_parts(context, parts, out)
            continue
        with out.block(f"if f[{context.layout.blocks[header].valid}]"):
            _write_parts(context, parts, out)
    if any(item.kind == "payload" for item in calculation.inputs):
        out.line("w = p.data[p.offset:]")
        out.line("v, n = v << (-n % 8), n + (-n % 8)")
        out.line("v, n = v << len(w) * 8 | from_bytes(w), n + len(w) * 8")


def _flatten(context: Context, calculation: ir.Calculation) -> list[ir.CalculationInput]:
    """Inputs with headers replaced by their fields, without payload."""
    found: list[ir.CalculationInput] = []
    for item in calculation.inputs:
        match item.value:
            case ir.HeaderRef(name):
                fields = context.layout.blocks[name].type.fields
                found += [ir.CalculationInput("field", ir.FieldRef(name, field.name), 0) for field in fields]
            case value if value is not None:
                found.append(item)
    return found


def _header(item: ir.CalculationInput) -> str | None:
    return item.value.header if isinstance(item.value, ir.FieldRef) else None


def _write_parts(context: Context, parts: list[ir.CalculationInput], out: Writer) -> None:
    """Append parts to ``v`` and ``n``: fields of fixed width side by side in one step."""
    e = Expressions(context.layout)
    terms: list[tuple[str, int]] = []
    for part in parts:
        if isinstance(part.value, ir.FieldRef) and context.layout.field(part.value).varbit:
            _append(terms, out)
            terms = []
            slot = context.layout.slot(part.value)
            out.line(f"v, n = v << f[{slot + 1}] | f[{slot}], n + f[{slot + 1}]")
            continue
        assert part.value is not None
        width = context.layout.field(part.value).width if isinstance(part.value, ir.FieldRef) else part.width
        terms.append((e.unsigned(part.value, width), width))
    _append(terms, out)


def _append(terms: list[tuple[str, int]], out: Writer) -> None:
    total = sum(width for _, width in terms)
    if total:
        out.line(f"v, n = v << {total} | {concatenate(terms)}, n + {total}")


def concatenate(terms: list[tuple[str, int]]) -> str:
    """Text of the number made of (text, bits) terms side by side, the first uppermost."""
    shift = sum(width for _, width in terms)
    parts = []
    for text, width in terms:
        shift -= width
        if text != "0":
            parts.append(f"{text} << {shift}" if shift else text)
    return " | ".join(parts) or "0"


def write_checksums(context: Context, out: Writer) -> None:
    """``def verify(f, p)``: 1 if a checksum is wrong; ``def update(f, p)``: compute those that are to be computed."""
    checksums = context.state.program.checksums
    e = Expressions(context.layout)
    with out.block("def verify(f, p)"):
        for checksum in checksums:
            if checksum.verify:
                _write_verify(context, e, checksum, out)
        out.line("return 0")
    out.line("")
    with out.block("def update(f, p)"):
        for checksum in checksums:
            if checksum.update:
                _write_update(context, e, checksum, out)
    out.line("")


def _write_verify(context: Context, e: Expressions, checksum: ir.Checksum, out: Writer) -> None:
    field = context.layout.field(checksum.target)
    valid = f"f[{context.layout.blocks[checksum.target.header].valid}]"
    condition = "" if checksum.condition is None else f" and {e.test(checksum.condition)}"
    function = context.calculation(checksum.calculation)
    out.comment(f"{checksum.name}  {checksum.source or ''}")
    context.trace.checksum(out, checksum, "verified where its header is valid and its condition holds")
    with out.block(f"if {valid}{condition} and {function}(f, p) != {e.unsigned(checksum.target, field.width)}"):
        context.trace.checksum(out, checksum, "wrong")
        out.line("return 1")


def _write_update(context: Context, e: Expressions, checksum: ir.Checksum, out: Writer) -> None:
    place, field = e.place(checksum.target)
    out.comment(f"{checksum.name}  {checksum.source or ''}")
    with out.block("if True" if checksum.condition is None else f"if {e.test(checksum.condition)}"):
        context.trace.checksum(out, checksum, "updated")
        out.line(f"{place} = {context.calculation(checksum.calculation)}(f, p) & {(1 << field.width) - 1}")
