"""Values of typed rows as text: as tests state them, and as people read them. Pure."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Final

from shared.pipelines.program import Value

NO_VALUE: Final = "@null"
"""How a test states that a column is empty."""

# A number such as 1E+999999999 would be a text of a gigabyte.
_PLAIN_DIGITS_MAX: Final = 200_000


def text_of(value: Value) -> str:
    """Return a value as text, exactly: `10.99`, `true`, `2026-03-01T09:30:00Z`; `@null` where there is none."""
    match value:
        case None:
            text = NO_VALUE
        case bool():
            text = "true" if value else "false"
        case (whole, scale):
            text = amount_text(whole, scale)
        case Decimal() if abs(value.adjusted()) <= _PLAIN_DIGITS_MAX:
            text = format(value, "f")
        case bytes():
            text = value.decode(errors="replace")
        case datetime():
            text = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            text = value.isoformat()
        case _:
            text = str(value)
    return text


def amount_text(whole: int, scale: int) -> str:
    """Return an amount in major units with all of its `scale` decimals: (5, 2) is `0.05`."""
    sign = "-" if whole < 0 else ""
    digits = str(abs(whole)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}" if scale else sign + digits
