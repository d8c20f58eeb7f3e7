"""Mutual TLS of the control network: who a process is, and a sans-IO channel for loops of one's own.

Certificates name a part, not a machine: ``orchestrator``; for an agent ``NAME.agent`` and ``replica``, which its
replicas use. Both sides verify: a peer without a certificate of the lab's CA, with an expired one, or with another's
name is refused. `splitmerge certs` makes them.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitmerge.errors import BadInput, PeerError

ORCHESTRATOR = "orchestrator"
REPLICA = "replica"
_REMEDY = "make it with splitmerge certs"


def agent_name(name: str) -> str:
    """In the certificate of the agent of this name, as a DNS name has to look (RFC 1123 §2.1: letters of ASCII)."""
    return "".join(each if each.isascii() and each.isalnum() else "-" for each in name.lower()) + ".agent"


@dataclass(frozen=True, slots=True)
class Identity:
    """Files in PEM: the lab's CA, this part's certificate and its private key."""

    ca: Path
    certificate: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        """For the side that listens; it demands a certificate. :raises BadInput: for files that are not right."""
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def client(self) -> ssl.SSLContext:
        """For the side that connects; it verifies the name too. :raises BadInput: for files that are not right."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: ssl._SSLMethod) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        for path in (self.ca, self.certificate, self.key):
            _check_readable(path)
        try:
            context.load_verify_locations(str(self.ca))
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"tls: {self.ca}", _said(error), _REMEDY) from None
        try:
            context.load_cert_chain(str(self.certificate), str(self.key))
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"tls: {self.certificate}, {self.key}", _said(error), _REMEDY) from None
        return context


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadInput(f"tls: {path}", _said(error), _REMEDY) from None


def _said(error: OSError) -> str:
    return error.strerror or str(error)


def names_in(certificate: Any) -> frozenset[str]:
    """The DNS names that a verified certificate (as `ssl.SSLObject.getpeercert` gives it) is for."""
    return frozenset(name for kind, name in (certificate or {}).get("subjectAltName", ()) if kind == "DNS")


class Channel:
    """Bytes in, bytes out. What is sent before the handshake is over goes out right after it.

    :param expected: names of which the other side's certificate must have one; also the name that a client verifies.
    """

    def __init__(self, identity: Identity, expected: Iterable[str], *, server: bool) -> None:
        self._expected = frozenset(expected)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = identity.server() if server else identity.client()
        name = None if server else next(iter(self._expected))
        self._tls = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name)
        self._plain = bytearray()
        self.established = False
        if not server:
            self._shake()

    @property
    def waiting(self) -> int:
        """Bytes that wait for the handshake."""
        return len(self._plain)

    def send(self, data: bytes) -> None:
        """Encrypt, or keep until the handshake is over; then see `outgoing`."""
        self._plain += data
        self._write()

    def outgoing(self) -> bytes:
        """What has to go to the other side now."""
        return self._out.read()

    def receive_data(self, data: bytes) -> bytes:
        """What the other side has said. :raises PeerError: if it is not who it should be, or breaks TLS."""
        self._in.write(data)
        if not self.established and not self._shake():
            return b""
        said = bytearray()
        try:
            while chunk := self._tls.read(65536):
                said += chunk
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return bytes(said)
        except ssl.SSLError as error:
            raise PeerError(f"TLS: {error.reason or error}") from None
        return bytes(said)

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or str(error)
            raise PeerError(f"TLS: {reason}") from None
        names = names_in(self._tls.getpeercert())
        if not names & self._expected:
            raise PeerError(f"TLS: the certificate is for {', '.join(sorted(names))}, not {sorted(self._expected)[0]}")
        self.established = True
        self._write()
        return True

    def _write(self) -> None:
        if self.established and self._plain:
            self._tls.write(self._plain)
            self._plain.clear()
