"""What the HTTP clients say: injections that libinjection detects, and near misses that it does not.

`Plan` makes the requests of one flow a function of (seed, flow, number), so that anybody can tell afterwards which of
them were injections, however the run was timed.
"""

from __future__ import annotations

import random
from urllib.parse import quote_plus

import msgspec

INJECTIONS = (
    "1' OR '1'='1",
    "1' OR 1=1 --",
    "' OR 1=1#",
    "admin' --",
    "admin'/*",
    "' OR 'x'='x",
    "') OR ('x'='x",
    "1 OR 1=1",
    "1 UNION SELECT username, password FROM users",
    "1' UNION SELECT NULL, version() --",
    "1' UNION ALL SELECT 1,2,3 --",
    "-1 UNION SELECT 1, table_name FROM information_schema.tables",
    "1; DROP TABLE users",
    "1'; DROP TABLE students; --",
    "1' AND SLEEP(5) --",
    "1 AND SLEEP(5)",
    "1' AND 1=(SELECT COUNT(*) FROM tablenames) --",
    "1' AND ASCII(SUBSTRING((SELECT password FROM users LIMIT 1),1,1)) > 64 --",
    "1; WAITFOR DELAY '0:0:5' --",
    "1' WAITFOR DELAY '0:0:5' --",
    "1' OR pg_sleep(5) --",
    "1 AND (SELECT * FROM users) = 1",
    "1' ORDER BY 10 --",
    "' HAVING 1=1 --",
    "' GROUP BY users.id HAVING 1=1 --",
    "1'; EXEC xp_cmdshell('dir') --",
    "1' OR '1'='1' /*",
    "x' AND email IS NULL; --",
    "1/**/UNION/**/SELECT/**/password/**/FROM/**/users",
    "1' aNd bEnChMaRk(5000000,MD5(1)) --",
    "1' AND extractvalue(1,concat(0x7e,version())) --",
    "1 AND 1=1 UNION SELECT load_file('/etc/passwd')",
    "' UNION SELECT 1 INTO OUTFILE 'x.php' --",
)
"""Classic tautologies, unions, stacked queries, time delays, comments and error-based probes."""

NEAR_MISSES = (
    "O'Reilly",
    "it's a union of states",
    "select the best from the rest",
    "Where do I order by phone?",
    "drop me a line",
    "rock and roll or jazz",
    "1 + 1 is two",
    "C'est la vie",
    "it's 5 o'clock somewhere",
    "the table is set; having dinner",
    "insert coin to continue",
    "McDonald's -- now open",
    "updated: 12 March",
    "like a rolling stone",
    "user@example.org",
    "a price between ten and twenty",
    "group by age, please",
    "50% off, or more",
    "https://example.org/a?b=c",
    "Bobby Tables",
)
"""Ordinary text with quotes, dashes and SQL's words in it."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class Planned(msgspec.Struct, frozen=True):
    """One request on its way: ``wire`` is what is sent."""

    id: str
    wire: bytes
    body: bytes
    injection: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of one flow."""

    seed: int
    flow: int
    attack_at: int = -1
    """Number of the attack's first request; -1: the flow does not attack."""
    attack_length: int = 0
    """Consecutive injections of an attack (31 in §5.1)."""
    strays: float = 0.0
    """Share of the other requests that are injections too, each at random."""

    def request(self, number: int, host: str) -> Planned:
        """The request with this number, 0, 1, …"""
        rng = random.Random(f"{self.seed}/{self.flow}/{number}")
        attacking = 0 <= self.attack_at <= number < self.attack_at + self.attack_length
        injection = attacking or rng.random() < self.strays
        value = rng.choice(INJECTIONS if injection else NEAR_MISSES)
        identity = f"f{self.flow}n{number}x{''.join(rng.choices(_ALPHABET, k=6))}"
        return _SHAPES[rng.randrange(len(_SHAPES))](identity, value, host, injection)


def plans(
    *, seed: int, flows: int, attackers: int, attack_length: int, attack_within: int, strays: float
) -> list[Plan]:
    """A plan for each flow; ``attackers`` of them, chosen by the seed, attack once.

    The attack begins at one of the first ``attack_within`` requests.
    """
    rng = random.Random(f"{seed}/attackers")
    chosen = set(rng.sample(range(flows), min(attackers, flows)))
    starts = {flow: rng.randrange(max(attack_within, 1)) for flow in sorted(chosen)}
    return [
        Plan(seed=seed, flow=flow, attack_at=starts.get(flow, -1), attack_length=attack_length, strays=strays)
        for flow in range(flows)
    ]


def _form(identity: str, value: str, host: str, injection: bool) -> Planned:
    body = f"user={identity}&comment={quote_plus(value)}".encode()
    return _post(identity, body, b"application/x-www-form-urlencoded", host, injection)


def _json(identity: str, value: str, host: str, injection: bool) -> Planned:
    body = msgspec.json.encode({"user": identity, "comment": {"text": value, "stars": 5}})
    return _post(identity, body, b"application/json", host, injection)


def _query(identity: str, value: str, host: str, injection: bool) -> Planned:
    target = f"/search?user={identity}&q={quote_plus(value)}"
    wire = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {identity}\r\n\r\n".encode()
    return Planned(identity, wire, b"", injection)


def _chunked(identity: str, value: str, host: str, injection: bool) -> Planned:
    body = f"user={identity}&comment={quote_plus(value)}".encode()
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:])) + b"0\r\n\r\n"
    head = (
        f"POST /comment HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {identity}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return Planned(identity, head.encode() + chunks, body, injection)


def _post(identity: str, body: bytes, content_type: bytes, host: str, injection: bool) -> Planned:
    head = (
        f"POST /comment HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {identity}\r\n"
        f"Content-Type: {content_type.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Planned(identity, head.encode() + body, body, injection)


_SHAPES = (_form, _form, _json, _query, _chunked)
