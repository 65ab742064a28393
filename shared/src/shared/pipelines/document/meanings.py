"""What each key of a pipeline file means, as phrases: for editors and for docs/pipelines-reference.md. Pure.

The model has the types and defaults. A test holds that every key, type, mask, attribute and code is described.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from shared.pipelines import model

MEANINGS: Final[Mapping[type[msgspec.Struct], Mapping[str, str]]] = {
    model.Pipeline: {
        "etlpay": "version of this format",
        "name": "name of the pipeline, never used for another one: small letters, digits and `_`",
        "source": "a source or a list of sources; one that ends in `*` stands for all names that begin so",
        "about": "what it is for, in words",
        "include": "files beside this one with further `[[table]]`, `[[join]]`, `[[total]]` and `[[file_check]]`",
        "event": "what an event says of itself",
        "money": "how amounts are written, where a column says nothing else",
        "csv": "how values are written in CSV files",
        "contract": "a JSON Schema for the whole payload",
        "drift": "what is done about types and members that nothing reads",
        "mask": "what is kept of the values at some places, by place",
        "personal": "where personal data are",
        "table": "the typed tables",
        "join": "views over several tables",
        "total": "control totals",
        "file_check": "what must hold for a whole file, told by `etlpay validate`",
    },
    model.EventRules: {
        "id": "place of the event's own id; no channel reads it yet, the id is that of the request, row or message",
        "type": "place of the type, where the envelope has none; `types` of a table choose by it",
        "occurred_at": "place of the time at which it happened; no channel reads it yet",
        "ignore": "places that do not count when an event comes again: it is a duplicate where all else is equal",
    },
    model.Moment: {
        "from": "place of the time",
        "as": "how it is written",
        "zone": "time zone of what has no offset",
    },
    model.MoneyRules: {
        "units": "`minor`: whole numbers of the smallest unit, 1099 is 10.99 EUR; `major`: 10.99",
        "exponents": "whose minor units: a profile, or a TOML file beside this one with what differs from ISO 4217",
    },
    model.CsvRules: {
        "missing": "texts that mean no value",
        "decimal": "decimal separator of amounts and decimals",
    },
    model.Contract: {
        "schema": "file of the JSON Schema; patterns take linear time, and nothing outside the file is fetched",
    },
    model.Drift: {
        "unknown_type": "an event that no table takes",
        "unknown_member": "a member, or a column of CSV, that no place names; default: `note` for CSV, else `ignore`",
    },
    model.Personal: {
        "subject": "place of the person's id; its keyed hash is kept with the event",
        "key": "name of the key by which persons are told apart",
        "places": "places of personal data",
    },
    model.Table: {
        "name": "name of the table, and of its view in schema `data`",
        "columns": "the columns by name: a place, or a table of options",
        "about": "comment of the view",
        "types": "types of events that it takes, or beginnings of types that end in `*`; none: all",
        "when": "conditions by place, all of which an event or element must meet",
        "at": "pointer to the current element; each `*` makes a row of each element or member",
        "except": "members that the last `*` of `at` leaves out",
        "mode": "`append`: each event keeps its rows; `latest`: one row a key, the highest `newest` wins",
        "key": "of a `latest` table: the columns that say what a row is about",
        "newest": "of a `latest` table: the column by which a later state is known",
        "rank": "which of two rows of equal `newest` wins: a column, by the order of its `values`, or an order",
        "of": "of an `append` table: the parent whose latest event's rows the view shows",
        "like": "another table whose events and columns this one takes over: a history beside the latest state",
        "gone": "of a `latest` table: conditions under which the row of a key is gone; needs key and `newest` only",
        "check": "comparisons that must hold for each row",
        "index": "lists of columns with an index each",
    },
    model.Column: {
        "from": "place, list of places of which the first that holds something counts, or joined places; default: "
        "the name of the column",
        "value": "a fixed value, instead of a place",
        "type": "type of the values",
        "as": "how a time is written; `text`: read a JSON text as a cell of CSV is read",
        "zone": "time zone of what has no offset: a name of IANA, an offset such as `+02:00`, or a place with names; "
        "of a date: the zone whose day it is",
        "required": "an event without a value is FAILED",
        "optional": "a CSV file may lack the column",
        "values": "the values that may stand there, or a table of what each text stands for",
        "otherwise": "what becomes of a value that `values` does not list: kept and noted, or another value",
        "min": "least value",
        "max": "greatest value",
        "currency": "column that holds the currency of the amount",
        "digits": "decimals that are kept; default: those of the currency in ISO 4217",
        "units": "as in `[money]`, for this column",
        "exponents": "as in `[money]`, for this column",
        "case": "letters are made capital or small",
        "trim": "blanks around the value are left out",
        "negate": "the sign is turned",
        "sign": "another place that says whether it is negative",
        "on_error": "a wrong value becomes NULL and a note, instead of FAILED",
        "skip": "an element without a value makes no row",
        "about": "comment of the column",
    },
    model.Alternative: {
        "from": "place",
        "negate": "the sign of what stands there is turned",
    },
    model.Join: {
        "join": "places, whose texts are joined; no value where one of them has none",
        "with": "text between them",
    },
    model.ZoneNames: {
        "from": "place of the zone's name",
        "names": "offset of each name, as `+02:00`; another name is a problem",
    },
    model.Sign: {
        "from": "place of the sign",
        "minus": "texts that mean negative",
        "plus": "texts that mean positive",
    },
    model.Otherwise: {"value": "the value that is stored"},
    model.Present: {"present": "true: something stands there; false: nothing does"},
    model.Check: {
        "must": "comparison of sums and differences of columns and numbers; `sum(table.column)` and `count(table)` are "
        "over the rows of the event",
        "level": "`note`: the row is kept, and the record notes it",
        "empty": "what an empty value counts as; without it the check fails",
    },
    model.Rank: {
        "column": "the column that is compared",
        "order": "its values; the last wins, and one that is not listed loses",
    },
    model.Of: {
        "table": "the parent, a `latest` table",
        "on": "the columns that both have, among them the parent's key",
    },
    model.JoinView: {
        "name": "name of the view",
        "of": "two or more `latest` tables with the same key",
    },
    model.Total: {
        "name": "name of the view",
        "of": "the table",
        "by": "columns of the groups; those of the currencies must be among them",
        "sums": "by name, a sum or difference of columns, added up over the rows of a group",
        "must": "comparisons of the sums, of `rows` and of numbers; the view's `holds` tells whether all hold",
    },
    model.FileCheck: {
        "table": "the table whose rows are looked at, where there are several",
        "unique": "columns whose values together may not come twice",
        "listed": "column whose values must be in the list `in`",
        "in": "the list of `listed`",
        "ascending": "column in which no row goes back",
        "by": "columns of the groups of `ascending`",
        "complete": "whole numbers that must all be there",
        "filled": "column that must have values",
        "share": "which part must be there: of the numbers of `complete`, of the rows of `filled`",
        "rows": "how many rows there must be",
        "sum": "as `sums` of a total, over the whole file",
        "must": "comparisons of what `sum` names",
        "level": "whether it makes a file invalid",
    },
    model.ListFile: {
        "list": "CSV file beside this one",
        "column": "column of that file",
    },
    model.Complete: {
        "column": "column of whole numbers",
        "from": "first number",
        "to": "last number",
        "by": "columns of the groups",
    },
    model.Rows: {
        "min": "least number of rows",
        "max": "greatest number of rows",
    },
}

TYPES: Final[Mapping[model.ColumnType, str]] = {
    "text": "a string without U+0000",
    "integer": "a whole number of up to 64 bits",
    "decimal": "a number or a string, exactly: `2.1E+12`",
    "boolean": "`true` or `false`",
    "timestamp": "a time, by default RFC 3339; stored in UTC",
    "date": "a day, by default `2026-01-31`, or the day of a time in `zone`",
    "uuid": "36 characters",
    "json": "any JSON value, in CSV its text",
    "money": "minor units as a whole number, or major units as a number or string; stored in major units",
    "currency": "a code of ISO 4217 in capital or in small letters; stored in capital letters",
    "country": "a code of ISO 3166, two capital letters",
}

PLACES: Final[Mapping[str, str]] = {
    "/a/b": "a JSON Pointer (RFC 6901) from the root of the payload; `/a` is a column of a CSV file",
    "/a/*/b": "`*`: the current element that `at` of the table names",
    "./a/b": "a pointer from the current element",
    "a": "a member of the current element, or a column of a CSV file",
    "#3": "the third column of a CSV file",
}

ATTRIBUTES: Final[Mapping[str, str]] = {
    "@source": "name of the source",
    "@id": "idempotency key; of a row of a file the `id` in it",
    "@type": "type of the envelope",
    "@channel": "`http`, `grpc`, `file` or `queue`",
    "@row": "line of the file on which the row begins; in a JSON array the number of the element",
    "@file": "name of the file",
    "@file_at": "time at which file-watcher claimed the file: one value for all of its rows",
    "@occurred_at": "time of the envelope at which it happened",
    "@received_at": "time at which the event came in",
    "@index": "number of the current element, from 0",
    "@key": "name of the current member, or of the column of CSV",
    "@value": "the current element itself",
}

MASKS: Final[Mapping[model.Masking, str]] = {
    "drop": "nothing",
    "last4": "the last four characters; of fewer than eight, `****`",
    "hmac": "a keyed hash of 64 digits: equal values stay equal",
    "domain": "what stands behind the `@`, in small letters",
}

CODES: Final[Mapping[str, str]] = {
    "type": "is not of the column's type",
    "time": "is no date or point in time as `as` and `zone` of the column say",
    "check": "the row does not satisfy a check",
    "schema.*": "the payload does not satisfy this keyword of the JSON Schema",
    "too_many": "the event makes more rows than one event may",
    "unknown_type": "no table takes an event of this type",
    "unknown_member": "no column reads this member",
    "unreadable": "the body cannot be read, or has another number of fields than its header",
    "not_object": "the payload is no JSON object",
    "held": "the pipeline was held when the event came",
}
"""Codes of problems and notes, beside those whose details `codegen.faults` has."""
