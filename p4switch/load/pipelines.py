"""Pipelines: tables, conditionals, action calls and action profiles."""

from p4switch import ir
from p4switch.errors import LoadError, UnsupportedError
from p4switch.ir import MatchKind
from p4switch.load import schema
from p4switch.load.actions import check_reference
from p4switch.load.expressions import ExpressionLoader
from p4switch.load.places import index, lookup, number, source, unsigned

_KINDS = {kind.value: kind for kind in MatchKind} | {"valid": MatchKind.EXACT}
_TABLE_TYPES = {"simple": (False, False), "indirect": (True, False), "indirect_ws": (True, True)}
_HIT, _MISS = "__HIT__", "__MISS__"


class PipelineLoader:
    """Reads one program's pipelines."""

    def __init__(
        self, expressions: ExpressionLoader, actions: dict[int, ir.Action], meters: dict[str, ir.MeterArray]
    ) -> None:
        self._expressions = expressions
        self._actions = actions
        self._meters = meters

    def pipeline(self, place: str, raw: schema.Pipeline) -> ir.Pipeline:
        """:raises LoadError: a node is malformed, there twice, or missing; or the graph has a loop."""
        profiles = tuple(
            self._profile(f"{place}.action_profiles[{i}]", item) for i, item in enumerate(raw.action_profiles)
        )
        by_name = index(f"{place}.action_profiles", profiles, lambda item: item.name, "action profiles")
        nodes: list[ir.Node] = []
        nodes += (self._table(f"{place}.tables[{i}]", item, by_name) for i, item in enumerate(raw.tables))
        nodes += (self._conditional(f"{place}.conditionals[{i}]", item) for i, item in enumerate(raw.conditionals))
        for i, item in enumerate(raw.action_calls):
            if check_reference(f"{place}.action_calls[{i}]", item.action_id, self._actions).params:
                raise LoadError(f"{place}.action_calls[{i}]", "the action takes arguments")
            nodes.append(ir.ActionCallNode(item.name, item.action_id, item.next_node))
        graph = index(place, nodes, lambda node: node.name, "nodes")
        if raw.init_table is not None:
            lookup(f"{place}.init_table", raw.init_table, graph, "node")
        _check_graph(place, graph)
        return ir.Pipeline(raw.name, raw.init_table, graph, profiles)

    def _conditional(self, place: str, raw: schema.Conditional) -> ir.Conditional:
        condition = self._expressions.condition(f"{place}.expression", raw.expression)
        return ir.Conditional(raw.name, condition, raw.true_next, raw.false_next, source(raw.source_info))

    def _profile(self, place: str, raw: schema.ActionProfile) -> ir.ActionProfile:
        selector = None
        if raw.selector is not None:
            inputs = tuple(
                self._expressions.data(f"{place}.selector.input[{i}]", {"type": item.type, "value": item.value})
                for i, item in enumerate(raw.selector.input)
            )
            if not all(isinstance(item, ir.FieldRef) for item in inputs):
                raise LoadError(f"{place}.selector.input", "a selector's inputs are fields")
            selector = ir.Selector(raw.selector.algo, inputs)
        return ir.ActionProfile(raw.id, raw.name, raw.max_size, selector)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _table(self, place: str, raw: schema.Table, profiles: dict[str, ir.ActionProfile]) -> ir.Table:
        if raw.type not in _TABLE_TYPES:
            raise UnsupportedError(f"table type {raw.type}", str(source(raw.source_info) or place))
        indirect, with_selector = _TABLE_TYPES[raw.type]
        profile = raw.action_profile or raw.act_prof_name if indirect else None
        if indirect:
            found = lookup(f"{place}.action_profile", profile, profiles, "action profile")
            if with_selector and found.selector is None:
                raise LoadError(place, f"action profile {profile!r} has no selector")
        if raw.direct_meters is not None:
            lookup(f"{place}.direct_meters", raw.direct_meters, self._meters, "meter array")
        keys = tuple(self._key(f"{place}.key[{i}]", key) for i, key in enumerate(raw.key))
        action_ids = self._action_ids(place, raw)
        if raw.max_size < 0:
            raise LoadError(f"{place}.max_size", "a size is not negative")
        by_result = _HIT in raw.next_tables or _MISS in raw.next_tables
        hit, miss = raw.next_tables.get(_HIT, raw.base_default_next), raw.next_tables.get(_MISS, raw.base_default_next)
        return ir.Table(
            id=raw.id,
            name=raw.name,
            match_kind=_kind(f"{place}.match_type", raw.match_type),
            keys=keys,
            action_ids=action_ids,
            size=max(raw.max_size, len(raw.entries or ())),
            with_counters=raw.with_counters,
            direct_meter=raw.direct_meters,
            support_timeout=raw.support_timeout,
            profile=profile,
            with_selector=with_selector,
            default=self._default(f"{place}.default_entry", raw.default_entry, action_ids),
            entries=self._entries(place, raw, keys, action_ids),
            const_entries=bool(raw.entries),
            next_by_result=by_result,
            next_by_action={} if by_result else self._next(place, raw, action_ids),
            next_hit=hit,
            next_miss=miss,
            base_default_next=raw.base_default_next,
            source=source(raw.source_info),
        )

    def _next(self, place: str, raw: schema.Table, action_ids: tuple[int, ...]) -> dict[int, str | None]:
        names = {self._actions[action_id].name for action_id in action_ids}
        for name in raw.next_tables:
            if name not in names:
                raise LoadError(f"{place}.next_tables", f"{name!r} is no action of the table")
        return {
            action_id: raw.next_tables.get(self._actions[action_id].name, raw.base_default_next)
            for action_id in action_ids
        }

    def _action_ids(self, place: str, raw: schema.Table) -> tuple[int, ...]:
        if raw.action_ids is not None:
            for action_id in raw.action_ids:
                check_reference(f"{place}.action_ids", action_id, self._actions)
            ids = raw.action_ids
        else:
            by_name = {action.name: action.id for action in self._actions.values()}
            ids = [lookup(f"{place}.actions", name, by_name, "action") for name in raw.actions]
        index(f"{place}.action_ids", ids, lambda action_id: self._actions[action_id].name, "actions of the table")
        return tuple(ids)

    def _key(self, place: str, raw: schema.Key) -> ir.Key:
        kind = _kind(f"{place}.match_type", raw.match_type)
        path = [raw.target, ir.VALID] if raw.match_type == "valid" and isinstance(raw.target, str) else raw.target
        target = self._expressions.headers.field(f"{place}.target", path)
        field = self._expressions.headers.headers[target.header].type.field(target.field)
        if field is not None and field.varbit:
            raise LoadError(place, "a field of variable length is no key")
        bits = field.width if field else 1
        mask = None if raw.mask is None else number(f"{place}.mask", raw.mask) & ((1 << bits) - 1)
        return ir.Key(raw.name or f"{target.header}.{target.field}", kind, target, bits, mask)

    def _default(
        self, place: str, raw: schema.DefaultEntry | None, action_ids: tuple[int, ...]
    ) -> ir.DefaultEntry | None:
        if raw is None:
            return None
        if raw.action_id not in action_ids:
            raise LoadError(place, f"action {raw.action_id} is not one of the table's")
        args = self._args(place, raw.action_id, raw.action_data)
        return ir.DefaultEntry(raw.action_id, args, raw.action_const, raw.action_entry_const)

    def _args(self, place: str, action_id: int, data: list[str]) -> tuple[int, ...]:
        params = self._actions[action_id].params
        if len(data) != len(params):
            raise LoadError(f"{place}.action_data", f"{len(data)} arguments instead of {len(params)}")
        return tuple(
            unsigned(f"{place}.action_data[{i}]", text, param.width)
            for i, (text, param) in enumerate(zip(data, params, strict=True))
        )

    def _entries(
        self, place: str, raw: schema.Table, keys: tuple[ir.Key, ...], action_ids: tuple[int, ...]
    ) -> tuple[ir.ConstEntry, ...]:
        entries = raw.entries or []
        # In the JSON the lowest number wins, in P4Runtime the largest.
        top = max((entry.priority for entry in entries), default=0) + 1
        with_priority = any(key.kind in (MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL) for key in keys)
        found = []
        for i, entry in enumerate(entries):
            where = f"{place}.entries[{i}]"
            if len(entry.match_key) != len(keys):
                raise LoadError(where, f"{len(entry.match_key)} match fields instead of {len(keys)}")
            match = tuple(
                _match(f"{where}.match_key[{j}]", part, key)
                for j, (part, key) in enumerate(zip(entry.match_key, keys, strict=True))
            )
            if entry.action_entry.action_id not in action_ids:
                raise LoadError(f"{where}.action_entry", "the action is not one of the table's")
            args = self._args(f"{where}.action_entry", entry.action_entry.action_id, entry.action_entry.action_data)
            priority = top - entry.priority if with_priority else 0
            found.append(ir.ConstEntry(match, priority, entry.action_entry.action_id, args))
        return tuple(found)


def _kind(place: str, name: str) -> MatchKind:
    if name not in _KINDS:
        raise UnsupportedError(f"match kind {name}", place)
    return _KINDS[name]


def _match(place: str, raw: schema.MatchKey, key: ir.Key) -> int | tuple[int, int] | None:
    ones = (1 << key.width) - 1
    if raw.match_type == "valid" and isinstance(raw.key, bool):
        return int(raw.key)
    if raw.match_type != key.kind:
        raise LoadError(place, f"the key's match kind is {key.kind}, not {raw.match_type}")
    match key.kind:
        case MatchKind.EXACT:
            return unsigned(place, raw.key, key.width)
        case MatchKind.LPM:
            if raw.prefix_length is None or not 0 <= raw.prefix_length <= key.width:
                raise LoadError(place, f"a prefix_length of 0..{key.width} is needed")
            mask = ones ^ (ones >> raw.prefix_length)
            return unsigned(place, raw.key, key.width) & mask, raw.prefix_length
        case MatchKind.RANGE:
            low, high = unsigned(place, raw.start, key.width), unsigned(place, raw.end, key.width)
            if low > high:
                raise LoadError(place, "the range's start is above its end")
            return low, high
    mask = unsigned(place, raw.mask, key.width) if raw.mask is not None else ones
    value = unsigned(place, raw.key, key.width) & mask
    if key.kind is MatchKind.TERNARY:
        return value, mask
    return value if mask == ones else None


def _check_graph(place: str, nodes: dict[str, ir.Node]) -> None:
    """:raises LoadError: a next node does not exist, or the graph has a loop."""
    finished: set[str] = set()
    for start in nodes:
        path = [(start, iter(successors(nodes[start])))] if start not in finished else []
        on_path = {start}
        while path:
            name, following = path[-1]
            step = next(following, None)
            if step is None:
                finished.add(name)
                on_path.discard(name)
                path.pop()
            elif step not in nodes:
                raise LoadError(place, f"{name!r} goes to {step!r}, which does not exist")
            elif step in on_path:
                raise LoadError(place, f"the nodes {name!r} and {step!r} are in a loop")
            elif step not in finished:
                on_path.add(step)
                path.append((step, iter(successors(nodes[step]))))


def successors(node: ir.Node) -> list[str]:
    """Names of the nodes that may follow, each once, without the end of the pipeline."""
    match node:
        case ir.Table():
            names = [*node.next_by_action.values(), node.base_default_next]
            if node.next_by_result:
                names = [node.next_hit, node.next_miss]
        case ir.Conditional():
            names = [node.true_next, node.false_next]
        case ir.ActionCallNode():
            names = [node.next]
    return list(dict.fromkeys(name for name in names if name is not None))
