"""etcd as the lock service: a real one, answers that get lost on the way, and leases that run out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import ConnectionFailedError
from etcd3gw.lease import Lease

from guestlib.coherence import etcd
from guestlib.coherence.etcd import EtcdAddress, EtcdLocks, connect
from splitmerge.certs import issue, make_ca
from splitmerge.errors import BadInput
from splitmerge.messages import (
    Finished,
    Message,
    SharedAbandon,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedLost,
    SharedRenew,
    SharedWrite,
    SharedWritten,
)
from splitmerge.tls import REPLICA, Identity
from tests.guestlib.etcd_server import PROGRAM, EtcdServer

KEY = "limits"
WITHIN = 20.0
LASTING = 60.0
"""Seconds of a lease that no test outlasts, on however slow a disk; a third of it passes before it is refreshed."""

pytestmark = [pytest.mark.integ, pytest.mark.skipif(PROGRAM is None, reason="needs etcd (Debian: etcd-server)")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    made = EtcdServer(tmp_path_factory.mktemp("etcd"))
    made.start()
    yield made
    made.kill()


class Losing(Etcd3Client):
    """A real client whose connection breaks after the next transaction was carried out."""

    loses = False

    def transaction(self, txn: dict[str, Any]) -> Any:
        result = super().transaction(txn)
        if self.loses:
            self.loses = False
            raise ConnectionFailedError("the answer is lost")
        return result


class Leasing(Etcd3Client):
    """A real client that knows its leases."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.leases: list[Lease] = []

    def lease(self, ttl: int = 1) -> Lease:
        self.leases.append(super().lease(ttl))
        return self.leases[-1]

    def lose(self, which: int) -> None:
        self.leases[which].revoke()


@pytest.fixture
def make(server: EtcdServer, request: pytest.FixtureRequest) -> Callable[..., EtcdLocks]:
    def made(owner: str, client: Etcd3Client | None = None, lease: float = LASTING) -> EtcdLocks:
        return EtcdLocks(client or server.client(), f"test/{request.node.name}", owner, lease, time.monotonic)

    return made


def write(token: int, text: bytes = b"x") -> SharedWrite:
    return SharedWrite(key=KEY, element=SharedElement(origin="i", version=token, kind="Limit", value=text))


def lock(locks: EtcdLocks, request: int = 1) -> SharedLocked:
    """The grant, which comes within a moment."""
    answers = locks.handle(SharedLock(request=request, key=KEY))
    until = time.monotonic() + WITHIN
    while not answers and time.monotonic() < until:
        time.sleep(0.01)
        answers = locks.poll()
    (answer,) = answers
    assert isinstance(answer, SharedLocked)
    return answer


def written(token: int) -> list[Message]:
    return [SharedWritten(key=KEY, token=token)]


def lost(token: int) -> list[Message]:
    return [SharedLost(key=KEY, token=token)]


def test_one_at_a_time_each_with_a_larger_token_and_the_newest_value(make: Callable[..., EtcdLocks]) -> None:
    first, second = make("a"), make("b")
    one = lock(first)
    assert one.value is None and lock(first) == one, "a repeat is answered again"
    assert second.handle(SharedLock(request=1, key=KEY)) == [] and second.next_due() is not None
    assert first.handle(write(one.token, b"new")) == written(one.token)
    two = lock(second)
    assert two.token > one.token and two.value is not None and two.value.value == b"new"
    assert first.handle(SharedLock(request=1, key=KEY)) == [], "a late repeat waits, and is abandoned"
    first.handle(SharedAbandon(request=1, key=KEY))
    assert second.handle(write(two.token)) == written(two.token)
    assert lock(first, 2).token > two.token


def test_a_holder_that_does_not_renew_is_taken_over_and_fenced(make: Callable[..., EtcdLocks]) -> None:
    first, second = make("a", lease=2.0), make("b")
    one = lock(first)
    second.handle(SharedLock(request=1, key=KEY))
    for _ in range(8):  # longer than the lease
        time.sleep(0.3)
        assert first.handle(SharedRenew(key=KEY, token=one.token)) == [] and second.poll() == []
    two = lock(second)
    assert first.handle(write(one.token, b"late")) == lost(one.token)
    assert second.handle(write(two.token, b"right")) == written(two.token)
    assert first.handle(SharedRenew(key=KEY, token=one.token)) == lost(one.token)
    value = lock(first, 2).value
    assert value is not None and value.value == b"right"


def test_a_lease_that_is_over_is_told_at_the_next_renewal(make: Callable[..., EtcdLocks]) -> None:
    locks = make("a", lease=1.0)
    token = lock(locks).token
    lock_of_another = make("b")
    lock(lock_of_another)
    assert locks.handle(SharedRenew(key=KEY, token=token)) == lost(token)


def test_answers_that_get_lost_are_found_again(server: EtcdServer, make: Callable[..., EtcdLocks]) -> None:
    client = Losing("127.0.0.1", server.port, timeout=WITHIN)
    first, second = make("a", client), make("b")
    client.loses = True
    assert first.handle(SharedLock(request=1, key=KEY)) == []
    one = lock(first)
    client.loses = True
    assert first.handle(write(one.token)) == []
    two = lock(second)
    second.handle(write(two.token))
    assert first.handle(write(one.token)) == written(one.token), "whatever was written since"


def test_leases_that_etcd_has_lost_are_not_used_for_long(server: EtcdServer, make: Callable[..., EtcdLocks]) -> None:
    client = Leasing("127.0.0.1", server.port, timeout=WITHIN)
    locks = make("a", client)
    locks.handle(write(lock(locks).token))
    client.lose(1)  # of what was written
    token = lock(locks, 2).token
    assert locks.handle(write(token)) == []
    assert locks.handle(write(token)) == written(token)
    client.lose(0)  # the lock's
    assert locks.handle(SharedLock(request=3, key=KEY)) == []
    assert [type(each) for each in locks.handle(SharedLock(request=3, key=KEY))] == [SharedLocked]


def test_what_is_not_wanted_is_given_up(make: Callable[..., EtcdLocks]) -> None:
    first, second = make("a"), make("b")
    lock(first)
    second.handle(SharedLock(request=1, key=KEY))
    second.handle(SharedAbandon(request=1, key=KEY))
    assert second.next_due() is None and second.handle(SharedAbandon(request=1, key=KEY)) == []
    first.handle(SharedAbandon(request=1, key=KEY))
    assert lock(second, 2).request == 2 and second.handle(SharedLock(request=1, key=KEY)) == []


def test_a_value_that_etcd_would_not_take_is_not_written(
    make: Callable[..., EtcdLocks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd, "VALUE_MOST", 3)
    locks = make("a")
    token = lock(locks).token
    assert locks.handle(write(token, b"four")) == lost(token)
    assert lock(make("b")).value is None
    assert locks.handle(Finished(request=1)) == []


def test_etcd_that_is_away_is_waited_for_and_said_once(
    server: EtcdServer, make: Callable[..., EtcdLocks], caplog: pytest.LogCaptureFixture
) -> None:
    locks = make("a")
    token = lock(locks).token
    server.kill()
    try:
        assert locks.handle(write(token)) == locks.handle(write(token)) == []
        assert len(caplog.records) == 1 and "ConnectionFailedError" in caplog.text
    finally:
        server.start()
    assert locks.handle(write(token)) == written(token), "etcd keeps leases over its crash"


ADDRESSES = {
    "etcd://h:2379": EtcdAddress("h", 2379),
    "etcd+tls://[fd00::1]:1/lab/one": EtcdAddress("fd00::1", 1, True, "lab/one"),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses(text: str) -> None:
    assert EtcdAddress.parse(text) == ADDRESSES[text]


@pytest.mark.parametrize("text", ["etcd", "etcd://h", "etcd://h:0", "etcd://h:70000", "http://h:1", "etcd://h:1/ x"])
def test_wrong_addresses_are_named(text: str) -> None:
    with pytest.raises(BadInput, match="is no lock service"):
        EtcdAddress.parse(text)


def test_certificates_of_the_lab_are_shown_and_wanted(tmp_path: Path) -> None:
    lab, others = tmp_path / "lab", tmp_path / "others"
    identities = {}
    for directory, name in ((lab, "localhost"), (lab, REPLICA), (others, REPLICA)):
        if not (directory / "ca.pem").exists():
            make_ca(directory)
        issued = issue(directory, name, (name,))
        identities[directory.name, name] = Identity(directory / "ca.pem", issued.certificate, issued.key)
    server = EtcdServer(tmp_path, identities["lab", "localhost"])
    server.start()
    try:
        address = EtcdAddress.parse(f"etcd+tls://localhost:{server.port}")
        ours, theirs = (
            EtcdLocks(connect(address, identities[which, REPLICA]), "test", which, 1.0, time.monotonic)
            for which in ("lab", "others")
        )
        assert ours.handle(write(lock(ours).token)) != []
        assert theirs.handle(SharedLock(request=1, key=KEY)) == []
    finally:
        server.kill()


def test_tls_needs_certificates() -> None:
    with pytest.raises(BadInput, match="needs certificates"):
        connect(EtcdAddress("h", 1, True))
