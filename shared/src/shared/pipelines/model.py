"""The pipeline file as types. `reading` makes them of TOML, `linting` checks what they mean together. Pure.

The keys are those of the file, and docs/pipeline.schema.json is generated of them. A *place* is where a value is found:
`/a/b` from the root of the payload (JSON Pointer, RFC 6901), `./a/b` from the current element, `a` a member of the
current element (a column of a CSV file), `#3` the third column of a CSV file, `@row` an attribute of the event. `*` in
a pointer goes through an array or the members of an object.
"""

from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

ColumnType = Literal[
    "text", "integer", "decimal", "boolean", "timestamp", "date", "uuid", "json", "money", "currency", "country"
]
Scalar: TypeAlias = str | int | bool
Bound: TypeAlias = int | Decimal


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A table of the file."""


class Alternative(_Part, frozen=True):
    """One place of a list of places, whose amount may count negatively."""

    from_: str
    negate: bool = False


class Join(_Part, frozen=True):
    """The texts of several places, joined; empty where one of them is empty."""

    join: tuple[str, ...]
    with_: str = msgspec.field(name="with", default="")


From: TypeAlias = str | tuple[str | Alternative, ...] | Join
"""A place, places of which the first that holds something counts, or places that are joined."""


class Present(_Part, frozen=True):
    """A condition: something is there, or nothing is."""

    present: bool


Condition: TypeAlias = Scalar | tuple[Scalar, ...] | Present


class ZoneNames(_Part, frozen=True):
    """The place of a zone's name, and the offset of each name, as `+02:00`."""

    from_: str
    names: dict[str, str]


class Sign(_Part, frozen=True):
    """The place that says whether an amount is negative."""

    from_: str
    minus: tuple[str, ...] = ()
    plus: tuple[str, ...] = ()


class Otherwise(_Part, frozen=True):
    """The value of a column where `values` does not list what stands there."""

    value: str


class Column(_Part, frozen=True):
    """A column: a place, a type and options. `from` is the column's name where neither `from` nor `value` is given.

    `empty` counts in no check: see `Check`. `skip`: an element without a value makes no row.
    """

    from_: From | None = None
    value: Scalar | None = None
    type: ColumnType = "text"
    as_: str | None = msgspec.field(name="as", default=None)
    zone: str | ZoneNames | None = None
    required: bool = False
    optional: bool = False
    values: tuple[Scalar, ...] | dict[str, str] | None = None
    otherwise: Literal["note"] | Otherwise | None = None
    min: Bound | None = None
    max: Bound | None = None
    currency: str | None = None
    digits: int | None = None
    units: Literal["minor", "major"] | None = None
    exponents: str | None = None
    case: Literal["upper", "lower"] | None = None
    trim: bool = False
    negate: bool = False
    sign: Sign | None = None
    on_error: Literal["null"] | None = None
    skip: bool = False
    about: str = ""


class Check(_Part, frozen=True):
    """What must hold for a row: `received <= amount`. An empty amount fails the check, or counts as `empty`."""

    must: str
    level: Literal["fail", "note"] = "fail"
    empty: Literal[0] | None = None


class Rank(_Part, frozen=True):
    """Which of two rows of equal `newest` wins: the one whose value stands later in `order`."""

    column: str
    order: tuple[str, ...]


class Of(_Part, frozen=True):
    """The parent of an `append` table: its view shows the rows of the event that made the parent's row."""

    table: str
    on: tuple[str, ...]


class Table(_Part, frozen=True):
    """A typed table. `append`: rows belong to their event. `latest`: one row a key, the highest `newest` wins."""

    name: str
    columns: dict[str, Column] = {}
    about: str = ""
    types: tuple[str, ...] = ()
    when: dict[str, Condition] = {}
    at: str = ""
    except_: tuple[str, ...] = msgspec.field(name="except", default=())
    mode: Literal["append", "latest"] = "append"
    key: tuple[str, ...] = ()
    newest: str | None = None
    rank: str | Rank | None = None
    of: Of | None = None
    like: str | None = None
    gone: dict[str, Condition] = {}
    check: tuple[str | Check, ...] = ()
    index: tuple[tuple[str, ...], ...] = ()


class Moment(_Part, frozen=True):
    """A place of a point in time, with how it is written and its zone."""

    from_: str
    as_: str = msgspec.field(name="as", default="rfc3339")
    zone: str | ZoneNames | None = None


class EventRules(_Part, frozen=True):
    """What an event says of itself. `ignore`: members that do not count when two bodies are compared."""

    id: str | Join | None = None
    type: str | None = None
    occurred_at: str | Moment | None = None
    ignore: tuple[str, ...] = ()


class MoneyRules(_Part, frozen=True):
    """`minor`: whole numbers, 1099 is 10.99; whose exponents: a profile, or a file beside this one."""

    units: Literal["minor", "major"] = "major"
    exponents: str = "iso"


class CsvRules(_Part, frozen=True):
    """Texts that mean no value, and the decimal separator."""

    missing: tuple[str, ...] = ("",)
    decimal: Literal[".", ","] = "."


class Contract(_Part, frozen=True):
    """A JSON Schema (draft 2020-12), in a file beside this one, that the whole payload must satisfy."""

    schema: str | None = None


class Drift(_Part, frozen=True):
    """What is done about an event that no table takes, and about a member that no column reads."""

    unknown_type: Literal["ignore", "note", "fail"] = "note"
    unknown_member: Literal["ignore", "note", "fail"] | None = None


class Personal(_Part, frozen=True):
    """Places of personal data, and of the person whom they are about."""

    subject: str
    key: str
    places: tuple[str, ...] = ()


Masking = Literal["drop", "last4", "hmac", "domain"]


class JoinView(_Part, frozen=True):
    """A view over several tables by their keys."""

    name: str
    of: tuple[str, ...]


class Total(_Part, frozen=True):
    """Control totals over the rows of a table: sums by group, and what must hold for each group."""

    name: str
    of: str
    by: tuple[str, ...] = ()
    sums: dict[str, str] = {}
    must: tuple[str, ...] = ()


class ListFile(_Part, frozen=True):
    """A column of a CSV file beside this one."""

    list: str
    column: str


class Complete(_Part, frozen=True):
    """The whole numbers that a column must go through in each group."""

    column: str
    from_: int
    to: int
    by: tuple[str, ...] = ()


class Rows(_Part, frozen=True):
    """How many rows a file may have."""

    min: int | None = None
    max: int | None = None


class FileCheck(_Part, frozen=True):
    """What must hold for a whole file; exactly one rule."""

    table: str | None = None
    unique: tuple[str, ...] | None = None
    listed: str | None = None
    in_: ListFile | None = msgspec.field(name="in", default=None)
    ascending: str | None = None
    by: tuple[str, ...] = ()
    complete: Complete | None = None
    filled: str | None = None
    share: Decimal | int = 1
    rows: Rows | None = None
    sum: dict[str, str] | None = None
    must: tuple[str, ...] = ()
    level: Literal["error", "warning"] = "error"


class Pipeline(_Part, frozen=True):
    """One pipeline file: what is made of the events of its sources."""

    etlpay: Literal[1]
    name: str
    source: str | tuple[str, ...]
    about: str = ""
    include: tuple[str, ...] = ()
    event: EventRules = EventRules()
    money: MoneyRules = MoneyRules()
    csv: CsvRules = CsvRules()
    contract: Contract = Contract()
    drift: Drift = Drift()
    mask: dict[str, Masking] = {}
    personal: Personal | None = None
    table: tuple[Table, ...] = ()
    join: tuple[JoinView, ...] = ()
    total: tuple[Total, ...] = ()
    file_check: tuple[FileCheck, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources, as names or as beginnings that end in `*`."""
        return (self.source,) if isinstance(self.source, str) else self.source
