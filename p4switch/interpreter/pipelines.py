"""A pipeline as one function, ``<name>(f, p)``.

A node that only one other goes to is written inside that one's branch. The others (where branches join) start a block
behind a test of ``s``; as the graph has no loops and blocks stand in order, a packet falls from block to block.
"""

from collections import Counter

from p4switch import ir
from p4switch.interpreter.actions import can_inline, inline_action, may_exit
from p4switch.interpreter.calculations import concatenate
from p4switch.interpreter.context import Context
from p4switch.interpreter.expressions import Expressions
from p4switch.interpreter.writer import Writer
from p4switch.load.pipelines import successors

_DEEPEST = 12  # nested branches; a node below starts a block of its own


class PipelineWriter:
    """Writes one pipeline."""

    def __init__(self, context: Context, pipeline: ir.Pipeline, out: Writer) -> None:
        self._context = context
        self._pipeline = pipeline
        self._actions = context.state.program.actions
        self._e = Expressions(context.layout)
        self._out = out
        self._heads = {name: i for i, name in enumerate(_heads(pipeline, _order(pipeline)))}

    def write(self) -> None:
        """``def <pipeline>(f, p)``."""
        out = self._out
        with out.block(f"def {self._pipeline.name}(f, p)"):
            if len(self._heads) > 1:
                out.line("s = 0")
            for name, number in self._heads.items():
                if number == 0:
                    self._node(name)
                    continue
                with out.block(f"if s == {number}"):
                    self._node(name)
        out.line("")

    def _go(self, name: str | None) -> None:
        """What comes after a node, in the place where nothing else follows."""
        if name is None:
            self._out.line("return")
        elif name in self._heads:
            self._out.line(f"s = {self._heads[name]}")
        else:
            self._node(name)

    def _node(self, name: str) -> None:
        node, trace = self._pipeline.nodes[name], self._context.trace
        match node:
            case ir.Conditional():
                self._out.comment(f"{node.source or node.name}  {node.source.fragment if node.source else ''}")
                with self._out.block(f"if {self._e.test(node.expression)}"):
                    trace.condition(self._out, node, True)
                    self._go(node.true_next)
                with self._out.block("else"):
                    trace.condition(self._out, node, False)
                    self._go(node.false_next)
            case ir.ActionCallNode():
                self._call(node.action_id, (), "()")
                self._go(node.next)
            case ir.Table():
                self._table(node)

    def _call(self, action_id: int, args: tuple[int, ...], args_text: str) -> None:
        action = self._actions[action_id]
        if can_inline(action):
            inline_action(self._context, action, args, self._out)
            return
        call = f"action_{action_id}(f, p, {args_text})"
        if may_exit(action):
            with self._out.block(f"if {call}"):
                self._out.line("return")
        else:
            self._out.line(call)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _table(self, table: ir.Table) -> None:
        self._out.comment(f"table {table.name}  {table.source or ''}")
        default = table.default
        if not table.keys and default is not None and default.const_entry and table.profile is None:
            # p4c's stand-in for statements: it always does the same
            args = f"({''.join(f'{arg}, ' for arg in default.args)})"
            self._call(default.action_id, default.args, args)
            self._go(table.next_miss if table.next_by_result else table.next_by_action[default.action_id])
            return
        self._lookup(table)
        if table.profile is not None:
            self._indirect(table)
        else:
            self._direct(table)

    def _lookup(self, table: ir.Table) -> None:
        """``e``: the entry, None for a miss; counted if it is a hit."""
        out, trace = self._out, self._context.trace
        values = [self._key(key) for key in table.keys]
        trace.lookup(out, table, values)
        if not table.keys:
            out.line("e = None")
            return
        key = values[0] if len(values) == 1 else f"({', '.join(values)})"
        out.line(f"e = {self._context.finder(table.name)}({key})")
        trace.found(out, table, self._context.table(table.name))
        hit = []
        if table.with_counters:
            hit += ["e.packets += 1", "e.bytes += p.size"]
        if table.support_timeout:
            hit.append("e.last_hit_us = p.now")
        meter = self._context.state.program.meters[table.direct_meter] if table.direct_meter else None
        if meter is not None and meter.result is not None:
            units = "1" if meter.unit == "packets" else "p.size"
            hit.append(f"{self._e.place(meter.result)[0]} = e.meter.execute({units}, p.now)")
        if hit:
            with out.block("if e is not None"):
                for line in hit:
                    out.line(line)

    def _key(self, key: ir.Key) -> str:
        text = self._e.unsigned(key.target, key.width)
        return text if key.mask is None else f"({text} & {key.mask})"

    def _direct(self, table: ir.Table) -> None:
        out = self._out
        name = self._context.table(table.name)
        keep_result = table.next_by_result and table.next_hit != table.next_miss
        if keep_result:
            out.line("hit = e is not None")
        with out.block("if e is None"):
            out.line(f"e = {name}.default")
        with out.block("if e is None"):  # a table without default entry: nothing happens
            out.line("i = -1")
        with out.block("else"):
            out.line("i = e.action_id")
            self._run(table, "e.args")
        self._next(table, keep_result)

    def _indirect(self, table: ir.Table) -> None:
        out = self._out
        name = self._context.table(table.name)
        keep_result = table.next_by_result and table.next_hit != table.next_miss
        if keep_result:
            out.line("hit = e is not None")
        selector = self._selector(table)
        out.line(f"i, b = {name}.choose(e, {selector})")
        with out.block("if i >= 0"):
            self._run(table, "b")
        self._next(table, keep_result)

    def _selector(self, table: ir.Table) -> str:
        profile = next(item for item in self._pipeline.profiles if item.name == table.profile)
        if profile.selector is None or not table.with_selector:
            return "0"
        terms = []
        for item in profile.selector.inputs:
            assert isinstance(item, ir.FieldRef), "the loader saw to it"
            width = self._context.layout.field(item).width
            terms.append((self._e.unsigned(item, width), width))
        bits = sum(width for _, width in terms)
        function = self._context.hash(f"selector of {profile.name}", profile.selector.algorithm)
        return f"{function}(({concatenate(terms)}) << {-bits % 8}, {bits + -bits % 8})"

    def _run(self, table: ir.Table, args: str) -> None:
        self._context.trace.chosen(self._out, "i", args)
        call = f"actions[i](f, p, {args})"
        if any(may_exit(self._actions[action_id]) for action_id in table.action_ids):
            with self._out.block(f"if {call}"):
                self._out.line("return")
        else:
            self._out.line(call)

    def _next(self, table: ir.Table, keep_result: bool) -> None:
        """Where to go after the table's action; ``i`` is the action's id, -1 if there was none."""
        if keep_result:
            with self._out.block("if hit"):
                self._go(table.next_hit)
            with self._out.block("else"):
                self._go(table.next_miss)
            return
        if table.next_by_result:
            self._go(table.next_hit)
            return
        ways: dict[str | None, list[int]] = {}
        for action_id, following in table.next_by_action.items():
            ways.setdefault(following, []).append(action_id)
        ways.pop(table.base_default_next, None)  # these, and no action at all, come last
        if not ways:
            self._go(table.base_default_next)
            return
        for i, (following, ids) in enumerate(ways.items()):
            test = f"i == {ids[0]}" if len(ids) == 1 else f"i in ({', '.join(map(str, ids))})"
            with self._out.block(f"{'elif' if i else 'if'} {test}"):
                self._go(following)
        with self._out.block("else"):
            self._go(table.base_default_next)


def _order(pipeline: ir.Pipeline) -> list[str]:
    """Nodes that can be reached, each before those that follow it."""
    if pipeline.start is None:
        return []
    finished: list[str] = []
    seen = {pipeline.start}
    path = [(pipeline.start, iter(reversed(successors(pipeline.nodes[pipeline.start]))))]
    while path:
        name, following = path[-1]
        step = next(following, None)
        if step is None:
            finished.append(name)
            path.pop()
        elif step not in seen:
            seen.add(step)
            path.append((step, iter(reversed(successors(pipeline.nodes[step])))))
    return finished[::-1]


def _heads(pipeline: ir.Pipeline, order: list[str]) -> list[str]:
    """Nodes that start a block: the first, those where branches join, and those that would be nested too deep."""
    entering = Counter(name for node in order for name in successors(pipeline.nodes[node]))
    depths = dict.fromkeys(order, 0)
    heads = []
    for name in order:
        if name == pipeline.start or entering[name] != 1 or depths[name] > _DEEPEST:
            heads.append(name)
            depths[name] = 0
        for step in successors(pipeline.nodes[name]):
            depths[step] = depths[name] + 1
    return heads
