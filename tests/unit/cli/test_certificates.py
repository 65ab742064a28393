"""Certificates are made once, are of the stack's own authority, and are made anew in good time."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from etlpay_cli.certificates import AUTHORITY, CA_NAME, CERT_NAME, CLIENTS, KEY_NAME, SERVERS, certify
from etlpay_cli.provision import PRIVATE, provision

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    provision(tmp_path, PRIVATE)
    certify(tmp_path, PRIVATE, NOW)
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.pem")}


def cert_of(root: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((root / name / CERT_NAME).read_bytes())


def test_everybody_has_a_certificate_of_the_authority_and_nobody_its_key(root: Path) -> None:
    authority = cert_of(root, AUTHORITY)
    own_keys = set()

    for name in (*SERVERS, *CLIENTS):
        cert_of(root, name).verify_directly_issued_by(authority)
        assert (root / name / CA_NAME).read_bytes() == (root / AUTHORITY / CERT_NAME).read_bytes()
        own_keys.add((root / name / KEY_NAME).read_bytes())

    assert len(own_keys) == len(SERVERS) + len(CLIENTS)
    assert (root / AUTHORITY / KEY_NAME).read_bytes() not in own_keys
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*.pem")} == {0o600}


@pytest.mark.parametrize("name", [*SERVERS, *CLIENTS])
def test_a_server_is_known_by_its_name_and_a_client_is_none(root: Path, name: str) -> None:
    found = cert_of(root, name)

    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    )
    purposes = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names == ([name, "localhost"] if name in SERVERS else [name])
    assert (ExtendedKeyUsageOID.SERVER_AUTH in purposes) == (name in SERVERS)
    assert ExtendedKeyUsageOID.CLIENT_AUTH in purposes


def test_python_takes_them_as_strictly_as_it_can(root: Path) -> None:
    """A client and a server, each in memory, that shake hands and show their certificates."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(root / "processor" / CERT_NAME, root / "processor" / KEY_NAME)
    server_side.load_verify_locations(root / "processor" / CA_NAME)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cafile=str(root / "api-gateway" / CA_NAME))
    client_side.load_cert_chain(root / "api-gateway" / CERT_NAME, root / "api-gateway" / KEY_NAME)
    for context in (server_side, client_side):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname="processor")
    server = server_side.wrap_bio(to_server, to_client, server_side=True)

    unfinished = [client, server]
    for _ in range(10):
        for side in list(unfinished):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(side)

    assert unfinished == []
    assert server.getpeercert()["subject"] == ((("commonName", "api-gateway"),),)  # type: ignore[index]  # it has one


def test_a_second_run_changes_nothing(root: Path) -> None:
    before = contents(root)

    certify(root, PRIVATE, NOW + timedelta(days=300))

    assert before == contents(root)


def test_a_certificate_is_made_anew_a_year_before_its_end_and_the_authority_stays(root: Path) -> None:
    before = contents(root)

    certify(root, PRIVATE, NOW + timedelta(days=400))

    after = contents(root)
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {name for name in before if name.startswith(AUTHORITY) or name.endswith(CA_NAME)}


@pytest.mark.parametrize("lost", [f"processor/{KEY_NAME}", f"processor/{CERT_NAME}", f"processor/{CA_NAME}"])
def test_an_interrupted_run_is_completed(root: Path, lost: str) -> None:
    """Of a pair that does not belong together neither half is kept."""
    other = {name: content for name, content in contents(root).items() if not name.startswith("processor/")}
    (root / lost).unlink()
    if lost.endswith(CERT_NAME):
        (root / lost).write_bytes((root / "redis" / CERT_NAME).read_bytes())

    certify(root, PRIVATE, NOW)

    made = ssl.create_default_context(cafile=str(root / "processor" / CA_NAME))
    made.load_cert_chain(root / "processor" / CERT_NAME, root / "processor" / KEY_NAME)
    assert cert_of(root, "processor").subject.rfc4514_string() == "CN=processor"
    assert other.items() <= contents(root).items()


def test_with_a_new_authority_everybody_gets_a_new_certificate(root: Path) -> None:
    before = contents(root)
    (root / AUTHORITY / KEY_NAME).unlink()

    certify(root, PRIVATE, NOW)

    after = contents(root)
    assert [name for name in before if before[name] == after[name]] == []
