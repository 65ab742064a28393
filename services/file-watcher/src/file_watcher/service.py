"""The composition root: the parts of file-watcher, in the order in which they start."""

import asyncio
import hashlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from file_watcher.in_place import READY as FILE
from file_watcher.in_place import InPlace, InPlaceFile
from file_watcher.ingest_file import FileIngester
from file_watcher.known_rows import KnownRows
from file_watcher.pipeline import RowPipeline
from file_watcher.publish import ConfirmedPublisher
from file_watcher.settings import Settings
from file_watcher.spool.directory import SpoolDirectory
from file_watcher.spool.scanning import OptionsOf, ScanLimits
from file_watcher.spool.watch import FinishedWatch
from file_watcher.watcher import READY as INBOX
from file_watcher.watcher import InboxWatcher
from shared.contracts.event import Channel
from shared.counters import TALLY
from shared.files.source_formats import open_formats
from shared.messaging.publisher import READY as RABBITMQ
from shared.messaging.publisher import Publisher
from shared.messaging.receipts import ReceiptSender
from shared.runtime.ops import OpsServer
from shared.runtime.readiness import Readiness
from shared.runtime.service import running

_SOURCE_DIGITS: Final = 16


async def serve_inbox(settings: Settings, stopping: asyncio.Event) -> None:
    """Ingest the files of the inbox until `stopping`.

    Raises:
        FatalError: the folders or the file of formats cannot be used, or RabbitMQ refuses this service.
    """
    ignore_broken_leases()
    readiness = Readiness(RABBITMQ, INBOX, stopping=stopping)
    formats = open_formats(settings.files_formats_file)
    with _open_spool(settings, formats.of) as spool:
        watch = FinishedWatch(
            spool,
            seconds=settings.files_watch_seconds,
            files_max=settings.files_watch_max,
            settle_seconds=lambda source: formats.of(source).settle_seconds or settings.files_settle_seconds,
        )

        async def edge(pipeline: RowPipeline) -> None:
            watcher = InboxWatcher(
                spool,
                FileIngester(spool, pipeline, watch, settings, stopping=stopping, formats=formats),
                watch,
                readiness,
                scan_seconds=settings.files_scan_seconds,
                files_at_once_max=settings.files_at_once_max,
            )
            await watcher.run(stopping)

        await _serve(settings, readiness, edge, stopping)


async def serve_in_place(
    settings: Settings, file: InPlace, interval_seconds: float, stopping: asyncio.Event, *, accept_header: bool
) -> None:
    """Ingest the new rows of one file until `stopping`.

    Raises:
        FatalError: the file of formats or the known rows cannot be read, or RabbitMQ refuses this service.
    """
    readiness = Readiness(RABBITMQ, FILE, stopping=stopping)
    formats = open_formats(settings.files_formats_file)
    with KnownRows(_kept_of(settings, file)) as known:
        if accept_header:
            known.accept_header()

        async def edge(pipeline: RowPipeline) -> None:
            reader = InPlaceFile(
                file, known, pipeline=pipeline, settings=settings, readiness=readiness, formats=formats
            )
            await reader.run(stopping, interval_seconds=interval_seconds)

        await _serve(settings, readiness, edge, stopping)


def _kept_of(settings: Settings, file: InPlace) -> Path:
    """Return the path of the known rows of the file."""
    source = hashlib.sha256(file.source.encode()).hexdigest()[:_SOURCE_DIGITS]
    return settings.files_root / "work" / ".in-place" / f"{source}-{file.digest}.sqlite"


def ignore_broken_leases() -> None:
    """Ignore the signal that comes when a producer opens a file while `being_written` holds a lease on it."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def _open_spool(settings: Settings, options_of: OptionsOf) -> SpoolDirectory:
    limits = ScanLimits(
        settle_seconds=settings.files_settle_seconds,
        empty_seconds=settings.files_empty_seconds,
        found_max=settings.files_scan_max,
        ignored=tuple(settings.files_ignored.split()),
    )
    return SpoolDirectory(
        settings.files_root,
        limits,
        umask=int(settings.files_umask, 8),
        remembered_max=settings.files_remembered_max,
        options_of=options_of,
    )


async def _serve(
    settings: Settings,
    readiness: Readiness,
    edge: Callable[[RowPipeline], Awaitable[None]],
    stopping: asyncio.Event,
) -> None:
    publisher = Publisher(settings, name="file-watcher", readiness=readiness)
    receipts = ReceiptSender(
        publisher,
        TALLY,
        service="file-watcher",
        channel=Channel.FILE,
        interval_seconds=settings.receipt_seconds,
    )
    pipeline = RowPipeline(ConfirmedPublisher(publisher, stopping=stopping), settings.batch, stopping=stopping)
    async with (
        running(OpsServer(readiness, host=settings.ops_host, port=settings.ops_port)),
        running(publisher),
        running(receipts),
    ):
        await receipts.opened(stopping)
        await edge(pipeline)
