"""Which buckets packets come in, while somebody asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from guestlib import Guest
from guestlib.engine import Engine
from guestlib.packets.census import LONGEST, MOST, Census
from splitmerge.messages import BucketCounts, CountBuckets, Message
from splitmerge.tag import Tag, TagKind
from tests.guestlib.conftest import frame_of, key_of
from tests.guestlib.harness import Counter, config_for
from tests.guestlib.test_engine import Outside


@pytest.fixture
def outside() -> Outside:
    return Outside()


@pytest.fixture
def engine(tmp_path: Path, outside: Outside) -> Engine:
    middlebox, guest = Counter(), Guest()
    middlebox.setup(guest)
    guest.begin(1, "i1")
    guest.send = outside.transmit
    return Engine(middlebox, guest, config_for(tmp_path), outside)


def ask(engine: Engine, request: int, now: float, seconds: float = 1.0) -> None:
    def nobody(message: Message) -> None:
        pytest.fail(f"replied {message}")

    engine.message(CountBuckets(request=request, seconds=seconds), nobody, now)


def test_packets_are_counted_from_the_request_on(engine: Engine, outside: Outside) -> None:
    engine.frames([frame_of(1)], 9.9)
    ask(engine, 7, 10.0)
    engine.frames([frame_of(1), frame_of(2), frame_of(1), bytes(60)], 10.2)
    tagged = Tag(TagKind.MARKER, 5, 2).push(frame_of(1))
    engine.frames([tagged, frame_of(1)], 10.9)
    engine.tick(10.95)
    assert outside.said(BucketCounts) == []
    engine.tick(11.25)
    packets = {key_of(1).bucket: 3, key_of(2).bucket: 1}
    assert outside.said(BucketCounts) == [BucketCounts(request=7, seconds=1.25, packets=packets)]
    engine.frames([frame_of(1)], 11.3)
    engine.tick(11.5)
    assert len(outside.said(BucketCounts)) == 1, "answered once"


def test_a_repeated_request_goes_on_and_is_answered_as_it_was(engine: Engine, outside: Outside) -> None:
    ask(engine, 7, 10.0)
    engine.frames([frame_of(1)], 10.2)
    ask(engine, 7, 10.5)
    engine.tick(11.0)
    ask(engine, 7, 11.1)
    first, second = outside.said(BucketCounts)
    assert first == second == BucketCounts(request=7, seconds=1.0, packets={key_of(1).bucket: 1})
    ask(engine, 8, 12.0)
    engine.tick(13.0)
    assert outside.said(BucketCounts)[-1] == BucketCounts(request=8, seconds=1.0, packets={})


def test_enough_is_enough() -> None:
    census = Census(CountBuckets(request=1, seconds=5), 0.0)
    census.add([frame_of(1)] * (MOST - 1), 0.5)
    assert census.poll(0.5) is None
    census.add([frame_of(1)] * 10, 1.0)
    census.add([frame_of(1)] * 10, 2.0)
    counted = census.poll(2.0)
    assert counted == BucketCounts(request=1, seconds=1.0, packets={key_of(1).bucket: MOST + 9})


@pytest.mark.parametrize(("seconds", "end"), [(1e9, LONGEST), (-5, 0.0), (0, 0.0)])
def test_silly_times_are_bounded(seconds: float, end: float) -> None:
    counted = Census(CountBuckets(request=1, seconds=seconds), 0.0).poll(end)
    assert counted is not None and counted.seconds == max(end, 0.001)
