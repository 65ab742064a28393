"""Names of tables, views and columns: which of them PostgreSQL takes without quotes, with room for a number. Pure."""

import re
from typing import Final

NAME_CHARS_MAX: Final = 55
"""Of 63 bytes that PostgreSQL keeps; the rest is for what is added, as the number of a table's generation."""

PIPELINE_NAME_CHARS_MAX: Final = 40
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")

_WORDS_OF_SQL: Final = (
    "all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation "
    "column concurrently constraint create cross current_catalog current_date current_role current_schema "
    "current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch "
    "for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral "
    "leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer "
    "overlaps placing primary references returning right select session_user similar some symmetric system_user "
    "table tablesample then to trailing true union unique user using variadic verbose when where window with"
)
RESERVED: Final = frozenset(_WORDS_OF_SQL.split())
"""The words of PostgreSQL 18 that are no names without quotes."""

_SYSTEM_COLUMNS: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


def name_problem(name: str, *, chars_max: int = NAME_CHARS_MAX) -> str | None:
    """Return what is wrong with the form of a name, or None."""
    if name.startswith("_"):
        return "begins with _, as the columns do that are added to each table"
    if not _NAME.fullmatch(name):
        return "must begin with a small letter and hold small letters, digits and _ only"
    if len(name) > chars_max:
        return f"is longer than {chars_max} characters"
    return None


def sql_name_problem(name: str) -> str | None:
    """Return what is wrong with the name of a table, view or column, or None."""
    if name in RESERVED:
        return "is a word of SQL; choose another name"
    if name in _SYSTEM_COLUMNS:
        return "is a column that PostgreSQL adds to each table; choose another name"
    return name_problem(name)
