"""A lab's certificate authority, and certificates for its parts (`splitmerge.tls` says what names they have)."""

from __future__ import annotations

import dataclasses
import datetime
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from splitmerge.errors import BadInput
from splitmerge.files import read_whole

_T = TypeVar("_T")

CA = "ca"
"""Name of the authority's two files, which is nobody else's."""
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
    capped: bool = False
    """Whether more days were asked for than the authority has left."""


def make_ca(directory: Path, days: float = CA_DAYS) -> Issued:
    """``ca.pem`` and ``ca.key`` in this directory, which is made if need be.

    :raises BadInput: if one of the two is there already, or they cannot be written.
    """
    if there := [each for each in _files(directory, CA) if os.path.lexists(each)]:
        raise BadInput(str(there[0]), "there is an authority here already", "use another directory")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Splitmerge lab CA")])
    builder = _builder(subject, subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(directory, error) from None
    return _write(directory, CA, certificate, key, ())


def issue(directory: Path, file: str, names: tuple[str, ...], days: float = DAYS) -> Issued:
    """``FILE.pem`` and ``FILE.key``, signed by the directory's authority, for both sides of a connection.

    A certificate for the same names is replaced, no other file. None outlives the authority: nobody would accept it
    then (RFC 5280 §6.1.3 asks for every certificate of the path). Negative ``days`` give one that has expired already.
    :raises BadInput: if there is no authority, it is not whole or has expired, or the files are another's.
    """
    if file.lower() == CA:
        raise BadInput(f"{directory}/{file}.pem", "is the authority's own", "give the part another name")
    ca, ca_key = _authority(directory)
    _check_replaceable(directory / f"{file}.pem", names)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file[:64])])
    builder = _builder(subject, ca.subject, key.public_key(), days, ca.not_valid_after_utc)
    builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = builder.add_extension(both, critical=False).sign(ca_key, hashes.SHA256())
    capped = certificate.not_valid_after_utc == ca.not_valid_after_utc
    return dataclasses.replace(_write(directory, file, certificate, key, names), capped=capped)


def _files(directory: Path, file: str) -> tuple[Path, Path]:
    """Where a certificate and its key are."""
    return directory / f"{file}.pem", directory / f"{file}.key"


def _check_replaceable(path: Path, names: tuple[str, ...]) -> None:
    """:raises BadInput: if something else than a certificate for these names is there."""
    if not os.path.lexists(path):
        return
    remedy = "it is not written over: remove it, or use another directory"
    there = _names(_read(path, x509.load_pem_x509_certificate, remedy))
    if set(there) != set(names):
        raise BadInput(str(path), f"is for {', '.join(there) or 'somebody else'}, not {', '.join(names)}", remedy)


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """:raises BadInput: if it is not there, not whole, no authority, or has expired."""
    certificate, key = _files(directory, CA)
    if not os.path.lexists(certificate) and not os.path.lexists(key):
        raise BadInput(str(certificate), "No such file", "make an authority first: splitmerge certs init")
    remedy = "{} goes with it: put back what `splitmerge certs init` wrote, or make an authority in another directory"
    ca = _read(certificate, x509.load_pem_x509_certificate, remedy.format("ca.key"))
    ca_key = _read(key, lambda pem: serialization.load_pem_private_key(pem, None), remedy.format("ca.pem"))
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey) or ca_key.public_key() != ca.public_key():
        raise BadInput(str(key), f"not the key of {certificate}", remedy.format("ca.pem"))
    if not _may_sign(ca):
        raise BadInput(str(certificate), "a part's certificate, not an authority's", remedy.format("ca.key"))
    if ca.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
        until = f"{ca.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise BadInput(str(certificate), f"has expired at {until}", "make an authority in another directory")
    return ca, ca_key


def _may_sign(certificate: x509.Certificate) -> bool:
    """Whether it is a CA's (RFC 5280 §4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names that it is for. :raises ValueError: for an extension that cannot be read."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _read(path: Path, load: Callable[[bytes], _T], remedy: str) -> _T:
    try:
        raw = read_whole(path, str(path))
    except OSError as error:
        raise BadInput(str(path), error.strerror or str(error), remedy) from None
    try:
        return load(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise BadInput(str(path), f"not readable as PEM: {str(error).partition('.')[0]}", remedy) from None


def show(directory: Path) -> tuple[list[Issued], list[BadInput]]:
    """Every certificate in the directory; and what is wrong with the ``.pem`` files that are none.

    :raises BadInput: if it is no directory, or has no such file.
    """
    remedy = "make an authority first: splitmerge certs init"
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".pem")
    except OSError as error:
        raise BadInput(str(directory), error.strerror or str(error), remedy) from None
    if not paths:
        raise BadInput(str(directory), "there is no certificate", remedy)
    found: list[Issued] = []
    bad: list[BadInput] = []
    for path in paths:
        try:
            found.append(_read(path, partial(_issued, path), "no certificate: move it elsewhere"))
        except BadInput as error:
            bad.append(error)
    return found, bad


def _issued(path: Path, pem: bytes) -> Issued:
    certificate = x509.load_pem_x509_certificate(pem)
    return Issued(path, path.with_suffix(".key"), _names(certificate), certificate.not_valid_after_utc)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: float,
    latest: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    """Valid for so many days, but not after ``latest``. :raises BadInput: for days that no calendar has."""
    try:
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    except (OverflowError, ValueError):
        raise BadInput(f"days {days:g}", "no date is so far away", "3650 are ten years") from None
    until = until if latest is None else min(until, latest)
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
    """Both files, each whole or as it was. :raises BadInput: if they cannot be written."""
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path, key_path = _files(directory, file)
    try:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=directory) as made:
            new, new_key = _files(Path(made), "new")
            new.write_bytes(certificate.public_bytes(pem))
            with os.fdopen(os.open(new_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(private)
            new_key.replace(key_path)
            new.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    return Issued(path, key_path, names, certificate.not_valid_after_utc)


def _unwritable(path: Path, error: OSError) -> BadInput:
    return BadInput(str(path), f"cannot be written: {error.strerror or error}", "name a directory that can be")
