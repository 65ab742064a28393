"""TLS with a server is on where its files are given, and never half."""

import ssl
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from shared.contracts.errors import FatalError
from shared.settings import AmqpSettings, PostgresSettings, QueueBrokerSettings, RedisSettings, SubmissionSettings
from shared.tls import TlsFiles, client_context, read_files
from support.tls import Certificates

NONE = TlsFiles("", "", "")


@pytest.fixture
def known(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def test_without_an_authority_there_is_no_tls() -> None:
    assert client_context(NONE) is None
    assert read_files(NONE) is None


def test_a_server_is_checked_with_its_name(known: Certificates) -> None:
    context = client_context(TlsFiles(str(known.ca), str(known.client_cert), str(known.client_key)))

    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    # The one authority, and none of the system's.
    assert len(context.get_ca_certs()) == 1


def test_grpc_is_given_what_is_in_the_files(known: Certificates) -> None:
    contents = read_files(TlsFiles(str(known.ca), str(known.client_cert), str(known.client_key)))

    assert contents == (known.ca.read_bytes(), known.client_cert.read_bytes(), known.client_key.read_bytes())


@pytest.mark.parametrize("read", [client_context, read_files])
def test_files_that_are_not_there_end_the_start_and_are_not_named(read: object, tmp_path: Path) -> None:
    assert callable(read)

    with pytest.raises(FatalError) as caught:
        read(TlsFiles(str(tmp_path / "missing.pem"), "", ""))

    assert "missing.pem" not in str(caught.value)


def test_a_key_that_is_anothers_ends_the_start(known: Certificates) -> None:
    with pytest.raises(FatalError):
        client_context(TlsFiles(str(known.ca), str(known.client_cert), str(known.key)))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (AmqpSettings, "amqp"),
        (QueueBrokerSettings, "queue_amqp"),
        (PostgresSettings, "postgres"),
        (RedisSettings, "redis"),
        (SubmissionSettings, "processor"),
    ],
)
@pytest.mark.parametrize("given", [("cert",), ("key",), ("cert", "key"), ("ca", "cert"), ("ca", "key")])
def test_half_a_certificate_is_refused(settings: type[BaseModel], name: str, given: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="a certificate needs"):
        settings.model_validate({f"{name}_{each}_file": "x.pem" for each in given})


@pytest.mark.parametrize(
    ("settings", "name", "url"),
    [
        (AmqpSettings, "amqp", "amqp://user@broker/"),
        (QueueBrokerSettings, "queue_amqp", "amqp://user@broker/"),
        (QueueBrokerSettings, "queue_amqp", ""),
        (RedisSettings, "redis", "redis://cache:6379/0"),
    ],
)
def test_an_authority_for_an_address_in_the_clear_is_refused(settings: type[BaseModel], name: str, url: str) -> None:
    with pytest.raises(ValidationError, match="_CA_FILE needs an address"):
        settings.model_validate({f"{name}_ca_file": "x.pem", f"{name}_url": url})


def test_our_certificate_is_shown_to_our_own_broker_only() -> None:
    ours = {
        "amqp_url": "amqps://us@ours/etlpay",
        "amqp_ca_file": "ca",
        "amqp_cert_file": "cert",
        "amqp_key_file": "key",
    }
    theirs = {"queue_amqp_url": "amqps://us@theirs/", "queue_amqp_ca_file": "their-ca"}

    own = QueueBrokerSettings.model_validate(ours).queue_broker()
    foreign = QueueBrokerSettings.model_validate(ours | theirs).queue_broker()

    assert own.amqp_tls == TlsFiles("ca", "cert", "key")
    assert foreign.amqp_tls == TlsFiles("their-ca", "", "")
