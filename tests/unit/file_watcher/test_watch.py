"""Files that go on growing after they were moved to done/ or failed/."""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from file_watcher.spool.entry import SpoolEntry
from file_watcher.spool.finished import FOLDER, Finished
from file_watcher.spool.watch import FinishedWatch
from support.inbox import Inbox, open_spool

DONE = SpoolEntry("done", "shop", "a.ndjson")


class Uploader:
    """Writes into a file wherever it was moved to; between two writes the kernel knows of no writer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.touch()
        self._descriptor = os.open(path, os.O_RDONLY)

    def write(self, content: bytes) -> None:
        with Path(f"/proc/self/fd/{self._descriptor}").open("ab") as file:
            file.write(content)

    def close(self) -> None:
        os.close(self._descriptor)


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"etlpay_files_{name}_total") or 0.0


def age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


async def test_an_upload_that_stalls_and_goes_on_is_stored_whole_and_once(tmp_path: Path) -> None:
    """It stalls in the middle of a row, is done, goes on, stalls again, and ends."""
    inbox = Inbox(tmp_path)
    uploader = Uploader(tmp_path / "inbox/shop/a.ndjson")
    before = counted("taken_back")
    with inbox.spool:
        uploader.write(b'{"row": 1}\n{"row": 2, "amount": 25')
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.ndjson"))
        assert inbox.names("done") == {"a.ndjson", "a.ndjson.rejects.ndjson"}

        uploader.write(b'000}\n{"row": 3}\n{"row": 4')
        assert await inbox.look_back() == [DONE]
        uploader.write(b"}\n")
        assert await inbox.look_back() == [DONE]

        assert inbox.stored == [b'{"row": 1}', b'{"row": 2, "amount": 25000}', b'{"row": 3}', b'{"row": 4}']
        assert len(inbox.publisher.events) == 4
        assert inbox.names("done") == {"a.ndjson"}
        assert inbox.names("work") == inbox.names("failed") == inbox.notes() == set()
        assert counted("taken_back") == before + 2
        assert await inbox.look_back() == []
    uploader.close()


async def test_an_upload_of_csv_that_stalls_in_an_amount_stores_no_wrong_one(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    uploader = Uploader(tmp_path / "inbox/shop/a.csv")
    with inbox.spool:
        uploader.write(b"row,currency,amount\n1,EUR,10\n2,EUR,25")
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.csv"))
        assert inbox.bodies == [b"row,currency,amount\n1,EUR,10"]

        uploader.write(b"000\n3,EUR,99999\n4,EUR,5\n")
        assert await inbox.look_back() == [SpoolEntry("done", "shop", "a.csv")]

        assert inbox.bodies == [
            b"row,currency,amount\n" + row for row in (b"1,EUR,10", b"2,EUR,25000", b"3,EUR,99999", b"4,EUR,5")
        ]
        assert inbox.names("done") == {"a.csv"}
    uploader.close()


CUT = b'row,note,amount\n1,EUR,10\n,,\n2,"a ""b""\n\n7,c,8",25000\r\n,"",\n3,x,7\n\n4,y,99\n'
CUT_ROWS = [b"1,EUR,10", b'2,"a ""b""\n\n7,c,8",25000', b"3,x,7", b"4,y,99"]


@pytest.mark.parametrize("cut", range(1, len(CUT)))
async def test_wherever_an_upload_of_csv_stalls_each_row_is_stored_once(tmp_path: Path, cut: int) -> None:
    """In an amount, within quotes, between rows that hold nothing; rows without ids are known by their numbers."""
    inbox = Inbox(tmp_path)
    uploader = Uploader(tmp_path / "inbox/shop/a.csv")
    with inbox.spool:
        uploader.write(CUT[:cut])
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.csv"))
        uploader.write(CUT[cut:])
        assert await inbox.look_back()

        assert sorted(inbox.bodies) == sorted(b"row,note,amount\n" + row for row in CUT_ROWS)
        assert inbox.stored == inbox.bodies
        assert inbox.names("done") == {"a.csv"}
    uploader.close()


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.ndjson"])
async def test_an_upload_that_stalls_before_its_first_row_comes_back_out_of_failed(tmp_path: Path, name: str) -> None:
    parts = {
        "a.csv": (b"id,amo", b"unt\n1,2\n"),
        "a.json": (b'{"id": ', b'"1"}'),
        "a.ndjson": (b'{"id": ', b'"1"}\n'),
    }[name]
    inbox = Inbox(tmp_path)
    uploader = Uploader(tmp_path / "inbox/shop" / name)
    with inbox.spool:
        uploader.write(parts[0])
        await inbox.ingest(SpoolEntry("inbox", "shop", name))
        assert inbox.names("failed") == {name, f"{name}.rejects.ndjson"}

        uploader.write(parts[1])
        assert await inbox.look_back() == [SpoolEntry("failed", "shop", name)]

        assert [event.idempotency_key for event in inbox.publisher.events] == ["1"]
        assert inbox.names("done") == {name}
        assert inbox.names("failed") == set()
    uploader.close()


async def test_rejects_of_all_rows_are_written_when_a_file_comes_back(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    uploader = Uploader(tmp_path / "inbox/shop/a.ndjson")
    with inbox.spool:
        uploader.write(b'{"row": 1}\nbroken\n{"row": 3}\n')
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.ndjson"))
        uploader.write(b'broken\n{"row": 5}\n')
        assert await inbox.look_back() == [DONE]

        assert [line for line, _ in inbox.rejects("done/shop/a.ndjson.rejects.ndjson")] == [2, 4]
        assert inbox.bodies == [b'{"row": 1}', b'{"row": 3}', b'{"row": 5}']
    uploader.close()


async def test_elements_of_an_array_that_comes_late_are_stored_once(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    uploader = Uploader(tmp_path / "inbox/shop/a.json")
    with inbox.spool:
        uploader.write(b'[{"row":\n\n1}, {"row": 2')
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.json"))
        uploader.write(b'5}, {"row": 3}]')
        assert await inbox.look_back() == [SpoolEntry("failed", "shop", "a.json")]

        assert inbox.bodies == sorted([b'{"row":\n\n1}', b'{"row": 25}', b'{"row": 3}'])
        assert inbox.names("done") == {"a.json"}
    uploader.close()


async def test_a_row_whose_quotes_were_open_when_the_upload_stalled_is_stored(tmp_path: Path) -> None:
    """The lines after the quote looked like rows of their own then."""
    inbox = Inbox(tmp_path)
    uploader = Uploader(tmp_path / "inbox/shop/a.csv")
    with inbox.spool:
        uploader.write(b'id,note\n1,a\n2,"two\n3,three\n')
        await inbox.ingest(SpoolEntry("inbox", "shop", "a.csv"))
        uploader.write(b'end"\n4,d\n')
        assert await inbox.look_back() == [SpoolEntry("done", "shop", "a.csv")]

        assert b'id,note\n2,"two\n3,three\nend"' in inbox.stored
        assert b"id,note\n4,d" in inbox.stored
    uploader.close()


async def test_a_file_that_was_rewritten_in_done_is_stored_anew_with_a_warning(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool, capture_logs() as logs:
        await inbox.ingest(inbox.drop("a.ndjson", b'{"row": 1}\n{"row": 2}\n'))
        (tmp_path / "done/shop/a.ndjson").write_bytes(b'{"row": 1}\n{"row": 3}\n')
        assert await inbox.look_back() == [DONE]

        assert inbox.stored == [b'{"row": 1}', b'{"row": 1}', b'{"row": 2}', b'{"row": 3}']
    assert any("other than by appending" in line["event"] for line in logs)


async def test_a_file_that_was_only_touched_is_stored_once(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool, capture_logs() as logs:
        await inbox.ingest(inbox.drop("a.ndjson", b'{"row": 1}\nbroken\n'))
        age(tmp_path / "done/shop/a.ndjson", 3600)
        assert await inbox.look_back() == [DONE]

        assert len(inbox.publisher.events) == 1
        assert inbox.names("done") == {"a.ndjson", "a.ndjson.rejects.ndjson"}
        assert await inbox.look_back() == []
    assert not any("other than by appending" in line["event"] for line in logs)


async def test_the_next_watcher_watches_what_the_one_before_has_finished(tmp_path: Path) -> None:
    first = Inbox(tmp_path)
    with first.spool:
        await first.ingest(first.drop("a.ndjson", b'{"row": 1}\n'))
    with (tmp_path / "done/shop/a.ndjson").open("ab") as file:
        file.write(b'{"row": 2}\n')

    following = Inbox(tmp_path, publisher=first.publisher)
    with following.spool:
        assert await following.look_back() == [DONE]

        assert following.bodies == [b'{"row": 1}', b'{"row": 2}']


async def test_what_grew_in_time_while_nobody_watched_is_taken_back_later(tmp_path: Path) -> None:
    """The watcher is back when the time is over; what counts is when the file grew."""
    first = Inbox(tmp_path)
    with first.spool:
        await first.ingest(first.drop("a.ndjson", b'{"row": 1}\n'))
    with (tmp_path / "done/shop/a.ndjson").open("ab") as file:
        file.write(b'{"row": 2}\n')
    _finished_earlier(tmp_path, seconds=90)
    age(tmp_path / "done/shop/a.ndjson", 40)

    following = Inbox(tmp_path, publisher=first.publisher)
    with following.spool:
        assert await following.look_back() == [DONE]


async def test_what_grows_later_is_an_error_once_for_each_growth(tmp_path: Path) -> None:
    first = Inbox(tmp_path)
    with first.spool:
        await first.ingest(first.drop("a.ndjson", b'{"row": 1}\n'))
    _finished_earlier(tmp_path, seconds=3600)
    before, reported = counted("grown_late"), []

    for growths in (1, 0, 1):
        with (tmp_path / "done/shop/a.ndjson").open("ab") as file:
            file.write(b'{"row": 2}\n' * growths)
        inbox = Inbox(tmp_path)
        with inbox.spool, capture_logs() as logs:
            assert await inbox.look_back() == []
        reported.append([line["log_level"] for line in logs])

    assert reported == [["error"], [], ["error"]]
    assert counted("grown_late") == before + 2
    assert Inbox(tmp_path).names("done") == {"a.ndjson"}


async def test_a_file_that_keeps_coming_back_is_waited_for_longer_each_time(tmp_path: Path) -> None:
    """Each time it is read from the beginning; so it must be quiet for longer before."""
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(inbox.drop("a.ndjson", b'{"row": 0}\n'))
        for number in range(1, 4):
            with (tmp_path / "done/shop/a.ndjson").open("ab") as file:
                file.write(b'{"row": %d}\n' % number)
            assert await inbox.look_back() == [DONE]
        ((_, finished),) = inbox.spool.finished.since(0)
        assert finished.taken_back == 3

        patient = FinishedWatch(inbox.spool, seconds=60, files_max=10, settle_seconds=lambda _: 1.0)
        with (tmp_path / "done/shop/a.ndjson").open("ab") as file:
            file.write(b"\n")

        assert patient._quiet_seconds("shop", finished) == 8.0


async def test_a_file_that_is_gone_or_another_is_left_alone(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        for name in ("a.ndjson", "b.ndjson"):
            await inbox.ingest(inbox.drop(name, b'{"row": "%b"}\n' % name.encode()))
        (tmp_path / "done/shop/a.ndjson").unlink()
        (tmp_path / "done/shop/new").write_bytes(b"of an operator")
        (tmp_path / "done/shop/new").rename(tmp_path / "done/shop/b.ndjson")

        assert await inbox.look_back() == []


async def test_a_file_that_its_producer_has_open_is_not_taken_back(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(inbox.drop("a.ndjson", b'{"row": 1}\n'))
        with (tmp_path / "done/shop/a.ndjson").open("ab") as file:
            file.write(b'{"row": 2}\n')
            file.flush()
            inbox.watch.look()
            assert inbox.watch.look() == [DONE]
            assert inbox.watch.take_back(DONE) is None

        assert await inbox.look_back() == [DONE]


async def test_what_is_watched_and_remembered_is_bounded(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    spool = open_spool(tmp_path, settle_seconds=0.0, remembered_max=20)
    inbox.spool.close()
    inbox.spool = spool
    with spool:
        inbox.watch = FinishedWatch(spool, seconds=60, files_max=5, settle_seconds=lambda _: 0.0)
        for number in range(60):
            await inbox.ingest(inbox.drop(f"{number}.ndjson", b'{"row": %d}\n' % number))

        remembered = [finished.entry("shop").file for _, finished in spool.finished.since(0)]

        assert len(inbox.watch._watched) == 5
        assert 10 <= len(remembered) <= 40
        assert remembered == [f"{number}.ndjson" for number in range(60 - len(remembered), 60)]
        assert (tmp_path / "work" / FOLDER / "shop").stat().st_size < 20_000


async def test_a_torn_line_of_what_is_remembered_is_passed_over(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    with inbox.spool:
        await inbox.ingest(inbox.drop("a.ndjson", b'{"row": 1}\n'))
        with (tmp_path / "work" / FOLDER / "shop").open("ab") as file:
            file.write(b'{"folder":"done","na')
        await inbox.ingest(inbox.drop("b\udcff.ndjson", b'{"row": 2}\n'))

        places = [finished.entry(source) for source, finished in inbox.spool.finished.since(0)]

    assert places == [SpoolEntry("done", "shop", "a.ndjson"), SpoolEntry("done", "shop", "b\udcff.ndjson")]


def test_a_writer_that_comes_in_the_moment_of_the_question_does_not_end_the_service(tmp_path: Path) -> None:
    """The kernel sends SIGIO to the holder of a lease that a writer breaks; by default that ends a process."""
    (tmp_path / "a").touch()
    program = """
import fcntl, os, signal, subprocess, sys
from file_watcher.service import ignore_broken_leases
ignore_broken_leases()
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
child = os.fork()
if child == 0:
    try:
        os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
    except BlockingIOError:
        os._exit(0)
    os._exit(1)
os.waitpid(child, 0)
print("alive")
"""

    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a")], capture_output=True, check=False, timeout=60
    )

    assert (ended.returncode, ended.stdout) == (0, b"alive\n")


def _finished_earlier(root: Path, *, seconds: float) -> None:
    """Move the moment at which the files were finished, and their last change, back."""
    path = root / "work" / FOLDER / "shop"
    moved = []
    for line in path.read_bytes().split(b"\n"):
        if line:
            finished = msgspec.json.decode(line, type=Finished)
            moment_ns = finished.modified_ns - int(seconds * 1e9)
            file = root / finished.folder / "shop" / finished.name
            if file.stat().st_mtime_ns == finished.modified_ns:
                os.utime(file, ns=(moment_ns, moment_ns))
            moved.append(msgspec.structs.replace(finished, at=finished.at - seconds, modified_ns=moment_ns))
    path.write_bytes(b"".join(msgspec.json.encode(finished) + b"\n" for finished in moved))
