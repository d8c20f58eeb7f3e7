"""etcd as the lock service of `SYNCH`, where replicas are on several hosts: the same messages, other means.

For every object there are three kinds of keys, below the address's path:

    lock/KEY           exists while somebody has the lock; bound to a lease. Its create revision is the fencing token.
    value/KEY          what was written last
    written/KEY/WHO    the token that this replica wrote with last, for five minutes

Getting the lock is a transaction that creates ``lock`` if it is absent, and reads ``value``. Writing is one that
compares ``lock``'s create revision with the token, and if it is equal puts ``value`` and ``written`` and deletes
``lock``. Revisions only grow, so a holder whose lease ran out cannot write, whoever has the lock now. An answer that
was lost is found again: by ``lock``'s content, which says whose it is, or by ``written``.

`EtcdLocks` blocks for as long as etcd takes to answer; `guestlib.coherence.worker` runs it in a thread of its own.
"""

from __future__ import annotations

import base64
import logging
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from splitmerge.errors import BadInput
from splitmerge.messages import (
    Message,
    SharedAbandon,
    SharedElement,
    SharedLock,
    SharedLocked,
    SharedLockRefused,
    SharedLost,
    SharedRenew,
    SharedWrite,
    SharedWritten,
)
from splitmerge.tls import Identity

if TYPE_CHECKING:
    from etcd3gw.client import Etcd3Client
    from etcd3gw.lease import Lease

logger = logging.getLogger("guestlib")

CALL_DEADLINE = 2.0
"""Seconds for one answer of etcd."""
WRITTEN_LIFE = 600
"""Seconds of the lease of ``written`` keys; another one is taken at half of it."""
POLL_FIRST, POLL_MOST = 0.005, 0.1
"""Seconds between two looks at a lock that somebody else has: doubled each time, up to the second."""
VALUE_MOST = 1024 * 1024
"""Bytes of one value; etcd itself takes requests of 1.5 MiB."""
_ADDRESS = re.compile(r"etcd(?P<tls>\+tls)?://\[?(?P<host>[^\]/]+?)\]?:(?P<port>\d{1,5})(?:/(?P<prefix>[\w./-]+))?")
Txn = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """Where etcd listens for clients, and below which path this lab's keys are."""

    host: str
    port: int
    tls: bool = False
    """Whether both sides show certificates (``etcd+tls://``)."""
    prefix: str = "splitmerge"

    @classmethod
    def parse(cls, text: str, where: str = "locks") -> EtcdAddress:
        """``etcd://host:port[/path]`` or ``etcd+tls://host:port[/path]`` (IPv6 hosts in brackets). :raises BadInput:"""
        match = _ADDRESS.fullmatch(text)
        if match is None or not 0 < int(match["port"]) <= 0xFFFF:
            raise BadInput(where, f"{text!r} is no lock service", "write in-process or etcd://host:port")
        return cls(match["host"], int(match["port"]), match["tls"] is not None, match["prefix"] or "splitmerge")


def connect(address: EtcdAddress, identity: Identity | None = None) -> Etcd3Client:
    """A client; nothing is sent yet. :raises BadInput: TLS without certificates."""
    from etcd3gw.client import Etcd3Client  # only replicas that use it pay for loading it

    if address.tls and identity is None:
        raise BadInput("locks", "etcd+tls needs certificates", "give tls: ca, certificate and key")
    if address.tls and identity is not None:
        client = Etcd3Client(
            address.host, address.port, "https", str(identity.ca), str(identity.key), str(identity.certificate),
            timeout=CALL_DEADLINE,
        )  # fmt: skip
    else:
        client = Etcd3Client(address.host, address.port, timeout=CALL_DEADLINE)
    # No proxy; and requests would take REQUESTS_CA_BUNDLE of the environment for the CA given here.
    client.session.trust_env = False
    return client


@dataclass(slots=True)
class _Wanted:
    """A lock that is waited for, or held: then ``token`` is its create revision."""

    request: int
    next_at: float = 0.0
    pause: float = POLL_FIRST
    token: int = 0
    value: SharedElement | None = None


@dataclass(slots=True)
class _Lease:
    lease: Lease
    refreshed: float


class EtcdLocks:
    """One replica's lock service. ``owner`` differs between any two processes; ``lease`` and ``clock``: seconds."""

    def __init__(self, client: Etcd3Client, prefix: str, owner: str, lease: float, clock: Callable[[], float]) -> None:
        from etcd3gw import exceptions

        self._client = client
        self._prefix = prefix
        self._owner = owner
        self._seconds = max(1, math.ceil(lease))  # etcd counts in whole ones, and may make it more
        self._clock = clock
        self._wanted: dict[str, _Wanted] = {}
        self._leases: dict[str, _Lease] = {}
        """Of each lock's key; used for the next grant too."""
        self._remembering: _Lease | None = None
        self._failures = (exceptions.Etcd3Exception, OSError)
        lost = (exceptions.ConnectionFailedError, exceptions.ConnectionTimeoutError, exceptions.InternalServerError)
        self._no_word = (*lost, OSError)
        """Failures after which it may have been done all the same; after another one it was refused."""
        self._failing = ""

    def next_due(self) -> float | None:
        """When `poll` should be called."""
        return min((wanted.next_at for wanted in self._wanted.values() if not wanted.token), default=None)

    def handle(self, message: Message) -> list[Message]:
        """Carry one request out; the answers. Without any the sender asks again: etcd is away, or the lock is taken.

        Nothing is raised: what etcd should not have answered refuses the lock that was asked for.
        """
        try:
            answers = self._handle(message)
        except self._failures as error:
            self._say(error)
            if not isinstance(error, self._no_word):
                self._distrust(message)
            return []
        except Exception as error:  # whatever comes of an answer of another form: the thread must go on
            self._say(error)
            self._distrust(message)
            return self._refuse(message, error)
        self._failing = ""
        return answers

    def poll(self) -> list[Message]:
        """Look again at locks that are waited for."""
        now = self._clock()
        due = [key for key, wanted in self._wanted.items() if not wanted.token and now >= wanted.next_at]
        return [answer for key in due for answer in self.handle(SharedLock(request=self._wanted[key].request, key=key))]

    def _say(self, error: Exception) -> None:
        """Once for each kind of failure in a row."""
        kind = type(error).__name__
        if self._failing != kind:
            logger.warning("lock service etcd: %s: %s", kind, error)
        self._failing = kind

    def _distrust(self, message: Message) -> None:
        """etcd refused: it may have lost leases (it was set up anew, say), and would refuse them again and again."""
        self._remembering = None
        if not isinstance(message, SharedLock):
            return
        wanted = self._wanted.get(message.key)
        if wanted is not None and not wanted.token:
            self._leases.pop(message.key, None)

    def _refuse(self, message: Message, error: Exception) -> list[Message]:
        """A lock that was created all the same ends with its lease, which nobody renews."""
        if not isinstance(message, SharedLock):
            return []
        self._wanted.pop(message.key, None)
        reason = f"etcd's answer makes no sense: {type(error).__name__}: {error}"
        return [SharedLockRefused(request=message.request, key=message.key, reason=reason)]

    def _handle(self, message: Message) -> list[Message]:
        match message:
            case SharedLock(request=request, key=key):
                return self._lock(request, key)
            case SharedRenew(key=key, token=token):
                return self._renew(key, token)
            case SharedWrite(key=key, element=element):
                return self._write(key, element)
            case SharedAbandon(request=request, key=key):
                return self._abandon(request, key)
            case _:
                return []

    # -- requests ------------------------------------------------------------------------------------------

    def _lock(self, request: int, key: str) -> list[Message]:
        wanted = self._wanted.get(key)
        if wanted is None or wanted.request < request:
            wanted = self._wanted[key] = _Wanted(request)
        if wanted.request > request:
            return []
        if not wanted.token and not self._acquire(key, wanted):
            wanted.next_at, wanted.pause = self._clock() + wanted.pause, min(2 * wanted.pause, POLL_MOST)
            return []
        locked = SharedLocked(
            request=request, key=key, token=wanted.token, lease=float(self._seconds), value=wanted.value
        )
        return [locked]

    def _acquire(self, key: str, wanted: _Wanted) -> bool:
        lock, value = self._name("lock", key), self._name("value", key)
        mine = f"{self._owner}/{wanted.request}".encode()
        # Looking costs etcd no disk; a transaction that might write does.
        held = self._range(lock)
        if held is not None and _bytes(held["value"]) != mine:
            return False
        if held is not None:  # created by a transaction whose answer was lost
            wanted.token, wanted.value = int(held["create_revision"]), _element(self._range(value))
            return True
        lease = self._lease(key)
        put = {"request_put": {"key": lock, "value": _text(mine), "lease": lease.lease.id}}
        result = self._client.transaction(
            {
                "compare": [_created(lock, 0)],
                "success": [put, {"request_range": {"key": value}}],
                "failure": [],
            }
        )
        if not result.get("succeeded"):
            return False
        found: Any = result["responses"][1]
        wanted.value = _element(_first(found["response_range"]))
        wanted.token = int(result["header"]["revision"])
        return True

    def _renew(self, key: str, token: int) -> list[Message]:
        wanted, lease = self._wanted.get(key), self._leases.get(key)
        if wanted is None or wanted.token != token or lease is None:
            return [SharedLost(key=key, token=token)]
        if lease.lease.refresh() > 0:
            lease.refreshed = self._clock()
            return []
        self._forget(key)
        return [SharedLost(key=key, token=token)]

    def _write(self, key: str, element: SharedElement) -> list[Message]:
        token = element.version
        if len(element.value) > VALUE_MOST:
            logger.error("shared object %r: %d bytes; etcd takes %d: not written", key, len(element.value), VALUE_MOST)
            self._free(key, token)
            return [SharedLost(key=key, token=token)]
        lock, record = self._name("lock", key), self._name(f"written/{self._owner}", key)
        value = msgspec.msgpack.encode(element)
        success: list[Txn] = [
            {"request_put": {"key": self._name("value", key), "value": _text(value)}},
            {"request_put": {"key": record, "value": _text(b"%d" % token), "lease": self._memory()}},
            {"request_delete_range": {"key": lock}},
        ]
        result = self._client.transaction(
            {
                "compare": [_created(lock, token)],
                "success": success,
                "failure": [{"request_range": {"key": record}}],
            }
        )
        written = bool(result.get("succeeded"))
        if not written:
            answer: Any = result["responses"][0]
            found = _first(answer["response_range"])
            written = found is not None and int(_bytes(found["value"])) == token
        if (wanted := self._wanted.get(key)) is not None and wanted.token == token:
            del self._wanted[key]
        return [SharedWritten(key=key, token=token) if written else SharedLost(key=key, token=token)]

    def _abandon(self, request: int, key: str) -> list[Message]:
        wanted = self._wanted.get(key)
        if wanted is None or wanted.request > request:
            return []
        del self._wanted[key]
        lock = self._name("lock", key)
        mine = f"{self._owner}/{wanted.request}".encode()
        if (held := self._range(lock)) is not None and _bytes(held["value"]) == mine:
            self._free(key, int(held["create_revision"]))
        return []

    def _free(self, key: str, token: int) -> None:
        lock = self._name("lock", key)
        delete = {"request_delete_range": {"key": lock}}
        self._client.transaction({"compare": [_created(lock, token)], "success": [delete], "failure": []})

    # -- leases and keys -----------------------------------------------------------------------------------

    def _lease(self, key: str) -> _Lease:
        """A lease with more than two thirds of its time left."""
        known, now = self._leases.get(key), self._clock()
        if known is not None and now < known.refreshed + self._seconds / 3:
            return known
        if known is not None and known.lease.refresh() > 0:
            known.refreshed = now
            return known
        lease = self._leases[key] = _Lease(self._client.lease(self._seconds), now)
        return lease

    def _memory(self) -> int:
        """The lease of ``written`` keys."""
        now = self._clock()
        if self._remembering is None or now > self._remembering.refreshed + WRITTEN_LIFE / 2:
            self._remembering = _Lease(self._client.lease(WRITTEN_LIFE), now)
        return self._remembering.lease.id

    def _forget(self, key: str) -> None:
        self._wanted.pop(key, None)
        self._leases.pop(key, None)

    def _name(self, kind: str, key: str) -> str:
        return _text(f"{self._prefix}/{kind}/{key}".encode())

    def _range(self, key: str) -> dict[str, Any] | None:
        response = self._client.post(self._client.get_url("/kv/range"), json={"key": key})
        return _first(response)


def _created(key: str, revision: int) -> Txn:
    """The comparison: this is the key's create revision, which is 0 if it is absent."""
    return {"key": key, "result": "EQUAL", "target": "CREATE", "create_revision": revision}


def _first(response: dict[str, Any]) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = response.get("kvs") or []
    return found[0] if found else None


def _element(found: dict[str, Any] | None) -> SharedElement | None:
    """:raises ValueError: if it is none."""
    return None if found is None else msgspec.msgpack.decode(_bytes(found.get("value", "")), type=SharedElement)


def _text(raw: bytes) -> str:
    """Bytes as JSON carries them."""
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
