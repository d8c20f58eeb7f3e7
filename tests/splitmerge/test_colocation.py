"""Ports chosen so that both keys of a translated flow have one bucket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmerge.colocation import Outside, PortRange, choose, ports
from splitmerge.errors import BadInput
from splitmerge.flowkey import BUCKETS, ICMP, ICMPV6, TCP, UDP, FlowKey

PORT = st.integers(1, 0xFFFF)
BUCKET = st.integers(0, BUCKETS - 1)
EVERY = PortRange(1, 65535)


@st.composite
def outsides(draw: st.DrawFn) -> Outside:
    width = draw(st.sampled_from([4, 16]))
    address = st.binary(min_size=width, max_size=width)
    ours = draw(address)
    remote = draw(st.one_of(address, st.just(ours)))
    protocol = draw(st.sampled_from([TCP, UDP, ICMP if width == 4 else ICMPV6]))
    return Outside(ours, remote, draw(PORT), protocol)


def brute(outside: Outside, bucket: int, within: PortRange) -> set[int]:
    return {port for port in range(within.first, within.last + 1) if outside.key(port).bucket == bucket}


@given(outsides(), BUCKET, st.integers(0, 1 << 40))
def test_every_port_leads_to_the_bucket_and_none_twice(outside: Outside, bucket: int, start: int) -> None:
    found = list(ports(outside, bucket, EVERY, start))
    assert len(found) == len(set(found))
    assert all(outside.key(port).bucket == bucket for port in found)


@given(outsides(), BUCKET, st.tuples(PORT, PORT), st.integers(0, 1000))
def test_they_are_all_that_there_are_in_the_range(
    outside: Outside, bucket: int, ends: tuple[int, int], start: int
) -> None:
    within = PortRange(min(ends), min(max(ends), min(ends) + 4000))
    assert set(ports(outside, bucket, within, start)) == brute(outside, bucket, within)


@pytest.mark.parametrize("protocol", [TCP, UDP, ICMP])
@pytest.mark.parametrize(("address", "remote"), [(b"\x0a\0\2\1", b"\x0a\0\2\2"), (b"\x0a\0\2\3", b"\x0a\0\2\2")])
def test_every_bucket_has_64_ports(protocol: int, address: bytes, remote: bytes) -> None:
    outside = Outside(address, remote, 80, protocol)
    counts = {len(list(ports(outside, bucket, EVERY))) for bucket in range(BUCKETS)}
    assert counts <= {63, 64}  # port 0 is nobody's


def test_the_order_is_that_of_the_keys_bytes() -> None:
    """The wanted bucket is what the switch computes for a frame of either direction."""
    outside = Outside(bytes(15) + b"\1", bytes(15) + b"\2", 443, TCP)
    inner = FlowKey.parse("tcp,[fd00::1]:5,[fd00::2]:443")
    chosen = choose(outside, inner.bucket, PortRange(), lambda key: False)
    assert chosen is not None
    port, key = chosen
    assert key == FlowKey.of(TCP, outside.remote, 443, outside.address, port)
    assert key.bucket == inner.bucket


def test_taken_ports_are_passed_over_until_none_is_left() -> None:
    outside = Outside(b"\1\2\3\4", b"\4\3\2\1", 53, UDP)
    used: set[FlowKey] = set()
    while (chosen := choose(outside, 77, PortRange(), used.__contains__)) is not None:
        assert chosen[0] >= 1024
        used.add(chosen[1])
    assert 60 <= len(used) <= 64


def test_start_decides_which_comes_first() -> None:
    outside = Outside(b"\1\2\3\4", b"\4\3\2\1", 53, UDP)
    firsts = {next(ports(outside, 77, PortRange(), start)) for start in range(64)}
    assert len(firsts) > 55


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PortRange(0, 5),
        lambda: PortRange(9, 5),
        lambda: PortRange(1, 70000),
        lambda: list(ports(Outside(b"\1\2\3\4", b"\4\3\2\1", 53, UDP), BUCKETS, EVERY)),
        lambda: list(ports(Outside(b"\1\2\3", b"\4\3\2\1", 53, UDP), 1, EVERY)),
    ],
)
def test_what_makes_no_sense_is_refused(wrong) -> None:
    with pytest.raises(BadInput):
        wrong()
