"""What places such as `@row` name in a row of a file is the same to `etlpay pipeline test` and to the processor."""

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from file_watcher.mapping import row_mapper
from processor.stages.pipeline import attributes_of
from processor.stages.transform import transform
from shared.contracts.event import Envelope
from shared.files.limits import USUAL_LIMITS
from shared.files.reading import kind_of, open_rows
from shared.pipelines.program import Attributes, Value
from shared.pipelines.trials import testing
from shared.pipelines.trials.expectations import KnownOfEvent
from shared.pipelines.trials.samples import read_events, run_sample
from shared.wire import decode_batch, encode_batch
from support.active_pipelines import active, set_of

PIPELINE = active(
    'etlpay = 1\nname = "p"\nsource = "shop-*"\n[[table]]\nname = "about"\n[table.columns]\n'
    'source = "@source"\nown = "@id"\nkind = "@type"\nchannel = "@channel"\nfile = "@file"\n'
    'row = { from = "@row", type = "integer" }\nfile_at = { from = "@file_at", type = "timestamp" }\n'
    'occurred = { from = "@occurred_at", type = "timestamp" }\n'
    'received = { from = "@received_at", type = "timestamp" }\nnote = "note"\n'
)
FILE_AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
FILES = {
    "a:b.csv": b'id,note\n1,"two\nlines"\n\n2,c\r\n3,d\n',
    "Id.csv": b" ID ,note\n1,a\n2,b\n",
    "a.ndjson": b'{"id": "1", "note": "a"}\n\n{"id": 2, "note": "b"}\n',
    "a.json": b'[{"id": "1", "note": "a"},\n\n {"id": "2", "note": "b"}]',
}


def published(name: str, content: bytes) -> list[Envelope]:
    """Return the events of a file as the processor gets them."""
    opened = open_rows(io.BytesIO(content), kind_of(name), USUAL_LIMITS)
    mapper = row_mapper(opened.csv, "shop-1", name, id_field="id", key_prefix="file:0:", file_at=FILE_AT)
    mapped = mapper.map_chunk(opened.chunks.next_chunk(500, 512 * 1024), FILE_AT + timedelta(seconds=1))
    assert mapped.rejects == []
    return decode_batch(encode_batch(mapped.events))


def in_a_test(name: str, content: bytes, events: list[Envelope]) -> list[tuple[Attributes, list[tuple[Value, ...]]]]:
    """Return what a test knows of each row, told when the events came in, and the rows that it makes."""
    assert PIPELINE.program is not None
    tried = []
    for sample, event in zip(read_events(name, content), events, strict=True):
        known = KnownOfEvent(source="shop-1", file_at=FILE_AT, received_at=event.received_at)
        about = testing.attributes_of(PIPELINE.program.pipeline, sample, known)
        tried.append((about, [row.values for row in run_sample(PIPELINE.program, sample, about).rows]))
    return tried


@pytest.mark.parametrize("name", FILES)
def test_a_row_is_known_alike(name: str) -> None:
    events = published(name, FILES[name])

    tried = in_a_test(name, FILES[name], events)

    for event, (about, rows) in zip(events, tried, strict=True):
        assert attributes_of(event) == about
        assert [row.values for row in transform(event, set_of(PIPELINE)).rows] == rows
        assert None not in (about.row, about.file_at)
        assert about.id


def test_the_moment_of_a_file_is_that_of_the_event_alone() -> None:
    """An event that was stored by the code before has none, and then the place has no value."""
    [event, *_] = published("a.ndjson", FILES["a.ndjson"])

    assert attributes_of(msgspec.structs.replace(event, file_at=None)).file_at is None
