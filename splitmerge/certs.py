"""A lab's certificate authority, and certificates for its parts (`splitmerge.tls` says what names they have)."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from splitmerge.errors import BadInput

_T = TypeVar("_T")

CA_DAYS = 3650
DAYS = 365
_EARLIER = datetime.timedelta(minutes=5)
"""Certificates are valid from a little before now: clocks differ."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that is there."""

    certificate: Path
    key: Path
    names: tuple[str, ...]
    until: datetime.datetime


def make_ca(directory: Path, days: float = CA_DAYS) -> Issued:
    """``ca.pem`` and ``ca.key`` in this directory. :raises BadInput: if there is one already."""
    if (directory / "ca.key").exists():
        raise BadInput(f"{directory}/ca.key", "there is an authority here already", "use another directory")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Splitmerge lab CA")])
    builder = _builder(subject, subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    return _write(directory, "ca", certificate, key, ())


def issue(directory: Path, file: str, names: tuple[str, ...], days: float = DAYS) -> Issued:
    """``FILE.pem`` and ``FILE.key``, signed by the directory's authority, for both sides of a connection.

    Negative ``days`` give a certificate that has expired already.
    :raises BadInput: if there is no authority, or it is not whole.
    """
    ca, ca_key = _authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file[:64])])
    builder = _builder(subject, ca.subject, key.public_key(), days)
    builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(both, critical=False).sign(ca_key, hashes.SHA256())
    return _write(directory, file, certificate, key, names)


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, key = directory / "ca.pem", directory / "ca.key"
    if not certificate.exists() and not key.exists():
        raise BadInput(str(certificate), "No such file", "make an authority first: splitmerge certs init")
    remedy = "{} goes with it: put back what `splitmerge certs init` wrote, or make an authority in another directory"
    ca = _read(certificate, x509.load_pem_x509_certificate, remedy.format("ca.key"))
    ca_key = _read(key, lambda pem: serialization.load_pem_private_key(pem, None), remedy.format("ca.pem"))
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or ca_key.public_key() != ca.public_key():
        raise BadInput(str(key), f"not the key of {certificate}", remedy.format("ca.pem"))
    return ca, ca_key


def _read(path: Path, load: Callable[[bytes], _T], remedy: str) -> _T:
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise BadInput(str(path), error.strerror or str(error), remedy) from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise BadInput(str(path), f"not readable as PEM: {str(error).partition('.')[0]}", remedy) from None


def show(directory: Path) -> list[Issued]:
    """Every certificate in the directory."""
    found = []
    for path in sorted(directory.glob("*.pem")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            names = tuple(extension.value.get_values_for_type(x509.DNSName))
        except x509.ExtensionNotFound:
            names = ()
        found.append(Issued(path, path.with_suffix(".key"), names, certificate.not_valid_after_utc))
    return found


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    try:
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    except (OverflowError, ValueError):
        raise BadInput(f"days {days:g}", "no date is so far away", "3650 are ten years") from None
    since = min(datetime.datetime.now(datetime.UTC), until) - _EARLIER
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
    )


def _write(
    directory: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, names: tuple[str, ...]
) -> Issued:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_path, path = directory / f"{file}.key", directory / f"{file}.pem"
    key_path.unlink(missing_ok=True)
    descriptor = os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(private)
    path.write_bytes(certificate.public_bytes(pem))
    return Issued(path, key_path, names, certificate.not_valid_after_utc)
