"""Every matcher against a search that is too simple to be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p4switch.ir import FieldRef, Key, MatchKind, Table
from p4switch.runtime.match import FieldMatch, Match, make_matcher

WIDTH = 4
KINDS = list(MatchKind)


class Rule:
    """The least that a matcher needs."""

    def __init__(self, match: Match, priority: int) -> None:
        self.match = match
        self.priority = priority


def table_of(kinds: list[MatchKind]) -> Table:
    keys = tuple(Key(f"k{i}", kind, FieldRef("h", f"f{i}"), WIDTH, None) for i, kind in enumerate(kinds))
    return Table(
        id=0, name="t", match_kind=MatchKind.EXACT, keys=keys, action_ids=(), size=100, with_counters=False,
        direct_meter=None, support_timeout=False, profile=None, with_selector=False, default=None, entries=(),
        const_entries=False, next_by_result=False, next_by_action={}, next_hit=None, next_miss=None,
        base_default_next=None, source=None,
    )  # fmt: skip


def fits(kind: MatchKind, match: FieldMatch, value: int) -> bool:
    match kind, match:
        case MatchKind.LPM, (prefix, length):
            return value >> (WIDTH - length) == prefix >> (WIDTH - length)
        case MatchKind.TERNARY, (wanted, mask):
            return value & mask == wanted
        case MatchKind.RANGE, (low, high):
            return low <= value <= high
    return match is None or match == value


@st.composite
def field_matches(draw: st.DrawFn, kind: MatchKind) -> FieldMatch:
    value = draw(st.integers(0, 15))
    match kind:
        case MatchKind.LPM:
            length = draw(st.integers(0, WIDTH))
            return value >> (WIDTH - length) << (WIDTH - length), length
        case MatchKind.TERNARY:
            mask = draw(st.integers(0, 15))
            return value & mask, mask
        case MatchKind.RANGE:
            return value, draw(st.integers(value, 15))
        case MatchKind.OPTIONAL:
            return draw(st.sampled_from([None, value]))
    return value


@st.composite
def rule_sets(draw: st.DrawFn) -> tuple[list[MatchKind], list[Rule]]:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    matches = draw(st.lists(st.tuples(*(field_matches(kind) for kind in kinds)), max_size=12, unique=True))
    return kinds, [Rule(match, priority + 1) for priority, match in enumerate(draw(st.permutations(matches)))]


def expected(kinds: list[MatchKind], rules: list[Rule], key: tuple[int, ...]) -> Rule | None:
    found = [
        rule
        for rule in rules
        if all(fits(kind, match, value) for kind, match, value in zip(kinds, rule.match, key, strict=True))
    ]
    needs_priority = {MatchKind.TERNARY, MatchKind.RANGE, MatchKind.OPTIONAL} & set(kinds)
    if needs_priority or kinds.count(MatchKind.LPM) != 1:
        return max(found, key=lambda rule: rule.priority, default=None)
    return max(found, key=lambda rule: rule.match[kinds.index(MatchKind.LPM)][1], default=None)  # type: ignore[index]


@given(rule_sets(), st.lists(st.tuples(*[st.integers(0, 15)] * 3), min_size=1, max_size=20), st.data())
def test_finds_what_a_plain_search_finds(
    rule_set: tuple[list[MatchKind], list[Rule]], keys: list[tuple[int, ...]], data: st.DataObject
) -> None:
    kinds, rules = rule_set
    matcher = make_matcher(table_of(kinds))  # type: ignore[var-annotated]  # of Rule
    for rule in rules:
        matcher.add(rule)
    for _ in range(2):
        for key in keys:
            wanted = key[: len(kinds)]
            assert matcher.find(wanted[0] if len(kinds) == 1 else wanted) is expected(kinds, rules, wanted)
        kept = data.draw(st.lists(st.sampled_from(rules), unique=True) if rules else st.just([]))
        for rule in [rule for rule in rules if rule not in kept]:
            matcher.remove(rule)
        rules = [rule for rule in rules if rule in kept]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_finds_nothing(kind: MatchKind) -> None:
    assert make_matcher(table_of([kind])).find(3) is None  # type: ignore[misc]
