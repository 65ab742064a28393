"""Values of columns, read slowly and plainly: what generated code is compared with. Uses none of that code."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from shared.contracts.moment import read_moment
from shared.pipelines.model import Column, MoneyRules, Otherwise
from shared.pipelines.program import Amount
from shared.pipelines.values.countries import COUNTRIES
from shared.pipelines.values.money import currencies, wire_exponents

Raw: TypeAlias = Any
"""A JSON value, a cell of a CSV row, or what is known of an event."""

TEXT_TYPES = ("text", "uuid", "currency", "country")
UUID_TEXT = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
PLAIN = Context(prec=6_000, Emax=10**9, Emin=-(10**9))
DIVISORS = {"unix": 1, "unix_ms": 1_000, "unix_us": 1_000_000}


class ProblemFoundError(Exception):
    """A value has a problem with this code; `value` is what is noted or kept, where that matters."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def read_value(column: Column, raw: object, *, as_text: bool, comma: bool, offset: str | None) -> object:
    """Return the value of a column that is no money. `offset`: of the zone beside it. Raises ProblemFoundError."""
    if isinstance(raw, datetime) and column.type in {"timestamp", "date"}:
        return raw if column.type == "timestamp" else _day(raw, column)
    if column.type in TEXT_TYPES or as_text:
        _checked(raw, holds=isinstance(raw, str))
    if column.type in {"timestamp", "date"}:
        moment = _moment(column, raw, as_text=as_text, offset=offset)
        return moment if column.type == "timestamp" else _day(moment, column)
    readers: dict[str, Callable[[], object]] = {
        "text": lambda: _checked(raw, holds="\x00" not in str(raw)),
        "integer": lambda: read_integer(raw, as_text=as_text),
        "decimal": lambda: _decimal(raw, as_text=as_text, comma=comma),
        "boolean": lambda: _boolean({"true": True, "false": False}.get(str(raw)) if as_text else raw),
        "uuid": lambda: uuid.UUID(str(_checked(raw, holds=bool(re.fullmatch(UUID_TEXT, str(raw)))))),
        "json": lambda: _json(raw, as_text=as_text),
        "country": lambda: _checked(raw, "country", holds=raw in COUNTRIES),
        "currency": lambda: _currency(column, str(raw)),
    }
    return readers[column.type]()


def _checked(value: object, code: str = "type", *, holds: bool) -> object:
    if not holds:
        raise ProblemFoundError(code)
    return value


def _boolean(raw: object) -> bool:
    return bool(_checked(raw, holds=isinstance(raw, bool)))


def read_integer(raw: object, *, as_text: bool) -> int:
    """Return a whole number of any size. Raises ProblemFoundError."""
    if as_text:
        return int(Decimal(str(_checked(raw, holds=bool(re.fullmatch("-?[0-9]+", str(raw)))))))
    _checked(raw, holds=isinstance(raw, int) and not isinstance(raw, bool))
    return int(str(raw))


def _decimal(raw: object, *, as_text: bool, comma: bool) -> Decimal:
    text = str(raw)
    if comma and as_text:
        text = "no number" if "." in text else text.replace(",", ".")
    if as_text or isinstance(raw, str):
        _checked(raw, holds=bool(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?", text)))
    else:
        _checked(raw, holds=isinstance(raw, int | Decimal) and not isinstance(raw, bool))
    number = Decimal(text)
    exponent = int(number.as_tuple().exponent)
    _checked(raw, "precision", holds=exponent >= -1_000)
    if number == 0:
        return Decimal(0) if exponent > 0 else abs(PLAIN.create_decimal(number))
    _checked(raw, "min" if number < 0 else "max", holds=number.adjusted() < 1_000)
    return number


def _moment(column: Column, raw: object, *, as_text: bool, offset: str | None) -> datetime | date:
    layout = column.as_ if column.as_ != "text" else None
    if layout in DIVISORS:
        number = read_integer(raw, as_text=as_text)
        try:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=number * (1_000_000 // DIVISORS[layout]))
        except OverflowError:
            raise ProblemFoundError("time") from None
    text = str(_checked(raw, holds=isinstance(raw, str)))
    try:
        if column.type == "date" and layout is None:
            _checked(text, "time", holds=bool(re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text)))
            return date.fromisoformat(text)
        if layout in {None, "rfc3339"}:
            return read_moment(text)
        return _laid_out(column, str(layout), text, offset)
    except (ValueError, OverflowError):
        raise ProblemFoundError("time") from None


def _laid_out(column: Column, layout: str, text: str, offset: str | None) -> datetime | date:
    widths = {"%Y": "[0-9]{4}", "%z": "([+-][0-9]{2}:[0-9]{2}|Z)"}
    shape = re.escape(layout)
    for directive in set(re.findall("%.", layout)):
        shape = shape.replace(re.escape(directive), widths.get(directive, "[0-9]{2}"))
    _checked(text, "time", holds=bool(re.fullmatch(shape, text)))
    local = datetime.strptime(text, layout)  # noqa: DTZ007 - a local time
    if column.type == "date":
        return local.date()
    if isinstance(column.zone, str) and not column.zone.startswith(("+", "-")):
        zone = ZoneInfo(column.zone)
        earlier, later = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
        _checked(text, "time", holds=earlier == later)
        return earlier
    sign, hours, minutes = re.findall("([+-])([0-9]{2}):([0-9]{2})", offset or str(column.zone))[0]
    distance = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return local.replace(tzinfo=timezone(distance)).astimezone(UTC)


def _day(moment: datetime | date, column: Column) -> date:
    if not isinstance(moment, datetime):
        return moment
    try:
        return moment.astimezone(ZoneInfo(column.zone) if isinstance(column.zone, str) else UTC).date()
    except OverflowError:
        raise ProblemFoundError("time") from None


def _json(raw: object, *, as_text: bool) -> bytes:
    if as_text:
        try:
            raw = msgspec.json.decode(str(raw), strict=True)
        except msgspec.DecodeError:
            raise ProblemFoundError("type") from None
    _checked(raw, holds="\x00" not in repr_of(raw))
    return msgspec.json.Encoder(decimal_format="number").encode(raw)


def repr_of(value: object) -> str:
    """Return all texts of a JSON value, one after another."""
    if isinstance(value, dict):
        return "".join(repr_of(each) for pair in value.items() for each in pair)
    return "".join(map(repr_of, value)) if isinstance(value, list) else str(value)


def _currency(column: Column, raw: str) -> str:
    others = [str(value) for value in column.values] if isinstance(column.values, tuple) else []
    known = currencies().exponents
    if raw.upper() in known and raw in {raw.upper(), raw.lower()}:
        return raw.upper()
    return str(_checked(raw, "currency", holds=raw in others))


def read_amount(  # noqa: PLR0913 - what decides an amount
    column: Column, rules: MoneyRules, raw: object, currency: str | None, *, as_text: bool, comma: bool
) -> Amount | None:
    """Return an amount without its sign, or None where the currency is not known. Raises ProblemFoundError."""
    with localcontext(PLAIN):
        number = _amount(column, rules, raw, as_text=as_text, comma=comma)
        if currency is None:
            return None
        scale = currencies().exponents[currency] if column.digits is None else column.digits
        if (column.units or rules.units) == "minor":
            number = number.scaleb(-wire_exponents(column.exponents or rules.exponents, {})[currency])
        whole = number.scaleb(scale)
        _checked(raw, "max", holds=abs(number) < Decimal(10) ** 40)
        _checked(raw, "precision", holds=whole == whole.to_integral_value())
        _checked(raw, "max", holds=abs(whole) < 10**18)
        return int(whole), scale


def _amount(column: Column, rules: MoneyRules, raw: object, *, as_text: bool, comma: bool) -> Decimal:
    if as_text and not isinstance(raw, str):
        raise ProblemFoundError("type")
    if (column.units or rules.units) == "minor":
        return Decimal(read_integer(raw, as_text=as_text))
    if isinstance(raw, str):
        if comma and as_text:
            raw = "no number" if "." in raw else raw.replace(",", ".")
        _checked(raw, holds=bool(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", str(raw))))
    else:
        _checked(raw, holds=isinstance(raw, int | Decimal) and not isinstance(raw, bool))
    return Decimal(str(raw))


def listed(column: Column, value: object) -> tuple[object, bool]:
    """Return what is kept of a value under the list `values`, and whether it is noted. Raises ProblemFoundError."""
    if not isinstance(column.values, tuple):
        return value, False
    texts = [str(each).lower() if isinstance(each, bool) else str(each) for each in column.values]
    wanted: list[object] = [Decimal(text) if column.type in {"integer", "decimal"} else text for text in texts]
    if column.type == "currency":
        wanted = [text.upper() if text.upper() in currencies().exponents else text for text in texts]
    if value in wanted:
        return value, False
    if isinstance(column.otherwise, Otherwise):
        kinds = {"integer": int, "decimal": Decimal}
        return kinds.get(column.type, str)(column.otherwise.value), False
    if column.otherwise == "note":
        return value, True
    raise ProblemFoundError("value")
