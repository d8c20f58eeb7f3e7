"""Things that are alike but for their values are taken apart as one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p4switch.p4runtime.entities.alike import Shape


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[int, bool]]:
    """Lengths of parts, and which are values."""
    return draw(st.lists(st.tuples(st.integers(1, 17), st.booleans()), min_size=1, max_size=5))


@given(parts=shapes(), before=st.binary(max_size=3), count=st.integers(0, 600), data=st.data())
def test_all_that_are_alike_are_taken_and_no_other(
    parts: list[tuple[int, bool]], before: bytes, count: int, data: st.DataObject
) -> None:
    random = data.draw(st.randoms(use_true_random=False))
    ends = [sum(length for length, _ in parts[: place + 1]) for place in range(len(parts))]
    spans = [(end - length, end) for end, (length, value) in zip(ends, parts, strict=True) if value]
    first = bytearray(random.randbytes(ends[-1]))
    things = [bytes(first)]
    rest = data.draw(st.sampled_from([end for end in ends if not spans or end >= spans[-1][1]]))
    for _ in range(count):
        for start, end in [*spans, (rest, ends[-1])]:
            first[start:end] = random.randbytes(end - start)
        things.append(bytes(first))
    constant = sorted({*range(rest)} - {place for start, end in spans for place in range(start, end)})
    alike = count
    if constant and count and data.draw(st.booleans()):
        alike, place = data.draw(st.integers(0, count - 1)), data.draw(st.sampled_from(constant))
        other = bytearray(things[alike + 1])
        other[place] ^= 1 << data.draw(st.integers(0, 7))
        things[alike + 1] = bytes(other)
    raw = before + b"".join(things) + data.draw(st.binary(max_size=ends[-1] - 1))
    numbers = [tuple(int.from_bytes(thing[start:end], "big") for start, end in spans) for thing in things[1:]]
    rests = [thing[rest:] for thing in things[1:]]
    taken = Shape(ends[-1], spans, rest).take(raw, len(before))
    assert list(taken) == list(zip(numbers[:alike], rests[:alike], strict=True))
