"""The public interface as types: paths, the body of a request, the bodies of successes. Pure."""

from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from shared.contracts.errors import InvalidEventError, Problem
from shared.contracts.event import ID_CHARS_MAX, SOURCE_CHARS_MAX, TYPE_CHARS_MAX
from shared.contracts.record import Record, Source
from shared.pipelines.program import RowProblem

ItemStatus = Literal["SUCCESS", "FAILED", "DUPLICATE", "CONFLICT", "REFUSED", "ACCEPTED", "UNKNOWN"]

API_PREFIX: Final = "/api/"
INGEST_PATH: Final = "/api/ingest"
BATCH_PATH: Final = "/api/ingest/batch"
TRY_PATH: Final = "/api/pipelines/try"

# For the API's description alone: the checks below say more than "not valid".
_SourceName = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": SOURCE_CHARS_MAX})]
_Payload = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
_Row = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "object"})]
_Id = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": ID_CHARS_MAX})]
_Type = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": TYPE_CHARS_MAX})]
_Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class MalformedError(InvalidEventError):
    """The bytes are no JSON document, so there is no place to name in it."""


class IngestRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event. `(source_name, id)` identifies it for ever; without an id it gets an identity of its own."""

    source_name: _SourceName
    payload: _Payload
    id: _Id | None = None
    type: _Type | None = None
    occurred_at: _Moment | None = None


class HttpResponse(NamedTuple):
    """A whole HTTP answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = "application/json"


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """The record of an event. `result_payload` is null, and `errors` say why, where `status` is FAILED.

    `errors` of a SUCCESS say what was odd to the pipeline of its source.
    """

    id: int
    raw_event_id: int
    event_id: UUID
    status: Literal["SUCCESS", "FAILED"]
    result_payload: msgspec.Raw
    processed_at: datetime
    errors: tuple[Problem, ...] | msgspec.UnsetType = msgspec.UNSET


class Queued(msgspec.Struct, frozen=True):
    """The event is durable and will be processed; `Location` says where to ask for it.

    It is in a queue, or stored while the pipeline of its source is held.
    """

    event_id: UUID
    status: Literal["ACCEPTED"] = "ACCEPTED"


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event of a batch, by its position in the request.

    Of a DUPLICATE or a CONFLICT `id` and `raw_event_id` name the event that was stored first. UNKNOWN: there is no
    confirmation, so send that event again with the same id.
    """

    index: int
    status: ItemStatus
    event_id: UUID | msgspec.UnsetType = msgspec.UNSET
    id: int | msgspec.UnsetType = msgspec.UNSET
    raw_event_id: int | msgspec.UnsetType = msgspec.UNSET
    errors: tuple[Problem, ...] | msgspec.UnsetType = msgspec.UNSET


class Counts(msgspec.Struct, kw_only=True):
    """received = stored + duplicate + conflict + refused + accepted + unknown; failed counts those of `stored`."""

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    refused: int = 0
    failed: int = 0
    accepted: int = 0
    unknown: int = 0


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """One result per event, in order. `complete` is false where the request could not be read to its end."""

    results: list[ItemResult]
    counts: Counts
    complete: bool


class RecordPage(msgspec.Struct, frozen=True):
    """Records, newest first; `next` is the cursor of the next page, null on the last."""

    items: list[Record]
    next: str | None


class SourcePage(msgspec.Struct, frozen=True):
    """Sources, oldest first; `next` is the cursor of the next page, null on the last."""

    items: list[Source]
    next: str | None


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Why the events of a pipeline are kept and not processed, since when, and by whom."""

    reason: str
    set_at: datetime
    set_by: str


class PipelineTable(msgspec.Struct, frozen=True, kw_only=True):
    """A typed table: the view that people read, and its columns with their types in SQL.

    The key of an `append` table is the event that made a row, and the number of the row within it.
    """

    name: str
    view: str
    about: str
    mode: Literal["append", "latest"]
    key: tuple[str, ...]
    columns: dict[str, str]


class PipelineState(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline. Of one that is active `version` is the one that runs; null: it has none.

    `sources` are names, or beginnings that end in `*`. `pinned`: somebody chose this version.
    """

    name: str
    version: int | None
    state: Literal["active", "candidate", "off"]
    pinned: bool
    sources: tuple[str, ...]
    tables: tuple[PipelineTable, ...]
    set_at: datetime
    set_by: str
    reason: str
    held: Hold | None


class PipelinePage(msgspec.Struct, frozen=True):
    """Pipelines, by name; `next` is the cursor of the next page, null on the last."""

    items: list[PipelineState]
    next: str | None


class PipelineVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version; it never changes. `sha256`, in hexadecimal digits, is that of its canonical bytes."""

    name: str
    version: int
    sha256: str
    label: str | None
    registered_at: datetime
    registered_by: str


class PipelineVersionPage(msgspec.Struct, frozen=True):
    """Versions of a pipeline, newest first; `next` is the cursor of the next page, null on the last."""

    items: list[PipelineVersion]
    next: str | None


class PipelineFiles(PipelineVersion, frozen=True, kw_only=True):
    """A version with its files. `file` is the name of the pipeline file among them.

    `facts` are what decides a result beside the files, such as the id of the key of its masks.
    """

    file: str
    files: dict[str, str]
    facts: dict[str, str]


class TrialEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event that is tried: a `payload`, or a CSV header with one row as `text`.

    `content_type` of a `text` is `text/csv`, or that of a stored row. What is not given is made up, always the same.
    """

    payload: _Payload | msgspec.UnsetType = msgspec.UNSET
    content_type: str = "application/json"
    text: str | msgspec.UnsetType = msgspec.UNSET
    source_name: _SourceName | None = None
    id: _Id | None = None
    type: _Type | None = None
    occurred_at: _Moment | None = None


class TrialRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pipeline with the files that it names, by their names, and one event.

    `file` is the name of the pipeline file; it may be left out where only one ends in `.toml`.
    """

    files: dict[str, str]
    event: TrialEvent
    file: str | None = None


class TrialResult(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of the event: its rows by table, or the `errors` for which it makes none.

    Values are exact texts, null where there is none; `gone` are tombstones. `cause` is that of a FAILED record.
    `matched`: a table takes events like this one. `notes` are what was odd and did not matter.
    """

    status: Literal["SUCCESS", "FAILED"]
    cause: str | None
    matched: bool
    rows: dict[str, list[dict[str, str | None]]]
    gone: dict[str, list[dict[str, str | None]]]
    errors: tuple[RowProblem, ...]
    notes: tuple[RowProblem, ...]


class RowColumn(msgspec.Struct, frozen=True):
    """A column of a typed table; `type` is that of SQL."""

    name: str
    type: str


class RowPage(msgspec.Struct, frozen=True):
    """Rows of a typed table, in the order of its key; `next` is the cursor of the next page, null on the last.

    `columns` are those of each row, in its order.
    """

    items: list[_Row]
    next: str | None
    columns: list[RowColumn]


class FeedRecord(Record, frozen=True, kw_only=True):
    """A record as the feed gives it: with what a pipeline made of the event, and why it is FAILED or HELD.

    `position` is that after this record, for `after`.
    """

    pipeline: str | None
    pipeline_version: int | None
    row_count: int | None
    cause: str | None
    position: str


class FeedPage(msgspec.Struct, frozen=True):
    """Records in the order of the feed. `next` always leads on; `more`: there may be more than these by now."""

    items: list[FeedRecord]
    next: str
    more: bool


class EventState(msgspec.Struct, frozen=True, kw_only=True):
    """Where an event is: in a queue, or stored with its record."""

    event_id: UUID
    state: Literal["queued", "stored"]
    record: Record | msgspec.UnsetType = msgspec.UNSET
