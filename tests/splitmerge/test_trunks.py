"""Ways between switches: shortest, the same everywhere, free of loops; and what cannot be is refused by name."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmerge.errors import BadInput
from splitmerge.trunks import Graph, Trunk, place_of, split_place

RING = (Trunk("a", 1, "b", 1), Trunk("b", 2, "c", 2), Trunk("c", 3, "d", 3), Trunk("d", 4, "a", 4))


@pytest.mark.parametrize(
    ("source", "destination", "way"),
    [("a", "b", "ab"), ("a", "c", "abc"), ("c", "a", "cba"), ("b", "d", "bad"), ("d", "a", "da")],
)
def test_ways_around_a_ring_are_the_shortest_and_of_two_the_one_named_first(
    source: str, destination: str, way: str
) -> None:
    assert "".join(Graph("abcd", RING).way(source, destination)) == way


def test_the_smaller_port_of_two_trunks_is_taken() -> None:
    graph = Graph("ab", [Trunk("a", 9, "b", 5), Trunk("b", 7, "a", 3)])
    assert (graph.port("a", "b"), graph.port("b", "a")) == (3, 5)


@st.composite
def networks(draw: st.DrawFn) -> tuple[str, list[Trunk]]:
    """Connected: every switch has a trunk to an earlier one, and there are some more."""
    count = draw(st.integers(1, 9))
    names = "abcdefghi"[:count]
    joined = [(i, draw(st.integers(0, i - 1))) for i in range(1, count)]
    if count > 1:
        pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda ends: ends[0] != ends[1])
        joined += draw(st.lists(pair, max_size=8))
    return names, [Trunk(names[a], 2 * i + 1, names[b], 2 * i + 2) for i, (a, b) in enumerate(joined)]


@given(networks())
def test_every_way_ends_where_it_should_and_is_as_short_as_any(network: tuple[str, list[Trunk]]) -> None:
    names, trunks = network
    graph = Graph(names, trunks)
    near = {name: {t.b if t.a == name else t.a for t in trunks if name in (t.a, t.b)} for name in names}
    for destination in names:
        distance = {destination: 0}
        for length in range(1, len(names)):
            ring = {other for name in distance for other in near[name]} - distance.keys()
            distance |= dict.fromkeys(ring, length)
        for source in names:
            way = graph.way(source, destination)
            assert (way[0], way[-1], len(way) - 1) == (source, destination, distance[source])
            assert all(there in near[here] for here, there in itertools.pairwise(way))


@pytest.mark.parametrize(
    ("switches", "trunks", "message"),
    [
        ("ab", [], "switch 'b': no trunk leads from it to 'a' (add a trunk)"),
        ("abc", [Trunk("a", 1, "b", 1)], "switch 'c': no trunk leads from it to 'a'"),
        ("ab", [Trunk("a", 1, "z", 1)], "trunk a:1 – z:1: there is no switch 'z' (one of: a, b)"),
        ("ab", [Trunk("a", 1, "a", 2)], "trunk a:1 – a:2: leads from a switch to itself"),
        ("ab", [Trunk("a", 1, "b", 1), Trunk("b", 1, "a", 2)], "port 1 of b has a trunk already"),
        ("ab", [Trunk("a", 0, "b", 1)], "trunk a:0 – b:1: port 0 (1 to 509)"),
        ("aa", [], "switches: two have one name"),
        ("", [], "switches: 0 of them"),
    ],
)
def test_what_makes_no_network_is_refused(switches: str, trunks: list[Trunk], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        Graph(switches, trunks)
    assert message in str(refused.value)


@given(st.integers(0, 127), st.integers(1, 509))
def test_places_are_switch_and_port(position: int, port: int) -> None:
    assert split_place(place_of(position, port)) == (position, port)
    assert place_of(0, port) == port
