"""The totals of a pipeline as views that can be read. Pure."""

from typing import NamedTuple

from shared.pipelines.ddl.views import View, money_view, total_view
from shared.pipelines.model import Pipeline
from shared.pipelines.typed_tables import LOADED_AT, typed_tables

HOLDS = "holds"
_HOUR = "hour"
_MONEY_KEY = (_HOUR, "file", "currency", "amount")


class TotalView(NamedTuple):
    """A view of schema `data` with sums over the rows of the table `of`.

    `columns`: names and types in SQL, in order. `key` tells the rows apart; its values may be null. `must` is what has
    to hold, and `since` the condition, with a parameter `{0}`, that picks the rows which changed from a moment on.
    """

    name: str
    of: str
    columns: dict[str, str]
    key: tuple[str, ...]
    must: tuple[str, ...]
    since: str

    @property
    def is_checked(self) -> bool:
        """Whether its rows say whether they hold: those of a `[[total]]` do."""
        return HOLDS in self.columns


def total_views(pipeline: Pipeline) -> tuple[TotalView, ...]:
    """Return the views of each `[[total]]`, and the sums of each table with money."""
    tables = {table.table.name: table for table in typed_tables(pipeline, {})}
    loaded = f'own."{LOADED_AT.name}" >= {{0}}'
    received = f"own.\"{_HOUR}\" > {{0}} - interval '1 hour'"
    return (
        *(
            TotalView(
                total.name,
                total.of,
                _columns(total_view(total, tables[total.of])),
                (HOLDS, *total.by),
                total.must,
                loaded,
            )
            for total in pipeline.total
        ),
        *(
            TotalView(view.name, name, _columns(view), _MONEY_KEY, (), received)
            for name, table in tables.items()
            if any(column.type == "money" for column in table.table.columns.values())
            for view in (money_view(table),)
        ),
    )


def _columns(view: View) -> dict[str, str]:
    return {column.name: column.sql_type for column in view.columns}
