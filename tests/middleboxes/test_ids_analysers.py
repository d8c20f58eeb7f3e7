"""Each protocol analyser: what it finds, and that neither cuts nor moves change it."""

from __future__ import annotations

import ssl
import struct
from contextlib import suppress
from types import SimpleNamespace

import dns.message
import dns.rcode
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleboxes.ids import IdsConfig, TcpFlow
from middleboxes.ids.analysers import DATAGRAM, STREAM
from middleboxes.ids.analysers.ftp import Lines, take_lines
from middleboxes.ids.analysis import Outcome, Side
from splitmerge.certs import issue, make_ca

C, S = Side.CLIENT, Side.SERVER
CONFIG = IdsConfig(tls_names=["forbidden.test"])
DATA = "4a6f686e20446f65a1b2c3d4e5f60718293a4b5c.t.test"


def query(name: str, number: int = 7) -> bytes:
    message = dns.message.make_query(name, "TXT", use_edns=True)
    message.id = number
    return message.to_wire()


def answer(to: bytes, code: int = dns.rcode.NOERROR) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(to))
    response.set_rcode(code)
    return response.to_wire()


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


def client_hello(name: str) -> bytes:
    """What OpenSSL's client says first."""
    outgoing = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> list[tuple[Side, bytes]]:
    """What OpenSSL's two sides say until both are content."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        (C, client.wrap_bio(to_client, to_server, server_hostname="www.forbidden.test"), to_server),
        (S, server.wrap_bio(to_server, to_client, server_side=True), to_client),
    ]
    talk: list[tuple[Side, bytes]] = []
    for _ in range(4):
        for side, end, outgoing in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
            if said := outgoing.read():
                talk.append((side, said))
                outgoing.write(said)
    return talk


def server_hello(version: int, chosen: int = 0) -> bytes:
    """RFC 8446 §4.1.3; ``chosen`` in the extension supported_versions."""
    extensions = struct.pack("!HHHH", 6, 43, 2, chosen) if chosen else b""
    body = struct.pack("!H", version) + bytes(32) + b"\0" + b"\x13\x01\0" + extensions
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + struct.pack("!H", len(message)) + message


QUERY, TUNNEL = query("no.such.test"), query(DATA, 8)
HELLO = client_hello("www.forbidden.test")
NX = ("dns-nxdomain", "no.such.test.")
TABLE = {
    "http: an injection in a POST": (
        "http",
        [(C, b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\nq=1'+OR+'1'='1'+--+x")],
        [("sqli", "1' OR '1'='1' -- x")],
        1,
    ),
    "ftp: failed logins, one after a USER, one after a PASS": (
        "ftp",
        [
            (S, b"220-Hello\r\n220-530 is no reply here\r\n220 there\r\n"),
            (C, b"USER eve\r\n"), (S, b"331 Password\r\n"), (C, b"PASS x\r\n"),
            (S, b"530-No\r\n 530 no\r\n530 Wrong\r\n"),
            (C, b"user bob\nLIST\n"), (S, b"530 Not bob\n530 Please log in\n"),
        ],
        [("ftp-login", "eve: 530 Wrong"), ("ftp-login", "bob: 530 Not bob")],
        4,
    ),
    "ftp: preliminary replies and ABOR keep the order": (
        "ftp",
        [
            (C, b"RETR a\r\n\xff\xf4\xff\xf2ABOR\r\nPASS x\r\n"),
            (S, b"150 Opening\r\n426 Aborted\r\n226 Abort successful\r\n530 Login incorrect\r\n"),
        ],
        [("ftp-login", ": 530 Login incorrect")],
        3,
    ),
    "ftp: encrypted after AUTH": (
        "ftp",
        [(C, b"AUTH TLS\r\n"), (S, b"234 Go on\r\n"), (C, b"PASS x\r\n"), (S, b"530 no\r\n")],
        [],
        1,
    ),
    "dns: no such name, a tunnel, both in one stream": (
        "dns",
        [
            (C, framed(QUERY, TUNNEL)), (S, framed(answer(TUNNEL), answer(QUERY, dns.rcode.NXDOMAIN))),
            (S, framed(answer(QUERY, dns.rcode.NXDOMAIN))),
        ],
        [("dns-tunnel", f"{DATA}."), NX],
        5,
    ),
    "dns: a server that refuses says nothing of the name": (
        "dns", [(C, framed(QUERY)), (S, framed(answer(QUERY, dns.rcode.REFUSED)))], [], 2,
    ),
    "dns: a message that is none does not end the stream": (
        "dns", [(C, framed(QUERY, b"\0\1\0\0\0\1\0\0\0\0\0\0\xc0\x0c", TUNNEL))], [("dns-tunnel", f"{DATA}.")], 2,
    ),
    "tls: a forbidden name and a version too old": (
        "tls", [(C, HELLO), (S, server_hello(0x0302))],
        [("tls-name", "www.forbidden.test"), ("tls-version", "TLS 1.1 with www.forbidden.test")], 2,
    ),
    "tls: the version that counts is in the extension": (
        "tls", [(C, HELLO), (S, server_hello(0x0303, 0x0304)), (C, b"\x17\x03\x03")],
        [("tls-name", "www.forbidden.test")], 2,
    ),
    "tls: a hello in records of nine bytes": (
        "tls",
        [(C, b"".join(b"\x16\x03\x01" + struct.pack("!H", len(part)) + part
                      for part in (HELLO[5:][at : at + 9] for at in range(0, len(HELLO) - 5, 9))))],
        [("tls-name", "www.forbidden.test")], 1,
    ),
}  # fmt: skip


def feed(name: str, talk, cut, config: IdsConfig = CONFIG) -> SimpleNamespace:
    """Let an analyser read a conversation in these pieces; its state travels after each."""
    analyser = STREAM[name](config)
    record = TcpFlow(analysis=analyser.begin())
    found = SimpleNamespace(signs=[], messages=0, malformed=0, overflows=0, outcome=Outcome.GOING, rest=b"")
    for side, data in talk:
        for piece in cut(data):
            if found.outcome is not Outcome.GOING:
                return found
            reading = analyser.feed(record.analysis, side, piece)
            found.signs += map(tuple, reading.signs)
            found.messages += reading.messages
            found.malformed += reading.malformed
            found.overflows += reading.overflows
            found.outcome, found.rest = reading.outcome, reading.rest
            record = msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=TcpFlow)
    return found


def whole(data: bytes) -> list[bytes]:
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("case", TABLE)
def test_finds(case):
    name, talk, signs, messages = TABLE[case]
    found = feed(name, talk, whole)
    assert (found.signs, found.messages) == (signs, messages)


@pytest.mark.parametrize("case", TABLE)
def test_the_same_byte_by_byte_and_cut_anywhere_while_the_state_travels(case):
    name, talk, _, _ = TABLE[case]
    expected = feed(name, talk, whole)
    assert feed(name, talk, bytewise) == expected
    for at in range(1, max(len(data) for _, data in talk)):
        assert feed(name, talk, lambda data, at=at: [part for part in (data[:at], data[at:]) if part]) == expected


PIECES = [data for _, talk, _, _ in TABLE.values() for _, data in talk] + [
    b"GET / HTTP/1.1\r\n\r\n",
    b"x" * 5000,
    b"\n",
]


@pytest.mark.parametrize("name", STREAM)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_bytes_raise_nothing_and_cuts_do_not_matter(name, data):
    pieces = st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=40))
    side = st.sampled_from([C, S]) if STREAM[name](CONFIG).sides != 1 else st.just(C)
    talk = data.draw(st.lists(st.tuples(side, pieces), max_size=6))
    size = data.draw(st.integers(1, 30))
    cut = feed(name, talk, lambda piece: [piece[at : at + size] for at in range(0, len(piece), size)])
    uncut = feed(name, talk, whole)
    assert (cut.signs, cut.outcome) == (uncut.signs, uncut.outcome)
    assert (cut.malformed, cut.overflows) == (uncut.malformed, uncut.overflows)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([QUERY, TUNNEL, answer(QUERY, 3)])), max_size=5))
def test_any_datagrams_raise_nothing(payloads):
    analyser = DATAGRAM["dns"](CONFIG)
    state = analyser.begin()
    for number, payload in enumerate(payloads):
        reading = analyser.datagram(state, Side(number % 2), payload)
        assert reading.messages + reading.malformed == 1


@pytest.mark.parametrize("name", STREAM)
def test_a_gap_on_either_side_is_survived(name):
    for lost in (C, S):
        analyser = STREAM[name](CONFIG)
        state = analyser.begin()
        _, talk, _, _ = next(case for case in TABLE.values() if case[0] == name)
        for side, data in talk:
            assert isinstance(analyser.feed(state, side, data[: len(data) // 2]).outcome, Outcome)
            if side is lost:
                assert analyser.gap(state, side, 10).outcome in (Outcome.GOING, Outcome.DONE)
                break


def test_ftp_goes_on_with_the_line_after_a_gap():
    analyser = STREAM["ftp"](CONFIG)
    state = analyser.begin()
    analyser.feed(state, C, b"USER eve\r\nPA")
    analyser.gap(state, C, 100)
    analyser.feed(state, C, b"SS x\r\nPASS y\r\n")
    assert [sign.kind for sign in analyser.feed(state, S, b"530 Wrong\r\n").signs] == ["ftp-login"]


@pytest.mark.parametrize("name", ["ftp", "dns", "tls"])
def test_what_is_another_protocol_is_handed_over_with_all_its_bytes(name):
    stream = b"GET /?q=1 HTTP/1.1\r\nHost: h\r\n\r\n" if name != "tls" else b"\x16GET /"
    for cut in (whole, bytewise):
        analyser, rest = STREAM[name](CONFIG), b""
        state = analyser.begin()
        pieces = cut(stream)
        while (reading := analyser.feed(state, C, pieces.pop(0))).outcome is Outcome.GOING:
            pass
        rest = reading.rest + b"".join(pieces)
        assert (reading.outcome, rest) == (Outcome.FOREIGN, stream)


@given(st.lists(st.binary(max_size=5000), max_size=4), st.data())
def test_lines_do_not_depend_on_cuts(parts, data):
    stream = b"\n".join(parts)
    at = data.draw(st.integers(0, len(stream)))
    one, other = Lines(), Lines()
    expected = take_lines(one, stream)
    first, second = take_lines(other, stream[:at]), take_lines(other, stream[at:])
    assert (first[0] + second[0], first[1] + second[1]) == expected
    assert all(len(line) <= 4096 for line in expected[0])


@pytest.mark.parametrize(
    ("label", "data"),
    [
        ("a1b2c3d4e5f60718293a4b5c6d7e8f90", True),
        ("4oymiquy7qobjgx36tejs35zeqt24qpemsnzgtfeswmrw6csxbkq", True),
        (b"\xfc\xe4" * 16, True),
        ("a1b2c3d4e5f6", False),
        ("internal-my-application-prod-1234567890", False),
        ("the-longest-words-of-a-language-are-words", False),
    ],
)
def test_which_labels_look_like_data(label, data):
    analyser = DATAGRAM["dns"](CONFIG)
    raw = label if isinstance(label, bytes) else label.encode()
    message = QUERY[:12] + bytes((len(raw),)) + raw + b"\4test\0\0\x10\0\1"
    assert bool(analyser.datagram(analyser.begin(), C, message).signs) is data


@pytest.mark.parametrize(
    "pointer", [b"\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xc0\xff", b"\xc0", b"\x80x", b"\x3fshort", b""]
)
def test_names_that_never_end_are_malformed(pointer):
    analyser = DATAGRAM["dns"](CONFIG)
    reading = analyser.datagram(analyser.begin(), C, QUERY[:12] + pointer)
    assert (reading.messages, reading.malformed) == (0, 1)


def test_a_question_counts_once_and_an_answer_only_with_its_question():
    analyser = DATAGRAM["dns"](CONFIG)
    state, refusal = analyser.begin(), answer(QUERY, dns.rcode.NXDOMAIN)
    say = [(S, refusal), (C, TUNNEL), (C, TUNNEL), (C, QUERY), (C, refusal), (S, refusal), (S, refusal)]
    found = [[sign.kind for sign in analyser.datagram(state, side, message).signs] for side, message in say]
    assert found == [[], ["dns-tunnel"], [], [], [], ["dns-nxdomain"], []]
    for number in range(1000):
        analyser.datagram(state, C, query("a.test", number))
    assert len(state.open) == 64


@pytest.mark.parametrize(("oldest", "signs"), [("1.0", 0), ("1.1", 0), ("1.2", 1), ("1.3", 1)])
def test_the_oldest_version_is_the_operators(oldest, signs):
    config = IdsConfig(tls_oldest=oldest)
    assert len(feed("tls", [(C, HELLO), (S, server_hello(0x0302))], whole, config).signs) == signs


def test_a_name_that_no_server_can_have_takes_no_room_and_hides_nothing():
    long = b"a" * 9000 + b".forbidden.test"
    names = b"\0" + struct.pack("!H", len(long)) + long
    extension = struct.pack("!HHH", 0, len(names) + 2, len(names)) + names
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + struct.pack("!H", len(extension)) + extension
    message = b"\1" + len(body).to_bytes(3, "big") + body
    analyser = STREAM["tls"](CONFIG)
    state = analyser.begin()
    reading = analyser.feed(state, C, b"\x16\3\1" + struct.pack("!H", len(message)) + message)
    assert [sign.kind for sign in reading.signs] == ["tls-name"]
    assert len(msgspec.msgpack.encode(state)) < 400


@pytest.mark.parametrize(("newest", "version"), [("TLSv1_2", "TLS 1.2"), ("TLSv1_3", None)])
def test_a_whole_handshake_of_openssl_is_read(tmp_path, newest, version):
    make_ca(tmp_path)
    issue(tmp_path, "server", ("www.forbidden.test",))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = ssl.TLSVersion[newest]
    talk = handshake(server, client)
    assert len(talk) >= 3
    expected = [("tls-name", "www.forbidden.test")]
    expected += [("tls-version", f"{version} with www.forbidden.test")] if version else []
    config = IdsConfig(tls_names=["forbidden.test"], tls_oldest="1.3")
    for cut in (whole, bytewise):
        found = feed("tls", talk, cut, config)
        assert (found.signs, found.messages, found.outcome) == (expected, 2, Outcome.DONE)
