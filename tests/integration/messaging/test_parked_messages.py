"""`tools/queues.py take-parked` loses no message that it takes out."""

import asyncio
import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aio_pika
import msgspec
import pytest

from etlpay_cli.provision import INGEST_VHOST
from shared.messaging.topology import PARKED_QUEUE, PUBLIC_QUEUE, declare_ingest_queues, declare_public
from support.servers import CHECKOUT, Servers

TOOL = CHECKOUT / "tools" / "queues.py"
# A program that ends with the first file that is to be safe on the disk.
DIES_AT_FSYNC = "import os\nos.fsync = lambda _: os._exit(9)\n"


class Tool:
    """The program, run in one folder."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        self.servers = servers
        self.folder = folder

    async def park(self, queue: str, body: bytes, **headers: Any) -> None:  # noqa: ANN401 - of any AMQP type
        vhost = INGEST_VHOST if queue == PARKED_QUEUE else "/"
        async with await aio_pika.connect(self.servers.broker_url("operator", vhost)) as connection:
            amqp_channel = await connection.channel()
            message = aio_pika.Message(body, headers=dict(headers), content_type="a/b", correlation_id="c")
            await amqp_channel.default_exchange.publish(message, routing_key=queue)

    async def run(self, python_path: str = "") -> int:
        return await asyncio.to_thread(self._run, python_path)

    def _run(self, python_path: str) -> int:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETLPAY_")}  # noqa: TID251 - a child's environment
        own = {
            "ETLPAY_AMQP_URL": f"amqp://operator@{self.servers.amqp_host}:{self.servers.amqp_port}/{INGEST_VHOST}",
            "ETLPAY_AMQP_PASSWORD": self.servers.amqp_password,
            "PYTHONPATH": python_path,
        }
        done = subprocess.run(
            (sys.executable, TOOL, "take-parked"),
            cwd=self.folder,
            env=environment | own,
            capture_output=True,
            check=False,
        )
        return done.returncode

    def bodies(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.folder.glob("*.bin"))


@pytest.fixture
async def tool(servers: Servers, tmp_path: Path) -> Tool:
    async with await aio_pika.connect(servers.broker_url("operator", INGEST_VHOST)) as connection:
        await declare_ingest_queues(connection)
        await (await (await connection.channel()).get_queue(PARKED_QUEUE)).purge()
    async with await aio_pika.connect(servers.broker_url("operator")) as connection:
        await declare_public(connection, PUBLIC_QUEUE)
        await (await (await connection.channel()).get_queue(f"{PUBLIC_QUEUE}.parked")).purge()
    (tmp_path / "out").mkdir()
    return Tool(servers, tmp_path / "out")


async def test_what_was_taken_out_before_stays_where_more_is_taken_out(tool: Tool) -> None:
    await tool.park(PARKED_QUEUE, b"payment one")
    first = await tool.run()
    await tool.park(PARKED_QUEUE, b"payment two")
    await tool.park(f"{PUBLIC_QUEUE}.parked", b"payment three")

    second = await tool.run()

    assert (first, second) == (0, 0)
    assert tool.bodies() == [b"payment one", b"payment three", b"payment two"]


async def test_headers_and_properties_are_kept_beside_the_body(tool: Tool) -> None:
    await tool.park(PARKED_QUEUE, b"\xff", source="shop", raw=bytearray(b"\xfe"), table={"n": [1, None]})

    assert await tool.run() == 0

    [path] = tool.folder.glob("*.bin")
    said = msgspec.json.decode(path.with_suffix(".json").read_bytes())
    assert (said["content_type"], said["correlation_id"]) == ("a/b", "c")
    headers = {"source": "shop", "raw": base64.b64encode(b"\xfe").decode(), "table": {"n": [1, None]}}
    assert headers.items() <= said["headers"].items()
    assert {each.stat().st_mode & 0o077 for each in tool.folder.iterdir()} == {0}


async def test_a_message_stays_in_the_queue_until_its_files_are_on_the_disk(tool: Tool, tmp_path: Path) -> None:
    await tool.park(PARKED_QUEUE, b"payment")
    (tmp_path / "sitecustomize.py").write_text(DIES_AT_FSYNC, encoding="utf-8")

    died = await tool.run(str(tmp_path))
    again = await tool.run()

    assert (died, again) == (9, 0)
    assert b"payment" in tool.bodies()
