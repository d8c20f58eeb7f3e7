"""Counters, meters, registers, calculations, checksums, field lists and digests."""

from p4switch import ir
from p4switch.errors import LoadError, UnsupportedError
from p4switch.load import schema
from p4switch.load.expressions import ExpressionLoader
from p4switch.load.headers import Headers
from p4switch.load.places import array_size, index, lookup, source, unsigned, width

_BUILT_IN = {"NoError": 0, "PacketTooShort": 1, "NoMatch": 2, "StackOutOfBounds": 3, "HeaderTooShort": 4}


def load_counters(raw: list[schema.CounterArray]) -> dict[str, ir.CounterArray]:
    """Counter arrays by name."""
    index("counter_arrays", raw, lambda item: item.name, "counter arrays")
    return {
        item.name: ir.CounterArray(
            item.name, array_size(f"counter_arrays[{i}]", item.size), item.binding if item.is_direct else None
        )
        for i, item in enumerate(raw)
    }


def load_meters(raw: list[schema.MeterArray], headers: Headers) -> dict[str, ir.MeterArray]:
    """Meter arrays by name."""
    index("meter_arrays", raw, lambda item: item.name, "meter arrays")
    return {item.name: _meter(f"meter_arrays[{i}]", item, headers) for i, item in enumerate(raw)}


def _meter(place: str, raw: schema.MeterArray, headers: Headers) -> ir.MeterArray:
    if raw.rate_count != 2:
        raise UnsupportedError(f"meter {raw.name} with {raw.rate_count} rates", str(source(raw.source_info) or place))
    result = None if raw.result_target is None else headers.field(f"{place}.result_target", list(raw.result_target))
    if raw.is_direct and (raw.binding is None or result is None):
        raise LoadError(place, "a direct meter needs binding and result_target")
    table = raw.binding if raw.is_direct else None
    size = array_size(place, raw.size)
    match raw.type:
        case "bytes" | "packets" as unit:
            return ir.MeterArray(raw.name, size, unit, 2, table, result)
    raise LoadError(place, f"{raw.type!r} is no type of meter", "use bytes or packets")


def load_registers(raw: list[schema.RegisterArray]) -> dict[str, ir.RegisterArray]:
    """Register arrays by name."""
    index("register_arrays", raw, lambda item: item.name, "register arrays")
    return {
        item.name: ir.RegisterArray(
            item.name,
            array_size(f"register_arrays[{i}]", item.size),
            width(f"register_arrays[{i}]", item.bitwidth),
            item.signed,
        )
        for i, item in enumerate(raw)
    }


def load_calculations(raw: list[schema.Calculation], expressions: ExpressionLoader) -> dict[str, ir.Calculation]:
    """Calculations by name."""
    index("calculations", raw, lambda item: item.name, "calculations")
    return {item.name: _calculation(f"calculations[{i}]", item, expressions) for i, item in enumerate(raw)}


def _calculation(place: str, raw: schema.Calculation, expressions: ExpressionLoader) -> ir.Calculation:
    inputs = tuple(_input(f"{place}.input[{i}]", item, expressions) for i, item in enumerate(raw.input))
    return ir.Calculation(raw.name, raw.algo, inputs, source(raw.source_info))


def _input(place: str, raw: schema.CalculationInput, expressions: ExpressionLoader) -> ir.CalculationInput:
    match raw.type:
        case "field":
            return ir.CalculationInput("field", expressions.headers.field(place, raw.value), 0)
        case "hexstr":
            bits = width(f"{place}.bitwidth", raw.bitwidth)
            return ir.CalculationInput("const", ir.Const(unsigned(place, raw.value, bits), bits), bits)
        case "header":
            name = lookup(place, raw.value, expressions.headers.headers, "header").name
            return ir.CalculationInput("header", ir.HeaderRef(name), 0)
        case "payload":
            return ir.CalculationInput("payload", None, 0)
    raise LoadError(place, f"{raw.type!r} is no input", "use field, hexstr, header or payload")


def load_checksums(
    raw: list[schema.Checksum], expressions: ExpressionLoader, calculations: dict[str, ir.Calculation]
) -> tuple[ir.Checksum, ...]:
    """Checksums in order."""
    return tuple(_checksum(f"checksums[{i}]", item, expressions, calculations) for i, item in enumerate(raw))


def _checksum(
    place: str, raw: schema.Checksum, expressions: ExpressionLoader, calculations: dict[str, ir.Calculation]
) -> ir.Checksum:
    if raw.type != "generic":
        raise UnsupportedError(f"checksum of type {raw.type}", str(source(raw.source_info) or place))
    lookup(f"{place}.calculation", raw.calculation, calculations, "calculation")
    condition = None if raw.if_cond is None else expressions.condition(f"{place}.if_cond", raw.if_cond)
    target = expressions.headers.field(f"{place}.target", list(raw.target))
    return ir.Checksum(
        raw.name, target, str(raw.calculation), raw.update, raw.verify, condition, source(raw.source_info)
    )


def load_field_lists(raw: list[schema.ElementList], expressions: ExpressionLoader) -> dict[int, ir.FieldList]:
    """Field lists by id."""
    index("field_lists", raw, lambda item: item.id, "field lists")
    return {item.id: _field_list(f"field_lists[{i}]", item, expressions) for i, item in enumerate(raw)}


def _field_list(place: str, raw: schema.ElementList, expressions: ExpressionLoader) -> ir.FieldList:
    return ir.FieldList(raw.id, raw.name, _elements(place, raw, expressions))


def _elements(place: str, raw: schema.ElementList, expressions: ExpressionLoader) -> tuple[ir.Expr, ...]:
    found = []
    for i, item in enumerate(raw.elements):
        expr = expressions.data(f"{place}.elements[{i}]", {"type": item.type, "value": item.value})
        if not isinstance(expr, ir.FieldRef | ir.Const):
            raise LoadError(f"{place}.elements[{i}]", "an element is a field or a hexstr")
        found.append(expr)
    return tuple(found)


def load_digests(raw: list[schema.ElementList], expressions: ExpressionLoader) -> dict[int, ir.DigestList]:
    """Digests by id."""
    index("learn_lists", raw, lambda item: item.id, "learn lists")
    return {item.id: _digest(f"learn_lists[{i}]", item, expressions) for i, item in enumerate(raw)}


def _digest(place: str, raw: schema.ElementList, expressions: ExpressionLoader) -> ir.DigestList:
    elements = _elements(place, raw, expressions)
    widths = []
    for i, (expr, item) in enumerate(zip(elements, raw.elements, strict=True)):
        if isinstance(expr, ir.FieldRef):
            field = expressions.headers.headers[expr.header].type.field(expr.field)
            widths.append(field.width if field else 1)
        else:
            widths.append(width(f"{place}.elements[{i}].bitwidth", item.bitwidth))
    return ir.DigestList(raw.id, raw.name, elements, tuple(widths))


def load_errors(raw: list[tuple[str, int]]) -> dict[str, int]:
    """Numbers of parser errors by name, those of core.p4 that the file leaves out included."""
    errors = dict(raw)
    for name, value in _BUILT_IN.items():
        errors.setdefault(name, value)
    errors.setdefault("ParserInvalidArgument", max(errors.values()) + 1)
    return errors
