"""The whole file."""

from typing import TypeVar

import msgspec

from p4switch import ir
from p4switch.errors import LoadError
from p4switch.load import arrays, schema
from p4switch.load.actions import ActionLoader
from p4switch.load.expressions import ExpressionLoader
from p4switch.load.headers import Headers, load_headers
from p4switch.load.parsers import ParserLoader, load_deparser, load_value_sets
from p4switch.load.pipelines import PipelineLoader
from p4switch.load.places import index, source

_DECODER = msgspec.json.Decoder(schema.Root, strict=True)
_NEWEST = 2

T = TypeVar("T")


def load_program(blob: bytes) -> ir.Program:
    """Read BMv2's JSON.

    :raises LoadError: it is no JSON, or not of this shape; names the place.
    :raises UnsupportedError: it holds a construct that has no place in the IR; names it and its source line.
    """
    root = _decode(blob)
    if root.meta.version[0] > _NEWEST:
        raise LoadError("__meta__.version", f"format {root.meta.version} is newer than 2", "use an older p4c")
    headers = load_headers(root)
    registers = arrays.load_registers(root.register_arrays)
    expressions = ExpressionLoader(headers, registers)
    counters = arrays.load_counters(root.counter_arrays)
    meters = arrays.load_meters(root.meter_arrays, headers)
    calculations = arrays.load_calculations(root.calculations, expressions)
    action_loader = ActionLoader(
        expressions,
        {
            "calculation": set(calculations),
            "counter_array": set(counters),
            "meter_array": set(meters),
            "register_array": set(registers),
            "extern": {item.name for item in root.extern_instances},
        },
    )
    actions = action_loader.actions(root.actions)
    value_sets = load_value_sets(root.parse_vsets)
    parsers = ParserLoader(headers, expressions, action_loader, value_sets)
    pipelines = PipelineLoader(expressions, actions, meters)
    program = ir.Program(
        version=root.meta.version,
        compiler=root.meta.compiler,
        header_types=headers.types,
        headers=headers.headers,
        stacks=headers.stacks,
        unions=headers.unions,
        union_stacks=headers.union_stacks,
        errors=arrays.load_errors(root.errors),
        parsers=_by_name([parsers.parser(f"parsers[{i}]", raw) for i, raw in enumerate(root.parsers)], "parsers"),
        value_sets=value_sets,
        deparsers=_by_name(
            [load_deparser(f"deparsers[{i}]", raw, headers, action_loader) for i, raw in enumerate(root.deparsers)],
            "deparsers",
        ),
        actions=actions,
        pipelines=_by_name(
            [pipelines.pipeline(f"pipelines[{i}]", raw) for i, raw in enumerate(root.pipelines)], "pipelines"
        ),
        counters=counters,
        meters=meters,
        registers=registers,
        calculations=calculations,
        checksums=arrays.load_checksums(root.checksums, expressions, calculations),
        field_lists=arrays.load_field_lists(root.field_lists, expressions),
        digests=arrays.load_digests(root.learn_lists, expressions),
        externs={
            item.name: ir.ExternInstance(item.name, item.type, source(item.source_info))
            for item in root.extern_instances
        },
        aliases=_aliases(root, headers),
    )
    _check_names(program)
    return program


def _decode(blob: bytes) -> schema.Root:
    try:
        return _DECODER.decode(blob)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise LoadError(place.rstrip("`").lstrip(".") or "the file", problem) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LoadError("the file", f"not JSON: {error}", "give the .json that p4c-bm2-ss writes") from None


def _aliases(root: schema.Root, headers: Headers) -> dict[str, ir.FieldRef]:
    return {name: headers.field(f"field_aliases[{i}]", list(path)) for i, (name, path) in enumerate(root.field_aliases)}


def _by_name(items: list[T], what: str) -> dict[str, T]:
    return index(what, items, lambda item: getattr(item, "name"), what)  # noqa: B009  # T has no bound


def _check_names(program: ir.Program) -> None:
    """:raises LoadError: two pipelines have tables, or action profiles, of the same name."""
    pipelines = program.pipelines.values()
    index("pipelines", (table for one in pipelines for table in one.tables), lambda item: item.name, "tables")
    index("pipelines", (found for one in pipelines for found in one.profiles), lambda item: item.name, "profiles")
