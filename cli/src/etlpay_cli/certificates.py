"""Makes the certificates of one stack, beside its secrets: `python -m etlpay_cli.certificates DIR`.

Every service and every server has one of its own, from the stack's own authority. Idempotent, as `provision` is: a
certificate that is whole and valid for another year is kept.
"""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from etlpay_cli.provision import VOLUME, Modes, make_folder, provision, write_file

# The owners of certificates, by the name of the folder, which is also the host name within the stack.
SERVERS: Final = ("postgres", "processor", "rabbitmq", "redis")
CLIENTS: Final = ("api-gateway", "file-watcher", "grpc-ingest", "migrate", "operator", "pipelines", "queue-consumer")
AUTHORITY: Final = "authority"
CA_NAME, CERT_NAME, KEY_NAME = "tls_ca.pem", "tls_cert.pem", "tls_key.pem"

_AUTHORITY_LIFE: Final = timedelta(days=20 * 365)
_LIFE: Final = timedelta(days=2 * 365)
_LEFT_MIN: Final = timedelta(days=365)
# So that a new certificate is valid for a peer whose clock is behind.
_BACKDATED: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def certify(root: Path, modes: Modes, at: datetime) -> None:
    """Write the certificates below `root` that are missing, or that expire soon after `at`."""
    make_folder(root / AUTHORITY, modes.folder)
    authority = _settle(root / AUTHORITY, modes, at, issuer=None)
    ca = _pem(authority.cert)
    for name in (*SERVERS, *CLIENTS):
        _settle(root / name, modes, at, issuer=authority)
        path = root / name / CA_NAME
        if not path.exists() or path.read_text() != ca:
            write_file(path, ca, modes)


def _settle(folder: Path, modes: Modes, at: datetime, *, issuer: Issued | None) -> Issued:
    """Return the certificate of a folder; make a new one where it cannot be used."""
    known = _read(folder)
    if known is not None and _is_good(known, issuer, at):
        return known
    made = _issue(folder.name, issuer, at)
    write_file(
        folder / KEY_NAME,
        made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        modes,
    )
    write_file(folder / CERT_NAME, _pem(made.cert), modes)
    return made


def _read(folder: Path) -> Issued | None:
    """Return the certificate and the key of a folder; None where one is missing, or they do not belong together."""
    try:
        cert = x509.load_pem_x509_certificate((folder / CERT_NAME).read_bytes())
        key = load_pem_private_key((folder / KEY_NAME).read_bytes(), password=None)
    except FileNotFoundError:
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or _public(key.public_key()) != _public(cert.public_key()):
        return None
    return Issued(cert, key)


def _is_good(known: Issued, issuer: Issued | None, at: datetime) -> bool:
    """Tell whether a certificate was issued by this authority and is valid for long enough."""
    try:
        known.cert.verify_directly_issued_by(issuer.cert if issuer else known.cert)
    except Exception:  # noqa: BLE001 - every error means that it was not
        return False
    return known.cert.not_valid_after_utc - at >= _LEFT_MIN


def _issue(name: str, issuer: Issued | None, at: datetime) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    own_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(issuer.cert.subject if issuer else own_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _BACKDATED)
        .not_valid_after(at + (_LIFE if issuer else _AUTHORITY_LIFE))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None if issuer else 0), critical=True)
        .add_extension(_key_usage(authority=issuer is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        builder = _for_a_peer(builder, name, issuer)
    return Issued(builder.sign((issuer.key if issuer else key), hashes.SHA256()), key)


def _for_a_peer(builder: x509.CertificateBuilder, name: str, issuer: Issued) -> x509.CertificateBuilder:
    """Add the names, the purposes and the issuer's key to a service's certificate."""
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    if name in SERVERS:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        # Published ports are reached under these.
        names += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()),
            critical=False,
        )
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(cert: x509.Certificate) -> str:
    return cert.public_bytes(Encoding.PEM).decode()


def _public(key: object) -> bytes:
    """Return a public key as bytes that can be compared."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]  # any public key has it


def main() -> int:
    """Provision the folder named on the command line, and make the certificates of its services."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program's name and one folder
        sys.stderr.write("usage: python -m etlpay_cli.certificates DIR\n")
        return 2
    root = Path(sys.argv[1])
    provision(root, VOLUME)
    certify(root, VOLUME, datetime.now(UTC))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
