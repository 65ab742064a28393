"""The whole processor with a pipeline: it starts, it follows what is active, and it answers what is held."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from processor.service import serve
from processor.settings import ProcessorSettings
from shared.contracts.errors import RetryableError
from shared.contracts.result import RecordStatus
from shared.settings import SubmissionSettings
from shared.submit.processing import GrpcProcessing
from support.active_pipelines import active, bundle_of
from support.events import event
from support.registered import clear, create_tables, register
from support.servers import free_port

SHOP = 'etlpay = 1\nname = "shop"\nsource = "shop-*"\n[[table]]\nname = "orders"\n[table.columns]\nid = "/id"\n'


@pytest.fixture
async def registry(owner: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, on a ledger without pipelines."""
    await clear(owner)
    yield owner
    await clear(owner)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - the condition is in another service
            await asyncio.sleep(0.05)


async def test_a_running_processor_holds_what_it_cannot_run_and_runs_it_once_it_can(
    processor_settings: ProcessorSettings, registry: asyncpg.Connection
) -> None:
    await register(registry, "shop", bundle_of(SHOP))
    settings = processor_settings.model_copy(update={"processing_port": free_port()})
    stopping = asyncio.Event()
    client = GrpcProcessing(SubmissionSettings(processor_target=f"127.0.0.1:{settings.processing_port}"))

    async def status(body: bytes = b'{"id": "1"}', source: str = "shop-1") -> RecordStatus | None:
        try:
            [outcome] = await client.process([event(body, source=source)])
        except RetryableError:
            return None
        return outcome.status

    async def is_held() -> bool:
        return await status() is RecordStatus.HELD

    async def is_processed() -> bool:
        return await status() is RecordStatus.SUCCESS

    async with asyncio.TaskGroup() as group:
        served = group.create_task(serve(settings, stopping))
        await until(is_held)
        assert await status(source="bank") is RecordStatus.SUCCESS

        await create_tables(registry, active(SHOP))
        await register(registry, "shop", bundle_of(SHOP + "# newer\n"), version=2)
        await until(is_processed)
        assert await status(b'{"id": 7}') is RecordStatus.FAILED

        await register(registry, "shop", b"broken", version=3)
        await asyncio.sleep(3)
        assert await status() is RecordStatus.SUCCESS
        stopping.set()
        await served
    await client.close()
