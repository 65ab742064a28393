"""The distribution for producers stands alone, and finds the broker as the services do."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from aio_pika.exceptions import ChannelNotFoundEntity, ConnectionClosed

from etlpay_client import OutcomeUnknownError, UnavailableError
from etlpay_client.queue import _translate_errors
from etlpay_client.settings import broker_url

ALLOWED = {"etlpay_client", "aio_pika", "aiormq", "grpc", "google", "msgspec"}
FOREIGN = {"shared", "pydantic", "pydantic_settings", "sqlalchemy", "starlette", "fastapi", "uvicorn", "structlog"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no `.etlpay/stack.env` but a test's own."""
    monkeypatch.chdir(tmp_path)


def test_importing_it_imports_nothing_of_the_services_and_no_web_server() -> None:
    program = "import sys, etlpay_client, etlpay_client.etlpay_pb2_grpc; print(*sys.modules)"
    printed = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, check=True).stdout

    imported = {module.partition(".")[0] for module in printed.split()}

    assert imported >= ALLOWED
    assert imported & FOREIGN == set()


def test_the_address_is_that_of_the_services_with_the_virtual_host_of_producers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ETLPAY_AMQP_URL", "amqp://shop@broker:5673/etlpay")
    monkeypatch.setenv("ETLPAY_AMQP_PASSWORD", "a/b@c")

    assert broker_url() == "amqp://shop:a%2Fb%40c@broker:5673/"


def test_an_address_of_a_foreign_broker_comes_first_with_its_own_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("theirs\n", encoding="utf-8")
    monkeypatch.setenv("ETLPAY_QUEUE_AMQP_URL", "amqps://shop@elsewhere/host")
    monkeypatch.setenv("ETLPAY_QUEUE_AMQP_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("ETLPAY_AMQP_PASSWORD", "ours")

    assert broker_url() == "amqps://shop:theirs@elsewhere/host"


def test_without_a_setting_it_is_the_stack_of_the_folder_else_the_usual_address(tmp_path: Path) -> None:
    usual = broker_url()
    (tmp_path / ".etlpay").mkdir()
    (tmp_path / ".etlpay/stack.env").write_text(
        "# Written.\nETLPAY_AMQP_URL=amqp://operator@127.0.0.1:1/etlpay\nETLPAY_AMQP_PASSWORD=p=q\n", encoding="utf-8"
    )

    assert usual == "amqp://guest:guest@127.0.0.1:5672/"
    assert broker_url() == "amqp://operator:p%3Dq@127.0.0.1:1/"


@pytest.mark.parametrize(
    ("raised", "reported"),
    [
        (ChannelNotFoundEntity("no exchange"), UnavailableError),
        (ConnectionClosed(320, "shutdown"), OutcomeUnknownError),
        (TimeoutError(), OutcomeUnknownError),
        # As the library ends what waits for a connection that is gone.
        (Exception("of no class"), OutcomeUnknownError),
        (asyncio.CancelledError(), OutcomeUnknownError),
    ],
)
async def test_an_error_of_the_library_says_whether_the_broker_may_hold_the_event(
    raised: BaseException, reported: type[Exception]
) -> None:
    with pytest.raises(reported), _translate_errors():
        raise raised


async def test_a_task_that_is_cancelled_stays_cancelled() -> None:
    async def wait() -> None:
        with _translate_errors():
            await asyncio.Event().wait()

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
