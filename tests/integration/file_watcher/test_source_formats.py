"""The file of formats, as the watcher's process uses it."""

import asyncio
from pathlib import Path

import aio_pika

from support.servers import Servers
from support.watcher import drop, names, published, until, until_done, watcher

FORMATS = """
["bank-*"]
delimiter = ";"
encoding = "windows-1252"
header = ["id", "payer", "amount"]

[slow]
marker = ".whole"
"""


async def test_files_are_read_as_their_source_writes_them(
    servers: Servers, broker: aio_pika.abc.AbstractChannel, tmp_path: Path
) -> None:
    """From the start, and from a change of the file on; a source with a marker waits for it."""
    formats = tmp_path / "formats.toml"
    formats.write_text(FORMATS)
    async with watcher(servers, tmp_path, settings={"ETLPAY_FILES_FORMATS_FILE": str(formats)}) as service:
        await service.until_ready()

        drop(tmp_path, "a.csv", "1;Müller;10,50\n".encode("windows-1252"), source="bank-north")
        drop(tmp_path, "b.csv", b"id,amount\n1,2\n", source="slow")
        drop(tmp_path, "c.csv", b"1;2\n", source="later")
        await until_done(tmp_path, "a.csv")
        await until(lambda: "c.csv" in names(tmp_path, "failed"))
        assert "b.csv" in names(tmp_path, "inbox")

        drop(tmp_path, "b.csv.whole", b"", source="slow")
        formats.write_text(FORMATS + '\n[later]\nheader = ["id", "amount"]\n')
        await asyncio.sleep(1.1)  # the file is looked at once a second
        drop(tmp_path, "d.csv", b"1;2\n", source="later")
        await until_done(tmp_path, "b.csv", "d.csv")

        assert await service.stop() == 0
    events = {event.source: event for event in await published(broker)}
    assert events["bank-north"].body == "id;payer;amount\n1;Müller;10,50".encode("windows-1252")
    assert events["bank-north"].content_type == 'text/csv; header=present; delimiter=";"; charset=windows-1252'
    assert (events["later"].idempotency_key, events["slow"].idempotency_key) == ("1", "1")


async def test_a_file_of_formats_that_cannot_be_used_ends_the_start(servers: Servers, tmp_path: Path) -> None:
    formats = tmp_path / "formats.toml"
    formats.write_text("[bank]\ndelimeter = ';'\n")

    async with watcher(servers, tmp_path, settings={"ETLPAY_FILES_FORMATS_FILE": str(formats)}) as service:
        async with asyncio.timeout(30):
            code = await service.process.wait()

    assert code not in (0, None)
