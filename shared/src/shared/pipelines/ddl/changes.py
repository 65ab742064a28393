"""What has to be done so that PostgreSQL holds the tables and views of a pipeline: DDL that only adds. Pure."""

from collections.abc import Iterator

from shared.pipelines.ddl.change import STRUCTURAL, Change, Moment
from shared.pipelines.ddl.existing import Existing, ExistingTable, ExistingView
from shared.pipelines.ddl.meaning import counted, meaning_changes
from shared.pipelines.ddl.sql import (
    NAME_BYTES_MAX,
    add_column,
    collation_of,
    comment_on,
    create_index,
    create_table,
    drop_invalid,
    in_data,
    in_rows,
)
from shared.pipelines.ddl.views import NOTHING_WRITTEN, View, Written, views_of
from shared.pipelines.histories import complete_histories
from shared.pipelines.model import Pipeline
from shared.pipelines.typed_tables import DATA_SCHEMA, ROWS_SCHEMA, TypedTable, quoted, typed_tables

_OTHER_OWNER = "belongs to another role; only its owner may change it"


def changes_of(
    pipeline: Pipeline,
    generations: dict[str, int],
    existing: Existing,
    before: Pipeline | None = None,
    written: Written = NOTHING_WRITTEN,
) -> tuple[Change, ...]:
    """Return what applying a pipeline changes; nothing where PostgreSQL holds it all, and `before` means the same.

    `pipeline` and `before` have passed `lint`; `before` is the version that has written the rows so far. `generations`
    has the number of each table, where it is not the first; `written` what each registered version writes.
    """
    pipeline = complete_histories(pipeline)
    tables = typed_tables(pipeline, generations)
    changes = [
        change
        for table in sorted(tables, key=lambda each: each.name)
        for change in _table_changes(table, existing.tables.get(table.name))
    ]
    if not any(change.kind == STRUCTURAL for change in changes):
        # Views of tables that cannot be as they should would only say so again.
        for view in views_of(pipeline, tables, existing, written):
            changes += _view_changes(view, existing.views.get(view.name))
    if before is not None:
        changes += meaning_changes(complete_histories(before), pipeline, tables, existing)
    return tuple(dict.fromkeys(changes))


def _table_changes(table: TypedTable, there: ExistingTable | None) -> Iterator[Change]:
    name = table.table.name
    if there is None:
        comment = (comment_on(f"TABLE {in_rows(table.name)}", table.table.about),) if table.table.about else ()
        detail = f"{len(table.columns)} columns, key ({', '.join(table.key)}), {table.table.mode}"
        yield Change("+", f"table {name}", detail, statements=(create_table(table), *comment))
    else:
        if not there.owned:
            yield _refused(table, _OTHER_OWNER)
        yield from _column_changes(table, there)
        yield from _left_columns(table, there)
        if there.about != table.table.about:
            statement = comment_on(f"TABLE {in_rows(table.name)}", table.table.about)
            yield Change("~", f"comment of table {name}", statements=(statement,))
    yield from _index_changes(table, there)


def _refused(table: TypedTable, detail: str) -> Change:
    return Change("~", f"table {table.table.name}", f"{ROWS_SCHEMA}.{table.name} {detail}", STRUCTURAL)


def _column_changes(table: TypedTable, there: ExistingTable) -> Iterator[Change]:
    name = table.table.name
    if there.key != table.key:
        detail = f"was ({', '.join(there.key) or 'none'}), is ({', '.join(table.key)}); {_stored(there)}"
        yield Change("~", f"table {name}: key", detail, STRUCTURAL)
        return
    for column in (*table.columns, *table.added):
        known = there.column(column.name)
        if known is None and column.required:
            yield _refused(table, f"has no column {column.name}, which cannot be added to rows")
        elif known is None:
            yield Change("+", f"column {name}.{column.name}", column.sql_type, statements=(add_column(table, column),))
        elif known.sql_type != column.sql_type:
            detail = f"is {known.sql_type}, would be {column.sql_type}; {_stored(there)}"
            yield Change("~", f"column {name}.{column.name}: type", detail, STRUCTURAL)
        elif known.required and not column.required:
            yield _refused(table, f"has a column {column.name} that is NOT NULL, so some rows would be refused")
        elif known.collation != collation_of(table, column) and column.name in table.key:
            yield _refused(table, f"has a key column {column.name} with another collation")


def _left_columns(table: TypedTable, there: ExistingTable) -> Iterator[Change]:
    taken = {column.name for column in (*table.columns, *table.added)}
    for known in there.columns:
        if known.name not in taken:
            if known.required:
                yield _refused(table, f"has a column {known.name} that is NOT NULL and that nothing fills")
            else:
                yield Change(
                    "-", f"column {table.table.name}.{known.name}", "is no longer written; kept, empty from now on"
                )


def _stored(there: ExistingTable) -> str:
    if there.rows:
        return f"{counted(there.rows)} are stored"
    return f"it holds no rows: DROP TABLE {in_rows(there.name)} CASCADE by hand, and apply makes it anew"


def _index_changes(table: TypedTable, there: ExistingTable | None) -> Iterator[Change]:
    known = there.indexes if there else ()
    for columns in dict.fromkeys(table.table.index):
        if any(index.columns == columns and index.valid for index in known):
            continue
        broken = tuple(drop_invalid(index) for index in known if index.columns == columns)
        what = f"index on {table.table.name} ({', '.join(columns)})"
        if there is None or not (there.rows or broken):
            yield Change("+", what, statements=(create_index(table, columns, concurrently=False),))
            continue
        # What is added within the transaction can be indexed after it only.
        moment: Moment = "before" if all(there.column(name) for name in columns) else "after"
        detail = "concurrently" + (", again: its building was cut off" if broken else "")
        statements = (*broken, create_index(table, columns, concurrently=True))
        yield Change("+", what, detail, statements=statements, moment=moment)


def _view_changes(view: View, there: ExistingView | None) -> Iterator[Change]:
    problem = _view_problem(view, there)
    if problem:
        yield Change("~", f"view {view.name}", f"{DATA_SCHEMA}.{view.name} {problem}", STRUCTURAL)
    elif there is None:
        yield Change("+", f"view {view.name}", statements=_view_statements(view, there))
    elif there.about != view.comment or tuple(each.name for each in there.columns) != tuple(
        each.name for each in view.columns
    ):
        yield Change("~", f"view {view.name}", statements=_view_statements(view, there))
    elif statements := tuple(_column_comments(view, there)):
        yield Change("~", f"comments of view {view.name}", statements=statements)


def _view_problem(view: View, there: ExistingView | None) -> str:
    names = [column.name for column in view.columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f"would have two columns {twice}; choose other names"
    if long := next((name for name in names if len(name) > NAME_BYTES_MAX), None):
        return f"would have a column {long}, which is too long for PostgreSQL; choose shorter names"
    if there is None:
        return ""
    if not there.owned:
        return _OTHER_OWNER
    types = {column.name: column.sql_type for column in view.columns}
    for column in there.columns:
        if types[column.name] != column.sql_type:
            how = f"has a column {column.name} of type {column.sql_type}, not {types[column.name]}"
            return f"{how}: DROP VIEW by hand, and apply makes it anew"
    return ""


def _view_statements(view: View, there: ExistingView | None) -> tuple[str, ...]:
    comment = comment_on(f"VIEW {in_data(view.name)}", view.comment)
    return (view.statement, comment, *_column_comments(view, there))


def _column_comments(view: View, there: ExistingView | None) -> Iterator[str]:
    known = {column.name: column.about for column in (there.columns if there else ())}
    for column in view.columns:
        if column.about is not None and known.get(column.name, "") != column.about:
            yield comment_on(f"COLUMN {in_data(view.name)}.{quoted(column.name)}", column.about)
