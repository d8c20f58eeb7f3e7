"""The arbitration core: the specification's rules as tables, and its invariants under any sequence of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p4switch.p4runtime.arbitration import Arbitration, Closed, Event, Notify, Terminate, Update
from p4switch.p4runtime.status import Code, Refused

OK, BACKUP, NONE = Code.OK, Code.ALREADY_EXISTS, Code.NOT_FOUND
Told = tuple[int, Code, int | None]


def told(core: Arbitration, *events: Event) -> list[Told | tuple[int, Code]]:
    """What the last event leads to: (stream, code, election id), or (stream, code) for an end."""
    for event in events[:-1]:
        core.handle(event, 0.0)
    found: list[Told | tuple[int, Code]] = []
    for item in core.handle(events[-1], 0.0):
        core.validate_state()
        found.append(
            (item.stream, item.code) if isinstance(item, Terminate) else (item.stream, item.code, item.election_id)
        )
    return found


def up(stream: int, election_id: int | None, role: str = "", device: int = 1) -> Update:
    return Update(stream, device, role, election_id)


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        ([up(1, 5)], [(1, OK, 5)]),
        ([up(1, 0)], [(1, OK, 0)]),
        ([up(1, None)], [(1, NONE, None)]),
        ([up(1, 5), up(2, 4)], [(2, BACKUP, 5)]),
        ([up(1, 5), up(2, None)], [(2, BACKUP, 5)]),
        ([up(1, 5), up(2, 6)], [(1, BACKUP, 6), (2, OK, 6)]),
        ([up(1, 5), up(2, 4), up(3, 6)], [(1, BACKUP, 6), (2, BACKUP, 6), (3, OK, 6)]),
        ([up(1, 5), up(1, 5)], [(1, OK, 5)]),
        ([up(1, 5), up(2, 3), up(1, 4)], [(1, NONE, 5), (2, NONE, 5)]),
        ([up(1, 5), up(1, None)], [(1, NONE, 5)]),
        ([up(1, 5), up(2, 3), Closed(1)], [(2, NONE, 5)]),
        ([up(1, 5), up(2, 3), Closed(2)], []),
        ([up(1, 5), up(2, 3), Closed(1), up(2, 4)], [(2, NONE, 5)]),
        ([up(1, 5), up(2, 3), Closed(1), up(2, 5)], [(2, OK, 5)]),
        ([up(1, 5), Closed(1), up(2, 4)], [(2, NONE, 5)]),
        ([up(1, 5), Closed(1), up(2, 5)], [(2, OK, 5)]),
        ([up(1, 5), up(2, 5)], [(2, Code.INVALID_ARGUMENT)]),
        ([up(1, 5), up(2, 4), up(2, 5)], [(2, Code.INVALID_ARGUMENT)]),
        ([up(1, 5, device=9)], [(1, Code.NOT_FOUND)]),
        ([up(1, 5), up(1, 5, device=9)], [(1, Code.FAILED_PRECONDITION)]),
        ([up(1, 5), up(1, 5, role="a")], [(1, Code.FAILED_PRECONDITION)]),
        ([up(1, 5), up(2, 5, role="a")], [(2, OK, 5)]),
        ([up(1, 5), up(2, 9, role="a"), Closed(1)], []),
        ([up(1, 1 << 127), up(2, (1 << 127) + 1)], [(1, BACKUP, (1 << 127) + 1), (2, OK, (1 << 127) + 1)]),
        ([Closed(7)], []),
    ],
)
def test_specification(events: list[Event], wanted: list[object]) -> None:
    assert told(Arbitration(1), *events) == wanted


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        ([up(1, 5), up(2, 3), Closed(1)], [(2, OK, 3)]),
        ([up(1, 5), Closed(1), up(2, 4)], [(2, OK, 4)]),
        ([up(1, 5), up(2, 3), up(1, 2)], [(1, BACKUP, 3), (2, OK, 3)]),
        ([up(1, 5), up(2, 5, role="ignored")], [(2, Code.INVALID_ARGUMENT)]),
    ],
)
def test_strict_follows_simple_switch_grpc(events: list[Event], wanted: list[object]) -> None:
    assert told(Arbitration(1, strict=True), *events) == wanted


def test_role_config_is_the_primarys() -> None:
    core = Arbitration(1)
    core.handle(Update(1, 1, "r", 5, b"one"), 0.0)
    (notice,) = core.handle(Update(2, 1, "r", 4, b"two"), 0.0)
    assert isinstance(notice, Notify) and notice.role_config == b"one"


def test_stream_limit() -> None:
    core = Arbitration(1, max_streams=2)
    assert told(core, up(1, 1), up(2, 2), up(3, 3)) == [(3, Code.RESOURCE_EXHAUSTED)]
    assert told(core, up(3, 3, role="other")) == [(3, OK, 3)]


@pytest.mark.parametrize(
    ("device", "role", "election_id", "code"),
    [
        (1, "", 5, None),
        (1, "", 4, Code.PERMISSION_DENIED),
        (1, "", 6, Code.PERMISSION_DENIED),
        (1, "", None, Code.PERMISSION_DENIED),
        (1, "a", 5, Code.PERMISSION_DENIED),
        (1, "a", 7, None),
        (1, "b", 5, Code.NOT_FOUND),
        (2, "", 5, Code.NOT_FOUND),
    ],
)
def test_who_may_write(device: int, role: str, election_id: int | None, code: Code | None) -> None:
    core = Arbitration(1)
    for event in (up(1, 5), up(2, 4), up(3, 7, role="a")):
        core.handle(event, 0.0)
    if code is None:
        core.check_write(device, role, election_id)
        return
    with pytest.raises(Refused) as caught:
        core.check_write(device, role, election_id)
    assert caught.value.code is code


def test_nobody_writes_without_a_primary_but_strict_allows_it_while_nobody_is_there() -> None:
    with pytest.raises(Refused):
        Arbitration(1).check_write(1, "", None)
    Arbitration(1, strict=True).check_write(1, "", None)


_EVENTS = st.one_of(
    st.builds(
        Update,
        st.integers(1, 6),
        st.sampled_from([1, 1, 1, 1, 2]),
        st.sampled_from(["", "", "a"]),
        st.one_of(st.none(), st.integers(0, 5)),
    ),
    st.builds(Closed, st.integers(1, 6)),
)


@given(st.lists(_EVENTS, max_size=40), st.booleans())
@settings(max_examples=150, deadline=None)
def test_invariants(events: list[Event], strict: bool) -> None:
    """At most one primary a role; everyone's last notice says what is true; ended streams hear nothing more."""
    core = Arbitration(1, strict=strict, max_streams=4)
    live: dict[int, Notify] = {}
    waiting = list(reversed(events))
    while waiting:
        event = waiting.pop()
        if isinstance(event, Closed):
            live.pop(event.stream, None)
        for item in core.handle(event, 0.0):
            if isinstance(item, Terminate):
                waiting.append(Closed(item.stream))
            else:
                live[item.stream] = item
        core.validate_state()
    for stream, notice in live.items():
        if core.is_primary(stream):
            assert notice.code is Code.OK
            core.check_write(1, notice.role, notice.election_id)
