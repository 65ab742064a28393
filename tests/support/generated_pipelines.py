"""Pipelines, JSON events and CSV rows made by hypothesis: small alphabets, so that places often hold something."""

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from shared.pipelines.model import (
    Alternative,
    Check,
    Column,
    ColumnType,
    Condition,
    CsvRules,
    Drift,
    EventRules,
    Join,
    MoneyRules,
    Otherwise,
    Pipeline,
    Present,
    Sign,
    Table,
    ZoneNames,
)

MEMBERS = ("a", "b", "l", "o", "0", "m", "type", "q\"{}\n'", "__proto__", "~/")
ELEMENTS = ("", "", "", "/l/*", "/l/*", "/o", "/o/*", "/l/*/m/*", "/*", "/l/*/o")
TEXTS = (
    *(
        "",
        "x",
        "-",
        "10",
        "-5",
        "-0",
        "007",
        "1.10",
        "-1.5",
        "1.100",
        "1,10",
        "1.099,00",
        "1,099.00",
        "٣",
        "1e5",
        "2.1E-3",
    ),
    *(
        " 10 ",
        "true",
        "TRUE",
        "false",
        "EUR",
        "eur",
        "Eur",
        "jpy",
        "kwd",
        "UGX",
        "xyz",
        "HRK",
        "DE",
        "de",
        "XK",
        "S",
        "H",
    ),
    *("H", "2.1E-3", "CET", "CEST", "2024-02-29", "2023-02-29", "2024-03-31 02:30:00", "2024-10-27 02:30:00"),
    *(
        "2024-10-27 03:30:00",
        "2024-03-31T02:30:00Z",
        "2024-01-01 24:00:00",
        "0000-01-01 00:00:00",
        "0001-01-01 00:00:00",
        "31.12.2024 10:00",
    ),
    *("9999-12-31 23:59:59", "9999-12-31T23:59:59-05:00", "1700000000", "6F9619FF-8B86-D011-B42D-00CF4FC964FF"),
    *('{"a": 1}', '"\\u0000"', "a\x00b", "a", "b", "1" * 45, "0" * 50 + "1", "9" * 5_000, "5.", ".5", "+5", "1_000"),
)
NUMBERS = (
    *(0, 1, -5, 10, 500, 550, 109_900, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**18, 10**30, 1_700_000_000),
    *(253_402_300_800, -62_135_596_801, Decimal("1.10"), Decimal("10.5"), Decimal("1E+2"), Decimal("0.000")),
    *(Decimal("-0.0"), Decimal("1E+400"), Decimal("1E-1100"), Decimal("1E+2000"), Decimal("12.345"), Decimal("0E+50")),
)
LAYOUTS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M", "%Y%m%d%H%M%S")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "+05:30")
TYPES: tuple[ColumnType, ...] = (
    *("text", "text", "integer", "decimal", "boolean", "timestamp", "date", "uuid", "json", "country", "currency"),
)
NAMES = ("c0", "c1", "c2", "c3", "c4")

leaves = st.sampled_from((None, None, True, False, *NUMBERS, *TEXTS, *TEXTS))
members = st.sampled_from(MEMBERS)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members, inner, max_size=6), max_leaves=12
)
payloads = st.dictionaries(members, values, max_size=8) | st.dictionaries(members, leaves, max_size=8) | values
headers = st.lists(st.sampled_from((*MEMBERS, "a", "b", "")), max_size=7).map(tuple)
cells = st.sampled_from(TEXTS) | st.just("")


@st.composite
def csv_rows(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a header and the fields of a row."""
    header = draw(headers)
    return header, tuple(draw(st.lists(cells, min_size=len(header), max_size=len(header))))


def _pointer(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


@st.composite
def places(draw: st.DrawFn, at: str) -> str:
    """Return a place that a table with this `at` may name."""
    step = st.sampled_from(MEMBERS).map(_pointer)
    kind = draw(st.integers(0, 9))
    if kind <= 3:
        return "/" + "/".join(draw(st.lists(step, min_size=1, max_size=2)))
    if kind <= 6:
        return draw(st.sampled_from(("a", "b", "o", "type")))
    if kind == 7:
        return "./" + "/".join(draw(st.lists(step, min_size=1, max_size=2)))
    if kind == 8 and at.count("*"):
        return at[: at.index("*") + 1] + "/" + draw(step)
    return draw(
        st.sampled_from(("@index", "@key", "@value", "@row", "@id", "@type", "@received_at", "@file", "#1", "#3"))
    )


conditions: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Present, st.booleans()),
    st.sampled_from((True, False, 10, "x", "10", "true", "a")),
    st.lists(st.sampled_from((True, 10, "x", "", "10", "EUR")), min_size=1, max_size=3).map(tuple),
)


@st.composite
def sources(draw: st.DrawFn, at: str) -> dict[str, Any]:
    """Return where a column is read: a place, places, texts that are joined, or a fixed value."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        parts = tuple(draw(st.lists(places(at), min_size=1, max_size=3)))
        return {"from_": Join(parts, draw(st.sampled_from(("", " ", "-"))))}
    if kind <= 3:
        alternative = places(at) | st.builds(Alternative, places(at), st.booleans())
        return {"from_": tuple(draw(st.lists(alternative, min_size=1, max_size=3)))}
    return {"from_": draw(places(at))}


_sign = st.builds(Sign, places(""), st.just(("S", "x")), st.just(("H", "", "10")))


@st.composite
def columns(draw: st.DrawFn, at: str) -> Column:
    """Return a column of any type but money, with options that fit it."""
    kind = draw(st.sampled_from(TYPES))
    options = draw(sources(at)) | _of_all(draw)
    if kind in {"integer", "decimal"}:
        options |= _of_numbers(draw)
    if kind in {"timestamp", "date"}:
        options |= _of_times(draw, at, kind)
    elif draw(st.integers(0, 4)) == 0:
        options["as_"] = "text"
    if kind in {"text", "country", "currency"}:
        options |= _of_texts(draw)
    if draw(st.integers(0, 9)) == 0 and "from_" in options and kind == "text":
        options = {"value": draw(st.sampled_from(("x", 5, True)))}
    return Column(type=kind, **options)


def _of_all(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "required": draw(st.booleans()),
        "optional": draw(st.booleans()),
        "trim": draw(st.integers(0, 3)) == 0,
        "case": draw(st.sampled_from((None, None, "upper", "lower"))),
        "skip": draw(st.integers(0, 7)) == 0,
        "on_error": draw(st.sampled_from((None, None, None, "null"))),
    }


def _of_numbers(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(st.sampled_from((None, None, None, (1, 10, -5), {"x": "5", "10": "1.5"})))
    return {
        "values": values,
        "otherwise": draw(st.sampled_from((None, "note", Otherwise("7")))) if values else None,
        "min": draw(st.sampled_from((None, 0, -3, Decimal("1.05")))),
        "max": draw(st.sampled_from((None, 9, Decimal("10.5")))),
        "negate": draw(st.booleans()),
        "sign": draw(st.none() | st.none() | _sign),
    }


def _of_texts(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(st.sampled_from((None, None, ("x", "EUR", "10", "DE"), {"x": "EUR", "a": "DE", "10": "b"})))
    otherwise = draw(st.sampled_from((None, "note", Otherwise("EUR")))) if values else None
    return {"values": values, "otherwise": otherwise}


def _of_times(draw: st.DrawFn, at: str, kind: str) -> dict[str, Any]:
    layout = draw(st.sampled_from((None, "rfc3339", "unix", "unix_ms", "unix_us", *LAYOUTS)))
    names = ZoneNames("a", {"CET": "+01:00", "CEST": "+02:00", "x": "-03:30"})
    zone = draw(st.sampled_from((*ZONES, names))) if layout in LAYOUTS and kind == "timestamp" else None
    if kind == "date" and layout not in LAYOUTS:
        zone = draw(st.sampled_from((None, "Europe/Berlin")))
    del at
    return {"as_": layout, "zone": zone}


@st.composite
def amounts(draw: st.DrawFn, at: str) -> Column:
    """Return a column of money whose currency stands in the column `cur`."""
    options = draw(sources(at))
    numbers = _of_numbers(draw)
    return Column(
        type="money",
        currency="cur",
        as_=draw(st.sampled_from((None, None, "text"))),
        required=draw(st.booleans()),
        trim=draw(st.booleans()),
        digits=draw(st.sampled_from((None, None, None, 0, 6))),
        units=draw(st.sampled_from((None, "minor", "major"))),
        exponents=draw(st.sampled_from((None, "stripe", "adyen", "hundredths"))),
        min=numbers["min"],
        max=numbers["max"],
        negate=numbers["negate"],
        sign=numbers["sign"],
        **options,
    )


@st.composite
def tables(draw: st.DrawFn, name: str) -> Table:
    """Return a table with up to five columns, conditions, and checks."""
    at = draw(st.sampled_from(ELEMENTS))
    made = {each: draw(columns(at)) for each in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))}
    if draw(st.booleans()):
        made |= {"m0": draw(amounts(at)), "m1": draw(amounts(at))}
        made["cur"] = Column(type="currency", **draw(sources(at)), case=draw(st.sampled_from((None, "upper"))))
    made = made or {"c0": Column(from_="a")}
    gone = {draw(places(at)): draw(conditions)} if draw(st.integers(0, 4)) == 0 else {}
    return Table(
        name=name,
        at=at,
        columns=made,
        types=draw(st.sampled_from(((), (), ("x",), ("a*", "10")))),
        when={draw(places(at)): draw(conditions)} if draw(st.integers(0, 2)) == 0 else {},
        except_=draw(st.sampled_from(((), ("a", "b")))) if at.endswith("*") else (),
        key=tuple(draw(st.lists(st.sampled_from(sorted(made)), max_size=2, unique=True))),
        newest=draw(st.sampled_from((None, *sorted(made)))),
        gone=gone,
    )


@st.composite
def with_checks(draw: st.DrawFn, table: Table, of: tuple[Table, ...]) -> tuple[str | Check, ...]:
    """Return checks over the numbers of a table, and over the rows of others."""
    numbers = [name for name, each in table.columns.items() if each.type in {"money", "integer", "decimal"}]
    operands = ["0", "10", "1.5", *numbers, *numbers, f"count({table.name})"]
    for other in of:
        kinds = {name: each.type for name, each in other.columns.items()}
        operands += [
            f"sum({other.name}.{name})" for name, kind in kinds.items() if kind in {"money", "integer", "decimal"}
        ]
    side = st.lists(st.sampled_from(operands), min_size=1, max_size=2).map(" - ".join)
    text = st.tuples(side, st.sampled_from(("=", "<=", ">=", "<", ">")), side).map(" ".join)
    check = text | st.builds(Check, text, st.sampled_from(("fail", "note")), st.sampled_from((None, 0)))
    return tuple(draw(st.lists(check, max_size=2)))


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Return a pipeline of one or two tables."""
    plain = tuple(draw(tables(f"t{number}")) for number in range(draw(st.integers(1, 2))))
    made = tuple(_checked(table, draw(with_checks(table, plain))) for table in plain)
    return Pipeline(
        etlpay=1,
        name="p",
        source="s",
        event=EventRules(type=draw(st.sampled_from((None, "/type", "type")))) if _is_flat(made) else EventRules(),
        money=MoneyRules(draw(st.sampled_from(("minor", "major"))), draw(st.sampled_from(("iso", "stripe")))),
        csv=CsvRules(draw(st.sampled_from((("",), ("", "-"), ("x",), ()))), draw(st.sampled_from((".", ".", ",")))),
        drift=Drift(draw(st.sampled_from(("ignore", "note", "fail"))), "ignore"),
        table=made,
    )


def _is_flat(made: tuple[Table, ...]) -> bool:
    return not any(table.at for table in made)


def _checked(table: Table, checks: tuple[str | Check, ...]) -> Table:
    return Table(**{name: getattr(table, name) for name in table.__struct_fields__} | {"check": checks})
