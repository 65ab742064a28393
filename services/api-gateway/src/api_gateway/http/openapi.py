"""The description of the API (OpenAPI 3.1), generated from the types that are decoded and encoded."""

import inspect
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api_gateway.http.problems import (
    CONFLICT,
    CROSS_ORIGIN,
    FAILED,
    FORBIDDEN,
    INVALID,
    MALFORMED,
    MEDIA,
    MEDIA_TYPE,
    MISDIRECTED,
    OVERLOADED,
    RATE,
    SLOW,
    TOO_LARGE,
    UNAUTHENTICATED,
    UNAVAILABLE,
    UNKNOWN,
    UNSOUND,
    ProblemDetails,
    ProblemType,
)  # fmt: skip
from api_gateway.schemas import (
    BATCH_PATH,
    INGEST_PATH,
    TRY_PATH,
    BatchReport,
    EventState,
    FeedPage,
    Ingested,
    IngestRequest,
    PipelineFiles,
    PipelinePage,
    PipelineState,
    PipelineVersionPage,
    Queued,
    RecordPage,
    RowPage,
    SourcePage,
    TrialRequest,
    TrialResult,
)
from shared.contracts.audit import AuditPage
from shared.contracts.drift import DriftReport
from shared.contracts.record import Record
from shared.contracts.totals import TotalPage

Schema = dict[str, Any]

_TYPES: Final = (
    IngestRequest, Ingested, Queued, BatchReport, RecordPage, SourcePage, Record, EventState, AuditPage,
    PipelinePage, PipelineState, PipelineVersionPage, PipelineFiles, RowPage, FeedPage, TotalPage, DriftReport,
    TrialRequest, TrialResult, ProblemDetails,
)  # fmt: skip
_REF: Final = "#/components/schemas/{name}"
_EVENT: Final = {"source_name": "manual-demo", "payload": {"value": 123}}
_EVENT_WITH_ID: Final = {
    "source_name": "manual-demo",
    "id": "invoice-2026-0001",
    "type": "payment.captured",
    "occurred_at": "2026-11-23T08:00:00Z",
    "payload": {"amount": "1250.00", "currency": "EUR"},
}
_LINES: Final = (
    '{"source_name":"manual-demo","payload":{"value":1}}\n{"source_name":"manual-demo","payload":{"value":2}}\n'
)
_TRIED_FILE: Final = """\
etlpay = 1
name   = "shop"
source = "shop"

[[table]]
name = "orders"

[table.columns]
id     = "/id"
amount = { from = "/amount", type = "decimal", required = true }
"""
_TRIED: Final = {"files": {"shop.toml": _TRIED_FILE}, "event": {"payload": {"id": "o-1", "amount": "10.99"}}}
_TRIED_ROW: Final = _TRIED | {"event": {"content_type": "text/csv", "text": "id,amount\no-1,10.99\n"}}
_TRIED_RESULT: Final[Schema] = {
    "status": "SUCCESS",
    "cause": None,
    "matched": True,
    "rows": {"orders": [{"id": "o-1", "amount": "10.99"}]},
    "gone": {},
    "errors": [],
    "notes": [],
}
_REPLAYED: Final = {"Idempotency-Replayed": {"schema": {"const": "true"}, "description": "an earlier answer, again"}}
_RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
_APPLIED: Final = {"Preference-Applied": {"schema": {"type": "string"}, "description": "RFC 7240"}}
_TEXT: Final = {"schema": {"type": "string"}}
_HEADERS_OF: Final[dict[ProblemType, Schema]] = {
    UNAUTHENTICATED: {"WWW-Authenticate": _TEXT | {"description": "RFC 6750"}},
    RATE: _RETRY_AFTER
    | {
        "RateLimit-Policy": _TEXT | {"description": "how many events in how many seconds"},
        "RateLimit": _TEXT | {"description": "what is left, and when it is more"},
    },
}
_ADMISSION: Final = (UNAUTHENTICATED, FORBIDDEN, CROSS_ORIGIN, MISDIRECTED)
_INGEST_REFUSALS: Final = (MALFORMED, *_ADMISSION, SLOW, TOO_LARGE, MEDIA, RATE)
_KEYS: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `etlp_...`. Where the operator has made none, none is asked for.",
}


def reply(schema: type[msgspec.Struct], *problem_types: ProblemType, example: object = None) -> dict[int | str, Schema]:
    """Return the declared responses of a query: its success, with an example where one is given, and its problems."""
    success = _success(schema, "the answer")
    if example is not None:
        success["content"]["application/json"]["example"] = example
    return {200: success} | _problems(*_ADMISSION, *problem_types)


def describe(app: FastAPI) -> Schema:
    """Return the description of the whole API; made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        schema["paths"] = _ingest_paths() | schema["paths"] | {TRY_PATH: {"post": _try_pipeline()}}
        _, components = msgspec.json.schema_components(_TYPES, ref_template=_REF)
        schema["components"] = {
            "schemas": {name: _refined(components[name]) for name in sorted(components)},
            "securitySchemes": {"apiKey": _KEYS},
        }
        schema["security"] = [{"apiKey": []}, {}]
        app.openapi_schema = schema
    return app.openapi_schema


def _refined(component: Schema) -> Schema:
    """Add what the types do not say: which text is a moment, and that a result is an object."""
    properties = component.get("properties", {})
    for name, member in properties.items():
        if name.endswith(("_at", "_hour")):
            for choice in member.get("anyOf", [member]):
                if choice.get("type") == "string":
                    choice["format"] = "date-time"
        elif name == "result_payload":
            member["type"] = ["object", "null"]
    if "description" in component:
        component["description"] = inspect.cleandoc(component["description"])
    return component


def _success(schema: type[msgspec.Struct], description: str, headers: Schema | None = None) -> Schema:
    content = {"application/json": {"schema": {"$ref": _REF.format(name=schema.__name__)}}}
    return {"description": description, "content": content} | ({"headers": headers} if headers else {})


def _problems(*problem_types: ProblemType) -> dict[int | str, Schema]:
    """Return one response per status; problem types with the same status share it."""
    responses: dict[int | str, Schema] = {}
    for problem_type in problem_types:
        text = f"{problem_type.title} (`{problem_type.name}`)"
        if problem_type.status in responses:
            responses[problem_type.status]["description"] += f", or: {text}"
            continue
        schema = {"$ref": _REF.format(name=ProblemDetails.__name__)}
        responses[problem_type.status] = {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
        if headers := _HEADERS_OF.get(problem_type, {} if problem_type.retry_after_seconds is None else _RETRY_AFTER):
            responses[problem_type.status]["headers"] = headers
    return responses


def _ingest_paths() -> Schema:
    return {INGEST_PATH: {"post": _ingest_one()}, BATCH_PATH: {"post": _ingest_batch()}}


def _ingest_one() -> Schema:
    event = {"$ref": _REF.format(name=IngestRequest.__name__)}
    examples = {
        "first": {"summary": "The least there is", "value": _EVENT},
        "with_id": {"summary": "With an id: safe to repeat", "value": _EVENT_WITH_ID},
    }
    answers: dict[int | str, Schema] = {
        201: _success(Ingested, "Stored: PostgreSQL has committed it", _APPLIED),
        200: _success(Ingested, "A duplicate: the first answer again", _REPLAYED),
        202: _success(
            Queued,
            "Durable, and will be processed: in the queue, as you preferred or because the processor is away; or "
            "stored, while the pipeline of its source is held",
            {"Location": {"schema": {"type": "string"}, "description": "where to ask for it"}} | _APPLIED,
        ),
    }
    problem_types = (*_INGEST_REFUSALS, CONFLICT, INVALID, FAILED, OVERLOADED, UNAVAILABLE, UNKNOWN)
    return {
        "tags": ["ingest"],
        "operationId": "ingestEvent",
        "summary": "Store one event",
        "description": "Safe to repeat with the same `id` (or `Idempotency-Key`): it is stored once, for ever.",
        "parameters": [_KEY, _prefer("`respond-async`: 202 at once; `wait=N`: 202 after N seconds without an outcome")],
        "requestBody": {"required": True, "content": {"application/json": {"schema": event, "examples": examples}}},
        "responses": _in_order(answers | _problems(*problem_types)),
    }


def _ingest_batch() -> Schema:
    event = {"$ref": _REF.format(name=IngestRequest.__name__)}
    array = {"schema": {"type": "array", "items": event}, "example": [_EVENT, _EVENT_WITH_ID]}
    lines = {"schema": {"type": "string", "description": "one event a line"}, "example": _LINES}
    answers = {200: _success(BatchReport, "One result per event, in order", _APPLIED)}
    return {
        "tags": ["ingest"],
        "operationId": "ingestBatch",
        "summary": "Store many events",
        "description": "A JSON array or NDJSON of events. One bad event never fails the others.",
        "parameters": [_prefer("`respond-async`: do not wait for the outcomes")],
        "requestBody": {"required": True, "content": {"application/json": array, "application/x-ndjson": lines}},
        "responses": _in_order(answers | _problems(*_INGEST_REFUSALS, OVERLOADED, UNAVAILABLE, UNKNOWN)),
    }


def _try_pipeline() -> Schema:
    answers: dict[int | str, Schema] = {200: _success(TrialResult, "What the event would become")}
    answers[200]["content"]["application/json"]["example"] = _TRIED_RESULT
    refusals = (*_INGEST_REFUSALS, INVALID, UNSOUND, OVERLOADED, UNAVAILABLE)
    examples = {
        "payload": {"summary": "A JSON event", "value": _TRIED},
        "row": {"summary": "A row of a CSV file", "value": _TRIED_ROW},
    }
    schema = {"$ref": _REF.format(name=TrialRequest.__name__)}
    return {
        "tags": ["queries"],
        "operationId": "tryPipeline",
        "summary": "Try a pipeline file on one event",
        "description": "Nothing is stored. One trial runs at a time, for a second of CPU. Masks have a test key.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}},
        "responses": _in_order(answers | _problems(*refusals)),
    }


_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 255},
    "description": "The event's id, in place of the member `id`; kept for ever.",
}


def _prefer(description: str) -> Schema:
    return {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": description,
    }


def _in_order(responses: dict[int | str, Schema] | dict[int, Schema]) -> Schema:
    return {str(status): responses[status] for status in sorted(responses, key=int)}  # type: ignore[index]  # a JSON object of FastAPI's
