"""A client in another language, with that language's own libraries."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.servers import CHECKOUT
from support.stack import Stack

FOREIGN = Path(__file__).parent / "foreign"


@pytest.fixture(scope="session")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client with its libraries, ready to run."""
    if shutil.which("npm") is None:
        # A laptop may do without; where changes are checked this must not go unseen.
        assert not os.environ.get("CI"), "npm is missing; the foreign client was not tested"  # noqa: TID251 - where it runs
        pytest.skip("npm is not installed; install Node.js to test with a client in another language")
    folder = tmp_path_factory.mktemp("foreign")
    for name in ("package.json", "client.js"):
        shutil.copy(FOREIGN / name, folder)
    subprocess.run(
        ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"),
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=100,
    )
    return folder / "client.js"


async def test_a_client_in_javascript_lands_the_same_bytes_over_http_grpc_and_amqp(
    stack: Stack, source: str, node_client: Path
) -> None:
    payload = '{"amount":  1.10, "big": 12345678901234567890, "who": "Zoë \\u20ac"}'

    answers = send(node_client, stack, source, payload)

    assert (answers["http"]["status"], answers["grpc"]["status"], answers["amqp"]) == (201, "SUCCESS", "confirmed")
    rows = await stack.events_of(source, count=3)
    assert {row["channel"] for row in rows} == {"http", "grpc", "queue"}
    assert {row["body"] for row in rows} == {payload.encode()}


def send(client: Path, stack: Stack, source: str, payload: str) -> dict[str, Any]:
    """Run the client; return what it was answered over each channel."""
    proto = CHECKOUT / "protos" / "etlpay.proto"
    done = subprocess.run(
        ("node", client, stack.http, stack.grpc, stack.amqp, proto, source, payload),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    answers: dict[str, Any] = msgspec.json.decode(done.stdout)
    return answers
