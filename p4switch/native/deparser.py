"""The deparser, and the checksums that are computed before it and verified after the parser."""

from typing import Any

from p4switch import ir
from p4switch.native.actions import Actions
from p4switch.native.emit import I1, I64, PTR, Emitter, Unit, Value, const, i64
from p4switch.native.expressions import Expressions
from p4switch.native.hashing import Calculations, write_fields, write_varbit
from p4switch.native.layout import Layout


def write_verify(unit: Unit, layout: Layout, calculations: Calculations) -> Any:
    """``i1 verify(region*, packet*)``: whether a checksum is wrong."""
    function = unit.function("verify", I1, PTR, PTR)
    emit = Emitter(unit, function)
    e = Expressions(emit, layout, *function.args)
    b = emit.b
    for checksum in layout.program.checksums:
        if not checksum.verify:
            continue
        metadata = layout.program.headers[checksum.target.header].metadata
        there = const(1, 1) if metadata else e.valid(ir.HeaderRef(checksum.target.header))
        if checksum.condition is not None:
            there = b.and_(there, e.test(checksum.condition))
        with emit.when(there):
            number = emit.call(calculations.function(checksum.calculation), *function.args)
            place = e.place(checksum.target)
            width = max(64, place.width)
            have = emit.resize(emit.load_slot(place.address, place.width), width)
            with emit.when(b.icmp_unsigned("!=", emit.resize(number, width), have)):
                b.ret(const(1, 1))
    b.ret(const(1, 0))
    return function


def write_deparser(unit: Unit, layout: Layout, calculations: Calculations, drop_port: int) -> Any:
    """``u64 deparse(region*, packet*, bytes* to)``: update checksums, run primitives, write valid headers.

    Returns how many bytes were written.
    """
    function = unit.function("deparse", I64, PTR, PTR, PTR)
    emit = Emitter(unit, function)
    region, packet, to = function.args
    e = Expressions(emit, layout, region, packet)
    for checksum in layout.program.checksums:
        if checksum.update:
            _update(emit, e, calculations, checksum)
    used = emit.local(I64, i64(0))
    finish = emit.block("finish")
    actions = Actions(unit, layout, e, calculations, drop_port, finish)
    for primitive in layout.program.deparsers["deparser"].primitives:
        actions.primitive(primitive)
    for name in layout.program.deparsers["deparser"].order:
        with emit.when(e.valid(ir.HeaderRef(name))):
            size = _write_header(emit, e, name, emit.at(to, emit.get(used, I64)))
            emit.set(used, emit.b.add(emit.get(used, I64), size))
    emit.enter(finish)
    emit.b.ret(emit.get(used, I64))
    return function


def _update(emit: Emitter, e: Expressions, calculations: Calculations, checksum: ir.Checksum) -> None:
    def compute() -> None:
        number = emit.call(calculations.function(checksum.calculation), e.region, e.packet)
        e.write(checksum.target, number)

    if checksum.condition is None:
        compute()
        return
    with emit.when(e.test(checksum.condition)):
        compute()


def _write_header(emit: Emitter, e: Expressions, name: str, to: Value) -> Value:
    """The header's bytes; returns how many."""
    fields = e.program.headers[name].type.fields
    fixed: list[tuple[ir.Expr, int]] = []
    size: Value = i64(0)
    for field in fields:
        ref = ir.FieldRef(name, field.name)
        if not field.varbit:
            fixed.append((ref, field.width))
            continue
        size = emit.b.add(size, i64(write_fields(e, fixed, emit.at(to, size))))
        size = emit.b.add(size, write_varbit(emit, e, ref, emit.at(to, size)))
        fixed = []
    return emit.b.add(size, i64(write_fields(e, fixed, emit.at(to, size))))
