"""The simulator: traces, what becomes of them, and the page that explains it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.elasticity import POLICIES, ElasticityConfig, Keep, Observation, Rebalance, Recommendation
from orchestrator.simulator import TRACES, Model, Result, Simulation, read_trace, samples
from orchestrator.simulator.report import blocks, svg, thinned, write_csv, write_png
from orchestrator.simulator.simulation import CAPACITY_LEAST
from orchestrator.simulator.trace import ENDED, RATE_MOST, TIME_MOST, Change
from splitmerge.errors import BadInput

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "elasticity.md").read_text()


def least(loads: dict[int, int]) -> int:
    return min(loads, key=lambda replica: (loads[replica], replica))


def simulate(
    changes: list[Change],
    config: ElasticityConfig | None = None,
    model: Model | None = None,
    choose: Callable[[dict[int, int]], int] | None = least,
) -> Result:
    return Simulation(config or ElasticityConfig(), model or Model(), choose).run(changes)


def many(count: int, rate: float, until: float) -> list[Change]:
    """So many flows from the beginning; nothing more until then."""
    return [(0.0, f"f{number}", rate) for number in range(count)] + [(until, "last", rate), (until, "last", ENDED)]


def actions(result: Result) -> list[tuple[float, str]]:
    return [(each.time, each.action) for each in result.actions]


# -- traces --------------------------------------------------------------------------------------------------------

GOOD = [
    ("time,flow,packets\n0,a,5\n1.5,a,0\n", [(0, "a", 5), (1.5, "a", ENDED)]),
    ("flow , packets,time\na,5,3\n\n", [(3, "a", 5)]),
    ("time,flow,event\n0,a,start\n1,a,end\n1,a,start\n", [(0, "a", 10), (1, "a", ENDED), (1, "a", 10)]),
    ("time,flow,event,packets\n0,a,start,7\n1,b,start,\n2,a,end,\n", [(0, "a", 7), (1, "b", 10), (2, "a", ENDED)]),
    ("\ufefftime,flow,packets\r\n0,\"a,b\",5\r\n", [(0, "a,b", 5)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_a_trace_is_read(tmp_path: Path, text: str, expected: list[Change]) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert list(read_trace(tmp_path / "t.csv", 10)) == expected


BAD = [
    ("", "t.csv: is empty", "time,flow,packets"),
    ("\n", "line 1, column all: the header is", "time,flow,packets"),
    ("time,flow\n", "line 1, column all", "time,flow,event"),
    ("time,flow,packets\n", "line 1, column time: there are no rows", "at least one"),
    ("time,flow,packets\n0,a,5\nsoon,a,5\n", "line 3, column time: 'soon' is no number", "12.5"),
    ("time,flow,packets\n0,a,many\n", "line 2, column packets: 'many'", "a number"),
    ("time,flow,packets\n0,a,-1\n", "line 2, column packets: '-1' is out of range", "0 or more"),
    ("time,flow,packets\n-1,a,1\n", "line 2, column time: '-1' is out of range", "0 or more"),
    ("time,flow,packets\nnan,a,1\n", "line 2, column time: 'nan' is out of range", "0 or more"),
    ("time,flow,packets\n0,a,inf\n", "line 2, column packets: 'inf' is out of range", "0 or more"),
    ("time,flow,packets\n0,a,1\n0,b,1e308\n", "line 3, column packets: '1e308' is out of range", "at most 1e+12"),
    ("time,flow,event,packets\n0,a,start,1e308\n", "line 2, column packets: '1e308' is out of range", "at most 1e+12"),
    ("time,flow,packets\n1e300,a,1\n", "line 2, column time: '1e300' is out of range", "at most 1e+15"),
    ("time,flow,packets\n5,a,1\n4,a,1\n", "line 3, column time: 4 comes after 5", "sort the rows"),
    ("time,flow,packets\n5,,1\n", "line 2, column flow: empty", "name"),
    ("time,flow,packets\n5,a\n", "line 2, column all: 2 fields, the header has 3", "each column"),
    ("time,flow,event\n5,a,begin\n", "line 2, column event: 'begin'", "start or end"),
    ("time,flow,event\n5,a,end\n", "line 2, column flow: 'a' has not begun", "one start"),
    ("time,flow,event\n5,a,start\n6,a,start\n", "line 3, column flow: 'a' has begun already", "one start"),
    ("time,flow,event\n5,a,start\n4,a,end\n", "line 3, column time: 4 comes after 5", "sort"),
    ('time,flow,packets\n0,"a,5\n', "not CSV", "time,flow,packets"),
]


@pytest.mark.parametrize(("text", "where", "remedy"), BAD)
def test_a_bad_trace_says_where_and_what_to_do(tmp_path: Path, text: str, where: str, remedy: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadInput) as caught:
        list(read_trace(tmp_path / "t.csv", 10))
    assert where in f"{caught.value.where}: {caught.value.problem}" and remedy in caught.value.remedy


@given(st.binary(max_size=200) | st.text('0123456789.,aflowtimepckvnsr\n-"e ', max_size=200).map(str.encode))
def test_any_file_is_a_trace_or_bad_input(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for header in (b"", b"time,flow,packets\n", b"time,flow,event\n"):
        path.write_bytes(header + raw)
        try:
            rows = list(read_trace(path, 10))
        except BadInput:
            continue
        assert rows == sorted(rows, key=lambda row: row[0])


def test_traces_that_come_along_are_what_their_maker_makes() -> None:
    assert {name: path.read_text() for name, path in TRACES.items()} == {
        "burst": samples.burst(),
        "day": samples.day(),
    }
    for name in TRACES:
        assert len(list(read_trace(Path(name), 10))) > 500
    with pytest.raises(BadInput, match="burst, day"):
        list(read_trace(Path("none"), 10))


# -- what becomes of them ------------------------------------------------------------------------------------------


def test_a_load_that_one_replica_carries() -> None:
    result = simulate(many(50, 10, 20))
    assert (result.seconds, result.replica_seconds, result.overload_seconds, result.actions) == (20, 20, 0, [])
    assert round(result.utilisation, 6) == 0.5 and len(result.looks) == 20
    assert {(look.replicas, look.flows, look.packets) for look in result.looks} == {(1, 50, 500)}


def test_an_overload_is_counted_to_the_moment() -> None:
    rows: list[Change] = [(0, "a", 800), (3, "b", 400), (5.5, "b", ENDED), (10, "a", ENDED)]
    result = simulate(rows)
    assert (result.overload_seconds, result.excess_packets) == (2.5, 500)
    assert round(result.utilisation, 6) == round((800 * 7.5 + 1000 * 2.5) / 10_000, 6)


def test_a_split_takes_the_time_that_the_model_says() -> None:
    config = ElasticityConfig(policy="flow-count", consecutive=3)
    result = simulate(many(80, 1, 30), config, Model(start_up=4.0, move_time=0.5))
    assert actions(result) == [(3, "split")]
    assert result.actions[0].seconds == 4.5 and result.actions[0].moved == 40
    assert [look.replicas for look in result.looks[:8]] == [1, 1, 1, 1, 1, 1, 2, 2]
    assert result.replica_seconds == 30 + 23


def test_without_rebalancing_the_new_one_gets_new_flows_only() -> None:
    config = ElasticityConfig(policy="flow-count", rebalance=False, max_replicas=2)
    rows = [*many(80, 20, 20)[:-2], *((20.0, f"new{number}", 20.0) for number in range(20)), (40.0, "last", 1.0)]
    result = simulate(rows, config)
    assert result.moved == 0 and result.most_replicas == 2
    assert result.looks[-1].highest == 1.6 and result.overload_seconds == 40, "the hotspot stays (§5.2)"
    assert simulate(rows, ElasticityConfig(policy="flow-count", max_replicas=2)).overload_seconds < 6


@pytest.mark.parametrize(("scale_in", "seconds"), [("move", 0.1), ("drain", 50)])
def test_a_merge_takes_the_time_of_a_move_or_of_the_last_flow(scale_in: str, seconds: float) -> None:
    config = ElasticityConfig(policy="average-flows", scale_in=scale_in)  # type: ignore[arg-type]
    rows: list[Change] = [(0.0, f"f{number}", 1.0) for number in range(40)]
    rows += [(53.0, f"f{number}", ENDED) for number in range(40)] + [(70.0, "last", 1.0)]
    result = simulate(rows, config, Model(replicas=2))
    (merge,) = result.actions
    assert (merge.time, merge.action) == (3, "merge") and abs(merge.seconds - seconds) <= 1
    assert merge.moved == (20 if scale_in == "move" else 0)
    assert result.looks[10].ending == (scale_in == "drain") and result.looks[-1].replicas == 1


def test_what_is_not_over_at_the_end_is_told_too() -> None:
    config = ElasticityConfig(policy="average-flows", scale_in="drain")
    result = simulate(many(40, 1, 30), config, Model(replicas=2))
    assert [(each.action, each.seconds) for each in result.actions] == [("merge", 27)]


def test_headroom_adds_the_replica_before_the_load_needs_it() -> None:
    ramp: list[Change] = [(number / 2, f"f{number}", 10.0) for number in range(240)]
    slow = Model(start_up=15.0, capacity=650.0)
    late, early = (
        simulate(ramp, ElasticityConfig(policy="flow-count", headroom=headroom), slow) for headroom in (0, 1)
    )
    assert early.excess_packets < late.excess_packets / 2 and early.actions[0].time < late.actions[0].time
    assert early.actions[0].why.startswith("in 18.0 s: ")


def test_uneven_load_is_evened_without_another_replica() -> None:
    changes = [*many(60, 10, 5)[:-2], *((5.0, f"f{number}", ENDED) for number in range(0, 60, 2)), (30.0, "x", 1.0)]
    config = ElasticityConfig(even_above=1.5)
    result = simulate(changes, config, Model(replicas=2))
    assert [each.action for each in result.actions] == [Rebalance.__name__.lower()]
    assert result.most_replicas == 2 and result.looks[20].highest == result.looks[20].utilisation


def test_by_hash_buckets_move_and_load_is_kept() -> None:
    result = simulate(many(500, 2, 60), ElasticityConfig(policy="flow-count", max_replicas=16), choose=None)
    assert result.looks[-1].packets == 1000 and result.looks[-1].flows == 500
    assert result.looks[-1].replicas >= 500 / 60 and result.moved > 0


@pytest.mark.parametrize("rate", [math.inf, math.nan, 1e308, -1.0])
def test_a_rate_of_flows_that_say_none_is_bounded_too(tmp_path: Path, rate: float) -> None:
    (tmp_path / "t.csv").write_text("time,flow,event\n0,a,start\n")
    with pytest.raises(BadInput, match=r"--rate .* is out of range .0 to 1e.12 packets per second"):
        list(read_trace(tmp_path / "t.csv", rate))


@pytest.mark.parametrize("figures", [{"capacity": 1e-308}, {"capacity": math.inf}, {"start_up": 1e308}])
def test_a_model_whose_figures_would_be_infinite_is_refused(figures: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=r"--capacity|--start-up"):
        Model(**figures)  # type: ignore[arg-type]


def test_the_largest_load_there_may_be_gives_figures() -> None:
    rows: list[Change] = [(0.0, f"f{number}", RATE_MOST) for number in range(1000)] + [(3.0, "last", 1.0)]
    config = ElasticityConfig(policy="utilisation", settings={"by": "packets", "capacity": CAPACITY_LEAST})
    result = simulate(rows, config, Model(capacity=CAPACITY_LEAST, start_up=TIME_MOST))
    assert all(map(math.isfinite, (result.excess_packets, result.looks[-1].highest, result.utilisation)))
    assert json.loads(json.dumps(msgspec.to_builtins(result), allow_nan=False))["overload_seconds"] == 3


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A module whose policy ``Slow`` answers once this is set, and ``Leaves`` calls ``sys.exit``."""
    go = threading.Event()

    class Slow:
        def recommend(self, seen: Observation) -> Recommendation:
            go.wait(30)
            return Keep()

    class Leaves:
        def recommend(self, seen: Observation) -> Recommendation:
            sys.exit(3)

    module = types.ModuleType("slow_policies")
    vars(module).update(Slow=Slow, Leaves=Leaves)
    monkeypatch.setitem(sys.modules, "slow_policies", module)
    yield go
    go.set()


def test_a_policy_that_is_too_slow_ends_the_simulation(slow: threading.Event) -> None:
    begun = time.monotonic()
    with pytest.raises(BadInput, match=r"slow_policies:Slow\.recommend: has not answered within 1 s .make it quicker"):
        simulate(many(1, 1, 5), ElasticityConfig(policy="slow_policies:Slow"))
    assert time.monotonic() - begun < 10
    slow.set()
    assert len(simulate(many(1, 1, 5), ElasticityConfig(policy="slow_policies:Slow")).looks) == 5


def test_a_policy_that_ends_the_process_has_failed(slow: threading.Event) -> None:
    with pytest.raises(BadInput, match=r"Leaves\.recommend: SystemExit: 3 .line \d+. .correct the policy"):
        simulate(many(1, 1, 5), ElasticityConfig(policy="slow_policies:Leaves"))


def test_too_many_looks_are_refused() -> None:
    with pytest.raises(BadInput, match="times are in seconds"):
        simulate(many(1, 1, 2e6), ElasticityConfig(interval=0.5))


ROWS = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30), st.sampled_from([ENDED, 1.0, 20.0, 300.0])), max_size=60)
CONFIGS = st.builds(
    lambda name, least, even, rebalance, end, headroom: ElasticityConfig(
        policy=name, min_replicas=least, max_replicas=5, consecutive=1, cool_down=2, even_above=even,
        settings={"by": "packets", "capacity": 1000} if name in ("utilisation", "target") else {},
        rebalance=rebalance, scale_in=end, headroom=headroom, even_by="packets" if headroom else "flows",
    ),
    st.sampled_from(sorted(POLICIES)), st.integers(1, 3), st.sampled_from([0, 1.2]), st.booleans(),
    st.sampled_from(["move", "drain"]), st.sampled_from([0, 2]),
)  # fmt: skip


@given(ROWS, CONFIGS, st.booleans(), st.floats(0, 3), st.floats(0, 1))
def test_nothing_is_lost_or_made_whatever_the_policy_does(
    steps: list[tuple[float, int, float]], config: ElasticityConfig, by_hash: bool, start_up: float, moving: float
) -> None:
    rows: list[Change] = [(0.0, "first", 1.0)]
    for after, flow, rate in steps:
        rows.append((rows[-1][0] + after, f"f{flow}", rate))
    rows.append((rows[-1][0] + 5, "first", 2.0))
    model = Model(start_up=start_up, move_time=moving)
    result = simulate(rows, config, model, None if by_hash else least)
    offered, rates = 0.0, dict[str, float]()
    for (at, flow, rate), (then, _, _) in zip(rows, [*rows[1:], rows[-1]], strict=True):
        rates[flow] = max(0.0, rate)
        offered += sum(rates.values()) * (then - at)
    assert result.utilisation * result.replica_seconds * 1000 + result.excess_packets == pytest.approx(offered)
    assert all(config.min_replicas <= look.replicas <= 5 for look in result.looks)
    times = [each.time for each in result.actions]
    assert all(later - sooner >= 2 for sooner, later in pairwise(times))
    assert result == simulate(rows, config, model, None if by_hash else least), "not deterministic"


def test_a_hundred_thousand_rows_take_a_second_at_most() -> None:
    """A million may take ten; a busy machine is allowed three times that."""
    rows = [(number / 1000, f"f{number * 7919 % 5000}", float(number % 3) * 10 or ENDED) for number in range(100_000)]
    begun = time.process_time()
    simulate(rows, ElasticityConfig(policy="flow-count", settings={"split_above": 1000}), choose=None)
    assert time.process_time() - begun < 3


def test_a_thousand_replicas_to_begin_with_take_a_second_at_most() -> None:
    """A busy machine is allowed four times that."""
    begun = time.process_time()
    result = simulate(many(1024, 1, 1), model=Model(replicas=1000), choose=None)
    assert time.process_time() - begun < 4
    assert result.looks[0].replicas == 1000 and result.looks[0].packets == 1024


# -- reports -------------------------------------------------------------------------------------------------------


def test_a_timeline_is_written(tmp_path: Path) -> None:
    result = simulate(many(50, 10, 3))
    write_csv(result, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[:3] == [
        "time,replicas,ending,flows,packets,utilisation,highest",
        "1.0,1,0,50,500.0,0.5,0.5",
        "2.0,1,0,50,500.0,0.5,0.5",
    ]
    with pytest.raises(BadInput, match="can be written"):
        write_csv(result, tmp_path / "no" / "out.csv")
    assert (blocks([0, 4, 8]), blocks([]), thinned([1, 5, 2, 3], 2)) == (" ▄█", "", [5, 3])


def test_a_png_is_drawn_or_the_extra_is_named(tmp_path: Path) -> None:
    result = simulate(many(50, 10, 3))
    try:
        write_png(result, 1000, "x", tmp_path / "out.png")
    except BadInput as error:
        assert "splitmerge[figures]" in error.remedy and "matplotlib" not in sys.modules
        return
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


# -- the page ------------------------------------------------------------------------------------------------------


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).parent / "splitmerge"), "simulate", *arguments]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_the_students_policy_of_the_page_works(tmp_path: Path) -> None:
    match = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    (tmp_path / "student.py").write_text(match[1])
    assert "splitmerge simulate burst --policy student:Careful --set most=400" in PAGE
    result = command("burst", "--policy", "student:Careful", "--set", "most=400", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert [each["action"] for each in told["actions"]] == ["split", "split", "split", "merge", "merge"]
    assert told["actions"][0]["why"] == "replica 1 is nearly full" and told["overload_seconds"] == 0
    people = command("burst", "--policy", "student:Careful", "--set", "most=400", cwd=tmp_path)
    assert "5 actions" in people.stdout and "nearly full" in people.stdout
    wrong = command("burst", "--policy", "student:Careful", "--set", "least=400", cwd=tmp_path)
    assert wrong.returncode == 1 and "it has: most" in wrong.stderr
    (tmp_path / "student.py").write_text(match[1].replace("seen.count", "seen.cuont"))
    broken = command("burst", "--policy", "student:Careful", cwd=tmp_path)
    assert broken.returncode == 1 and "Careful.recommend" in broken.stderr and "(line 16)" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_the_pages_picture_and_figures_are_of_this_code() -> None:
    config = ElasticityConfig(policy="utilisation", settings={"by": "packets", "capacity": 1000})
    result = Simulation(config, Model(), None).run(read_trace(Path("day"), 10))
    title = f"day, utilisation: {result.most_replicas} replicas at most, {result.utilisation:.0%} used"
    assert (DOCS / "elasticity.svg").read_text() == svg(result, 1000, title)
    for headroom in (0, 1):
        config = ElasticityConfig(policy="flow-count", headroom=headroom)
        told = Simulation(config, Model(650, start_up=20), None).run(read_trace(Path("burst"), 10))
        assert f"| {told.overload_seconds:.1f} | {told.replica_seconds:.0f} |" in PAGE


def test_the_page_names_every_policy_and_key() -> None:
    for name in POLICIES:
        assert f"| `{name}`" in PAGE
    for key in ElasticityConfig.__struct_fields__:
        assert f"`{key}`" in PAGE or f"{key} =" in PAGE, key
