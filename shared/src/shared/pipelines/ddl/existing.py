"""What PostgreSQL holds of typed tables: tables of schema `rows`, views of schema `data`. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

TYPE_NAMES: Final[Mapping[str, str]] = {"timestamp with time zone": "timestamptz"}
"""The types that PostgreSQL spells in another way than `typed_tables`, by its spelling."""


class ExistingColumn(msgspec.Struct, frozen=True):
    """A column of a table or view. `sql_type` is spelt as in `typed_tables`. `collation`: empty: that of its type."""

    name: str
    sql_type: str
    required: bool = False
    collation: str = ""
    about: str = ""


class ExistingIndex(msgspec.Struct, frozen=True):
    """An index over columns alone, without a condition. `valid`: queries use it; else its building was cut off."""

    name: str
    columns: tuple[str, ...]
    valid: bool = True


class ExistingTable(msgspec.Struct, frozen=True):
    """A table. `key` is its primary key; `rows` is how many it holds, about. `owned`: by the role that plans."""

    name: str
    columns: tuple[ExistingColumn, ...]
    key: tuple[str, ...]
    indexes: tuple[ExistingIndex, ...] = ()
    about: str = ""
    rows: int = 0
    owned: bool = True

    def column(self, name: str) -> ExistingColumn | None:
        """Return a column by its name."""
        return next((each for each in self.columns if each.name == name), None)


class ExistingView(msgspec.Struct, frozen=True):
    """A view. `owned`: by the role that plans."""

    name: str
    columns: tuple[ExistingColumn, ...]
    about: str = ""
    owned: bool = True


class Existing(msgspec.Struct, frozen=True):
    """Tables and views by their names."""

    tables: Mapping[str, ExistingTable] = {}
    views: Mapping[str, ExistingView] = {}


NOTHING: Final = Existing()
