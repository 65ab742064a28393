"""The watcher of the inbox as a process, and what it has published."""

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import httpx2

from shared.contracts.event import Envelope
from shared.messaging.topology import INGEST_QUEUE
from shared.wire import decode_batch
from support.servers import Servers, free_port


class Watcher:
    """A watcher's process."""

    def __init__(self, process: asyncio.subprocess.Process, ops_port: int) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{ops_port}/readyz"

    async def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(25):
            return await self.process.wait()

    async def until_ready(self, *, ready: bool = True) -> None:
        async with asyncio.timeout(20), httpx2.AsyncClient() as client:
            while await self._is_ready(client) is not ready:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)

    async def _is_ready(self, client: httpx2.AsyncClient) -> bool:
        try:
            return (await client.get(self._url)).status_code == 200
        except httpx2.TransportError:
            return False


@asynccontextmanager
async def watcher(
    servers: Servers, root: Path, *flags: str, broker_at: str | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Watcher]:
    """Run `python -m file_watcher` until the block ends."""
    ops_port = free_port()
    broker_at = broker_at or f"{servers.amqp_host}:{servers.amqp_port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETLPAY_")}  # noqa: TID251 - a child's environment
    environment |= {
        "ETLPAY_FILES_ROOT": str(root),
        "ETLPAY_FILES_SCAN_SECONDS": "0.2",
        "ETLPAY_FILES_SETTLE_SECONDS": "0.2",
        "ETLPAY_BATCH__EVENTS_MAX": "50",
        "ETLPAY_AMQP_URL": f"amqp://operator@{broker_at}/",
        "ETLPAY_AMQP_PASSWORD": servers.amqp_password,
        "ETLPAY_PUBLISH_SECONDS_MAX": "1",
        "ETLPAY_RECONNECT_SECONDS_MAX": "0.5",
        "ETLPAY_OPS_PORT": str(ops_port),
        **(settings or {}),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "file_watcher", *flags, cwd=root, env=environment
    )
    running = Watcher(process, ops_port)
    try:
        yield running
    finally:
        if process.returncode is None:
            await running.kill()


async def published(broker: aio_pika.abc.AbstractChannel) -> list[Envelope]:
    """Take every event out of the ingest queue."""
    queue = await broker.get_queue(INGEST_QUEUE)
    events: list[Envelope] = []
    while message := await queue.get(fail=False):
        await message.ack()
        events += decode_batch(message.body)
    return events


def drop(root: Path, name: str, content: bytes, *, source: str = "shop") -> None:
    """Write the file beside the inbox and rename it in."""
    folder = root / "inbox" / source
    folder.mkdir(parents=True, exist_ok=True)
    written = root / f"{uuid.uuid4()}"
    written.write_bytes(content)
    written.rename(folder / name)


def names(root: Path, folder: str) -> set[str]:
    """Return the names of the files below a folder that are not hidden."""
    files = (path for path in (root / folder).rglob("*") if path.is_file())
    return {path.name for path in files if not any(part.startswith(".") for part in path.relative_to(root).parts)}


async def until_done(root: Path, *files: str) -> None:
    await until(lambda: set(files) <= names(root, "done"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.002)
