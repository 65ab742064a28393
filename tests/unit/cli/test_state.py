"""What is known of a stack is private, whole, and never that of another run."""

import stat
from pathlib import Path

import pytest

from etlpay_cli import state
from etlpay_cli.addresses import Credentials, addresses, write_stack_env
from etlpay_cli.layout import Layout

SECRETS = {
    "producer_password": "p-pw",
    "reader_password": "r-pw",
    "amqp_password": "o-pw",
    "redis_password": "c-pw",
    "processor_token": "p-token",
    "cache_key": "c-key",
}
CREDENTIALS = Credentials.of_folder(SECRETS)
PORTS = {"http": 8000, "grpc": 50051, "amqp": 5672, "postgres": 5432, "redis": 6379, "processing": 50052}


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written = state.State(
        mode="local", phase="ready", ports={"http": 8000}, programs={"postgres": state.Process(pid=7, created=1.5)}
    )

    state.write_state(tmp_path / "state.json", written)

    assert written == state.read_state(tmp_path / "state.json")


@pytest.mark.parametrize("content", [b"", b"{", b'{"mode": "elsewhere"}', b"[]"])
def test_a_state_that_cannot_be_read_is_no_state(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)

    assert state.read_state(path) is None
    assert state.read_state(tmp_path / "missing.json") is None


def test_a_second_holder_is_turned_away_until_the_first_lets_go(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    with state.hold(lock), pytest.raises(state.AlreadyUpError), state.hold(lock):
        pytest.fail("two hold the same lock")

    with state.hold(lock):
        pass


def test_stack_env_is_for_this_user_only_and_speaks_the_services_settings(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.state_folder.mkdir()

    write_stack_env(layout, PORTS, CREDENTIALS)

    assert stat.S_IMODE(layout.stack_env.stat().st_mode) == 0o600
    lines = dict(
        line.split("=", 1) for line in layout.stack_env.read_text().splitlines() if line and not line.startswith("#")
    )
    assert lines == {
        "ETLPAY_AMQP_URL": "amqp://operator@127.0.0.1:5672/etlpay",
        "ETLPAY_AMQP_PASSWORD": "o-pw",
        "ETLPAY_POSTGRES_URL": "postgresql://etlpay_reader@127.0.0.1:5432/etlpay",
        "ETLPAY_POSTGRES_PASSWORD": "r-pw",
        "ETLPAY_REDIS_URL": "redis://127.0.0.1:6379/0",
        "ETLPAY_REDIS_PASSWORD": "c-pw",
        "ETLPAY_CACHE_KEY": "c-key",
        "ETLPAY_OPS_PORT": "0",
        "ETLPAY_PROCESSOR_TARGET": "127.0.0.1:50052",
        "ETLPAY_PROCESSOR_TOKEN": "p-token",
    }


def test_where_the_cache_is_not_published_nobody_is_told_of_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.state_folder.mkdir()
    ports = {name: port for name, port in PORTS.items() if name != "redis"}

    write_stack_env(layout, ports, CREDENTIALS)

    assert "REDIS" not in layout.stack_env.read_text()
    assert addresses("docker", layout, ports, CREDENTIALS).redis == ""


def test_the_address_of_a_cache_of_before_has_no_password(tmp_path: Path) -> None:
    before = {name: SECRETS[name] for name in ("producer_password", "reader_password", "amqp_password")}

    found = addresses("local", Layout(tmp_path), PORTS, Credentials.of_folder(before))

    assert found.redis == "redis://127.0.0.1:6379/0"


def test_the_addresses_are_a_producers_and_a_readers(tmp_path: Path) -> None:
    found = addresses("local", Layout(tmp_path), PORTS, CREDENTIALS)

    assert found.http == "http://127.0.0.1:8000"
    assert found.grpc == "127.0.0.1:50051"
    assert found.amqp == "amqp://producer:p-pw@127.0.0.1:5672/"
    assert found.postgres == "postgresql://etlpay_reader:r-pw@127.0.0.1:5432/etlpay"
    assert found.redis == "redis://:c-pw@127.0.0.1:6379/0"
    assert found.inbox == str(tmp_path / "data/inbox")
    assert "o-pw" not in repr(found)
