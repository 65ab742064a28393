"""The views of pipelines as sources of dbt: the file `sources.yml` of a dbt project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from shared.pipelines.ddl.existing import NOTHING
from shared.pipelines.ddl.views import views_of
from shared.pipelines.histories import complete_histories
from shared.pipelines.typed_tables import LOADED_AT, typed_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from shared.pipelines.ddl.views import View
    from shared.pipelines.model import Pipeline

_STALE_HOURS: Final = 24


def dbt_sources(pipelines: Iterable[Pipeline]) -> str:
    """Return `sources.yml`: a source for each pipeline, with its views in schema `data`, their columns and freshness.

    A view is stale where no row of it was written for 24 hours; a project changes that to the rhythm of its source.
    """
    return "\n".join(["version: 2", "", "sources:", *(line for each in pipelines for line in _source(each))]) + "\n"


def _source(pipeline: Pipeline) -> Iterator[str]:
    yield f"  - name: {_text(pipeline.name)}"
    yield "    schema: data"
    yield from _about("    ", pipeline.about)
    yield "    config:"
    yield f"      loaded_at_field: {LOADED_AT.name}"
    yield f"      freshness: {{warn_after: {{count: {_STALE_HOURS}, period: hour}}}}"
    yield "    tables:"
    for view in views_of(complete_histories(pipeline), typed_tables(pipeline, {}), NOTHING):
        yield from _table(view)


def _table(view: View) -> Iterator[str]:
    yield f"      - name: {_text(view.name)}"
    yield from _about("        ", view.about)
    if all(column.name != LOADED_AT.name for column in view.columns):
        yield "        config: {freshness: null}"
    yield "        columns:"
    for column in view.columns:
        yield f"          - name: {_text(column.name)}"
        yield f"            data_type: {column.sql_type}"
        yield from _about("            ", column.about or "")


def _about(indent: str, text: str) -> Iterator[str]:
    if text:
        yield f"{indent}description: {_text(text)}"


def _text(text: str) -> str:
    """Return a text as YAML takes it whatever it says, as JSON does: `no` without quotes is false."""
    return msgspec.json.encode(text).decode()
