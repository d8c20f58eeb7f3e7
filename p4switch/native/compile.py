"""From the IR to machine code: puts the module together, has LLVM optimise it, and holds the result."""

import ctypes
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import binding

from p4switch import ir
from p4switch.native.deparser import write_deparser, write_verify
from p4switch.native.emit import I64, PTR, Emitter, Unit, i64
from p4switch.native.hashing import Calculations
from p4switch.native.layout import Control, Input, Layout
from p4switch.native.loop import LoopWriter
from p4switch.native.parser import ParserWriter
from p4switch.native.pipeline import PipelineWriter
from p4switch.native.records import LogMessage
from p4switch.native.replication import Replication, Stages
from p4switch.native.tables import TableWriter, write_apply

_CODEGEN = 1
"""LLVM's level for code generation: 0 makes slow code, above 1 gains nothing measurable here."""
_PASSES = ("sroa", "instruction_combine", "simplify_cfg", "new_gvn", "simplify_cfg")
"""Chosen by measurement: LLVM's own O1 takes fifteen times as long, most of it for inlining, and gains little."""
_start = threading.Lock()
_started = False


@dataclass(frozen=True)
class Library:
    """Machine code of one program. ``engine`` keeps it in memory.

    ``run_batch(region, inputs, count, now)`` gives the number of packets processed: fewer than ``count`` when the
    outputs should be sent first. ``apply(region, commands, count)`` carries out table changes. The others are described
    in p4switch.native.loop.
    """

    messages: Sequence[LogMessage]
    text: str
    """LLVM IR before optimisation, for people."""
    seconds: float
    engine: Any
    run_batch: Any
    apply: Any
    run_loop: Any
    inject: Any
    apply_held: Any
    take_punts: Any
    take_digests: Any


def compile_program(layout: Layout, drop_port: int) -> Library:
    """Generate and compile.

    :raises UnsupportedError: the program uses what this back end cannot do.
    """
    begin = time.monotonic()
    messages: list[LogMessage] = []
    text = write_module(layout, drop_port, messages)
    machine = _machine()
    module = binding.parse_assembly(text)
    module.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=1))
    passes = binding.create_new_function_pass_manager()
    for name in _PASSES:
        getattr(passes, f"add_{name}_pass")()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()

    def bind(name: str, result: Any, *args: Any) -> Any:
        return ctypes.CFUNCTYPE(result, *args)(engine.get_function_address(name))

    pointer, word = ctypes.c_void_p, ctypes.c_uint64
    functions = {
        "run_batch": bind("run_batch", word, pointer, pointer, word, word),
        "apply": bind("apply", None, pointer, pointer, word),
        "run_loop": bind("run_loop", None, pointer, pointer),
        "inject": bind("inject", None, pointer, pointer, ctypes.c_char_p, word, ctypes.c_uint32),
        "apply_held": bind("apply_held", None, pointer, pointer, pointer, word),
        "take_punts": bind("take_punts", word, pointer),
        "take_digests": bind("take_digests", word, pointer, pointer),
    }
    return Library(tuple(messages), text, time.monotonic() - begin, engine, **functions)


def _machine() -> Any:
    global _started
    with _start:
        if not _started:
            binding.initialize_native_target()
            binding.initialize_native_asmprinter()
            _started = True
    target = binding.Target.from_default_triple()
    features = binding.get_host_cpu_features().flatten()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=_CODEGEN, jit=True)


def write_module(layout: Layout, drop_port: int, messages: list[LogMessage]) -> str:
    """The LLVM IR of a program, the same for the same program; its log messages are appended to ``messages``.

    :raises UnsupportedError: the program uses what this back end cannot do.
    """
    program = layout.program
    unit = Unit(messages=messages)
    unit.module.triple = binding.get_default_triple()
    calculations = Calculations(unit, layout)
    finders, changes = {}, {}
    for name, table in layout.tables.items():
        if table.kind != "none":
            writer = TableWriter(unit, layout, table)
            finders[name] = writer.find()
            changes[table.number] = (writer.change(add=True), writer.change(add=False))
    parse = ParserWriter(unit, layout, calculations, drop_port).write()
    ingress, egress = (
        PipelineWriter(unit, layout, calculations, finders, drop_port, _pipeline(program, name)).write()
        for name in ("ingress", "egress")
    )
    stages = Stages(
        parse,
        write_verify(unit, layout, calculations),
        ingress,
        egress,
        write_deparser(unit, layout, calculations, drop_port),
    )
    process = Replication(unit, layout, stages, drop_port).write()
    _write_batch(unit, layout, process)
    apply = write_apply(unit, layout, changes)
    LoopWriter(unit, layout, process, apply).write()
    return str(unit.module)


def _pipeline(program: ir.Program, name: str) -> ir.Pipeline:
    return program.pipelines.get(name) or ir.Pipeline(name, None, {}, ())


def _write_batch(unit: Unit, layout: Layout, process: Any) -> None:
    """``u64 run_batch(region*, inputs*, u64 count, u64 now)``."""
    function = unit.function("run_batch", I64, PTR, PTR, I64, I64, internal=False)
    emit = Emitter(unit, function)
    region, inputs, count, now = function.args
    b = emit.b
    outputs = emit.at(region, layout.control + Control.OUTPUT_COUNT)
    arena = emit.at(region, layout.control + Control.ARENA_USED)
    emit.store(i64(0), outputs, 8)
    emit.store(i64(0), arena, 8)
    with emit.count(count) as i:
        crowded = b.icmp_unsigned(">", emit.load(outputs, 64, 8), i64(Layout.OUTPUTS - Layout.MOST_PASSES))
        full = b.icmp_unsigned(">", emit.load(arena, 64, 8), i64(Layout.ARENA_FULL))
        with emit.when(b.or_(crowded, full), likely=False):
            b.ret(i)
        item = emit.at(inputs, b.mul(i, i64(Input.SIZE)))
        port = emit.resize(emit.load(emit.at(item, Input.PORT), 64, 8), 32)
        size = emit.load(emit.at(item, Input.FRAME_SIZE), 64, 8)
        emit.call(process, region, emit.load_pointer(emit.at(item, Input.FRAME)), size, port, now)
    b.ret(count)
