"""Histories beside the latest state: tables that are `like` another take over what it says. Pure."""

import msgspec

from shared.pipelines.model import Column, Pipeline, Table


def complete_histories(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with the columns of each table that is `like` another, before its own.

    It takes the same events where it says nothing else (`types`, `when`, `at`, `except`). Where rows of the other can
    be gone, only its key and `newest` are required, since such an event holds nothing else.
    """
    tables = {table.name: table for table in pipeline.table}
    completed = tuple(_completed(table, tables.get(table.like or "")) for table in pipeline.table)
    return msgspec.structs.replace(pipeline, table=completed)


def _completed(table: Table, other: Table | None) -> Table:
    if other is None or other.like is not None or other is table:
        return table
    return msgspec.structs.replace(
        table,
        columns=inherited_columns(other) | table.columns,
        types=table.types or other.types,
        when=table.when or other.when,
        at=table.at or other.at,
        except_=table.except_ or other.except_,
    )


def inherited_columns(other: Table) -> dict[str, Column]:
    """Return the columns that a history of a table takes over."""
    kept = {*other.key, other.newest}
    return {
        name: msgspec.structs.replace(column, required=False) if other.gone and name not in kept else column
        for name, column in other.columns.items()
    }
