"""`GET /api/pipelines` and what is below it: which pipelines there are, and their versions."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal, NamedTuple

import asyncpg
from fastapi import APIRouter, Path, Query, Response
from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field

from api_gateway.http.openapi import reply
from api_gateway.http.problems import INVALID, NOT_FOUND, UNAVAILABLE, HttpProblem
from api_gateway.queries.ledger import Ledger
from api_gateway.queries.parameters import NAME, Cursor, Reader, json_response, read_cursor
from api_gateway.queries.total_views import TotalView, total_views
from api_gateway.schemas import (
    Hold,
    PipelineFiles,
    PipelinePage,
    PipelineState,
    PipelineTable,
    PipelineVersion,
    PipelineVersionPage,
)
from shared.auth.scopes import Scope
from shared.pipelines.bundle import BundleError, open_bundle
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.typed_tables import DATA_SCHEMA, typed_tables

_PIPELINES_MAX: Final = 100
_VERSION_MAX: Final = 2**31 - 1
_NAME_CHARS_MAX: Final = 40
_NOT_FOUND: Final = "There is no pipeline of this name."
# Of a version only its sources and tables are remembered; a version never changes.
_REMEMBERED_MAX: Final = 100
_STATES: Final[dict[int, Literal["active", "candidate", "off"]]] = {1: "active", 2: "candidate", 3: "off"}

# Of each name the last state and the last hold count.
_STATE: Final = """
    SELECT last.name, pipeline.id AS pipeline_id, pipeline.version, last.state, last.pinned, last.set_at, last.set_by,
           last.reason, hold.held, hold.reason AS hold_reason, hold.set_at AS hold_set_at, hold.set_by AS hold_set_by
    FROM (SELECT DISTINCT ON (name) * FROM pipeline_states WHERE {condition} ORDER BY name, id DESC) AS last
    LEFT JOIN pipelines AS pipeline ON pipeline.id = last.pipeline_id
    LEFT JOIN LATERAL (
        SELECT * FROM pipeline_holds WHERE name = last.name ORDER BY id DESC LIMIT 1
    ) AS hold ON true
"""
_PAGE: Final = _STATE.format(condition='name COLLATE "C" > $1') + 'ORDER BY last.name COLLATE "C" LIMIT $2'
_ONE: Final = _STATE.format(condition="name = $1")
_CONTENT: Final = "SELECT content FROM pipelines WHERE id = $1"
_VERSIONS: Final = """
    SELECT name, version, encode(sha256, 'hex') AS sha256, label, registered_at, registered_by
    FROM pipelines WHERE name = $1 AND version < $2 ORDER BY version DESC LIMIT $3
"""
_VERSION: Final = """
    SELECT id, name, version, encode(sha256, 'hex') AS sha256, label, registered_at, registered_by, content
    FROM pipelines WHERE name = $1 AND version = $2
"""


class PipelineCursor(Cursor, frozen=True, tag="pipelines"):
    """The last pipeline of a page."""

    name: Annotated[str, Meta(max_length=_NAME_CHARS_MAX, pattern=NAME)]


class VersionCursor(Cursor, frozen=True, tag="versions"):
    """The last version of a page."""

    version: Annotated[int, Meta(ge=0, le=_VERSION_MAX)]


class PipelineQuery(BaseModel):
    """The parameters of the lists."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(_PIPELINES_MAX, ge=1, le=_PIPELINES_MAX)
    cursor: str | None = Field(None, max_length=200, description="`next` of the page before")


PipelineName = Annotated[str, Path(max_length=_NAME_CHARS_MAX, pattern=NAME, examples=["shop"])]


class _Rules(NamedTuple):
    """What the files of a version say, as far as callers are told."""

    sources: tuple[str, ...] = ()
    tables: tuple[PipelineTable, ...] = ()
    totals: tuple[TotalView, ...] = ()

    def concern(self, scope: Scope) -> bool:
        """Tell whether a source of the version is one of a scope. Where they cannot be read it takes every source."""
        return scope.everything or any(map(scope.meets, self.sources))

    def lie_in(self, scope: Scope) -> bool:
        """Tell whether all sources of the version are in a scope."""
        return scope.everything or (bool(self.sources) and all(map(scope.covers_all, self.sources)))


class Pipelines:
    """Reads pipelines and their versions. One that takes no source of the caller's is not found."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is read here."""
        self._ledger = ledger
        self._rules: dict[int, _Rules] = {}

    async def page(self, scope: Scope, *, after: PipelineCursor | None, limit: int) -> PipelinePage:
        """Return up to `limit` pipelines that take a source of a scope, by name. Raises UnavailableError."""
        items: list[PipelineState] = []
        name = after.name if after else ""
        while len(items) <= limit:
            rows = await self._ledger.rows(_PAGE, name, _PIPELINES_MAX)
            for row in rows:
                rules = await self._rules_of(row["pipeline_id"])
                if rules.concern(scope):
                    items.append(_state(row, rules))
            if len(rows) < _PIPELINES_MAX:
                break
            name = rows[-1]["name"]
        shown = items[:limit]
        return PipelinePage(shown, PipelineCursor(shown[-1].name).encode() if len(items) > limit else None)

    async def find(self, name: str, scope: Scope) -> PipelineState:
        """Return a pipeline. Raises HttpProblem (not found) or UnavailableError."""
        rows = await self._ledger.rows(_ONE, name)
        rules = await self._rules_of(rows[0]["pipeline_id"]) if rows else _Rules()
        if not rows or not rules.concern(scope):
            raise HttpProblem(NOT_FOUND, _NOT_FOUND)
        return _state(rows[0], rules)

    async def table(self, name: str, scope: Scope) -> PipelineTable:
        """Return a table, where all sources of its pipeline are in a scope. Raises as `find`."""
        async for _, rules in self.covered(scope):
            for table in rules.tables:
                if table.name == name:
                    return table
        raise HttpProblem(NOT_FOUND, "There is no table of this name.")

    async def covered(self, scope: Scope) -> AsyncIterator[tuple[asyncpg.Record, _Rules]]:
        """Yield state and rules of each pipeline all of whose sources are in a scope. Raises UnavailableError."""
        last = ""
        while rows := await self._ledger.rows(_PAGE, last, _PIPELINES_MAX):
            for row in rows:
                rules = await self._rules_of(row["pipeline_id"])
                if rules.lie_in(scope):
                    yield row, rules
            last = rows[-1]["name"]

    async def check_covered(self, name: str, scope: Scope) -> None:
        """Raise HttpProblem (not found) where a pipeline has a source beyond a scope, or there is none."""
        rows = await self._ledger.rows(_ONE, name)
        if not rows or not (await self._rules_of(rows[0]["pipeline_id"])).lie_in(scope):
            raise HttpProblem(NOT_FOUND, _NOT_FOUND)

    async def covers_version(self, scope: Scope, pipeline_id: int) -> bool:
        """Tell whether all sources of a version are in a scope. Raises UnavailableError."""
        return scope.everything or (await self._rules_of(pipeline_id)).lie_in(scope)

    async def versions(
        self, name: str, scope: Scope, *, after: VersionCursor | None, limit: int
    ) -> PipelineVersionPage:
        """Return versions of a pipeline, newest first. Raises as `find`."""
        await self.find(name, scope)
        before = after.version if after else _VERSION_MAX
        rows = await self._ledger.rows(_VERSIONS, name, before, limit + 1)
        items = [PipelineVersion(**row) for row in rows[:limit]]
        return PipelineVersionPage(items, VersionCursor(items[-1].version).encode() if len(rows) > limit else None)

    async def version(self, name: str, number: int, scope: Scope) -> PipelineFiles:
        """Return a version with its files. Raises as `find`."""
        await self.find(name, scope)
        rows = await self._ledger.rows(_VERSION, name, number)
        if not rows or not (await self._rules_of(rows[0]["id"])).concern(scope):
            raise HttpProblem(NOT_FOUND, "There is no such version of this pipeline.")
        known = {key: value for key, value in rows[0].items() if key not in {"id", "content"}}
        try:
            bundle = open_bundle(rows[0]["content"])
        except BundleError:
            # It is of a later release.
            return PipelineFiles(**known, file="", files={}, facts={})
        return PipelineFiles(**known, file=bundle.file, files=bundle.files, facts=bundle.facts)

    async def _rules_of(self, pipeline_id: int | None) -> _Rules:
        if pipeline_id is None:
            return _Rules()
        found = self._rules.get(pipeline_id)
        if found is None:
            [row] = await self._ledger.rows(_CONTENT, pipeline_id)
            # Reading a large file takes longer than events should wait.
            found = await asyncio.to_thread(_read_rules, row["content"])
            if len(self._rules) >= _REMEMBERED_MAX:
                self._rules.clear()
            self._rules[pipeline_id] = found
        return found


def pipeline_router(pipelines: Pipelines) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/pipelines", tags=["queries"], default_response_class=Response)

    @router.get(
        "",
        operation_id="listPipelines",
        summary="List the pipelines",
        responses=reply(PipelinePage, INVALID, UNAVAILABLE, example={"items": [_EXAMPLE], "next": None}),
    )
    async def list_pipelines(caller: Reader, query: Annotated[PipelineQuery, Query()]) -> Response:
        """The pipelines that take events of a source that the API key is for, by name."""
        after = read_cursor(query.cursor, PipelineCursor)
        return json_response(await pipelines.page(caller.scope, after=after, limit=query.limit))

    @router.get(
        "/{name}",
        operation_id="getPipeline",
        summary="Read one pipeline",
        responses=reply(PipelineState, NOT_FOUND, INVALID, UNAVAILABLE, example=_EXAMPLE),
    )
    async def get_pipeline(caller: Reader, name: PipelineName) -> Response:
        """Its state, its sources and its tables. One that takes no source of the API key's is not found."""
        return json_response(await pipelines.find(name, caller.scope))

    @router.get(
        "/{name}/versions",
        operation_id="listPipelineVersions",
        summary="List the versions of a pipeline",
        responses=reply(
            PipelineVersionPage, NOT_FOUND, INVALID, UNAVAILABLE, example={"items": [_VERSION_EXAMPLE], "next": None}
        ),
    )
    async def list_versions(caller: Reader, name: PipelineName, query: Annotated[PipelineQuery, Query()]) -> Response:
        """Every version that was registered, newest first."""
        after = read_cursor(query.cursor, VersionCursor)
        return json_response(await pipelines.versions(name, caller.scope, after=after, limit=query.limit))

    @router.get(
        "/{name}/versions/{version}",
        operation_id="getPipelineVersion",
        summary="Read a version of a pipeline",
        responses=reply(PipelineFiles, NOT_FOUND, INVALID, UNAVAILABLE, example=_FILES_EXAMPLE),
    )
    async def get_version(
        caller: Reader, name: PipelineName, version: Annotated[int, Path(ge=1, le=_VERSION_MAX, examples=[3])]
    ) -> Response:
        """Its files as they were registered."""
        return json_response(await pipelines.version(name, version, caller.scope))

    return router


_VERSION_EXAMPLE: Final = {
    "name": "shop",
    "version": 3,
    "sha256": "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4",
    "label": "4f1c2d9",
    "registered_at": "2026-11-23T08:00:00Z",
    "registered_by": "etlpay_pipelines",
}
_FILES_EXAMPLE: Final = _VERSION_EXAMPLE | {
    "file": "shop.toml",
    "files": {"shop.toml": 'etlpay = 1\nname = "shop"\nsource = "shop-*"\n'},
    "facts": {"mask_key": "2026-11"},
}
_EXAMPLE: Final = {
    "name": "shop",
    "version": 3,
    "state": "active",
    "pinned": False,
    "sources": ["shop-*"],
    "tables": [
        {
            "name": "orders",
            "view": "data.orders",
            "about": "One row for each order.",
            "mode": "latest",
            "key": ["id"],
            "columns": {"id": "text", "gross": "numeric"},
        }
    ],
    "set_at": "2026-11-23T08:00:00Z",
    "set_by": "etlpay_pipelines",
    "reason": "apply",
    "held": {"reason": "rows.orders_1 is locked", "set_at": "2026-11-23T09:00:00Z", "set_by": "processor"},
}


def _read_rules(content: bytes) -> _Rules:
    """Return what the files of a version say; of one that cannot be read here, nothing."""
    try:
        bundle = open_bundle(content)
    except BundleError:
        return _Rules()
    pipeline, _ = read_pipeline(bundle.file, bundle.read)
    if pipeline is None:
        return _Rules()
    tables = tuple(
        PipelineTable(
            name=each.table.name,
            view=f"{DATA_SCHEMA}.{each.table.name}",
            about=each.table.about,
            mode=each.table.mode,
            key=each.key,
            columns={column.name: column.sql_type for column in each.columns},
        )
        for each in typed_tables(pipeline, {})
    )
    return _Rules(pipeline.sources, tables, total_views(pipeline))


def _state(row: asyncpg.Record, rules: _Rules) -> PipelineState:
    hold = None
    if row["held"]:
        hold = Hold(reason=row["hold_reason"], set_at=row["hold_set_at"], set_by=row["hold_set_by"])
    return PipelineState(
        name=row["name"],
        version=row["version"],
        state=_STATES[row["state"]],
        pinned=row["pinned"],
        sources=rules.sources,
        tables=rules.tables,
        set_at=row["set_at"],
        set_by=row["set_by"],
        reason=row["reason"],
        held=hold,
    )
