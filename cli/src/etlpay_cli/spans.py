"""Spans of time as an operator writes them: `30m`, `24h`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from etlpay_cli.errors import USAGE, StackError

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"([0-9]{1,6})([mhd])")


def parse_span(text: str, *, days_max: int = 366) -> timedelta:
    """Return the time that `24h`, `30m` or `7d` stand for. Raises StackError (usage)."""
    found = _SPAN.fullmatch(text)
    if not found:
        raise StackError("a time is a number and m, h or d, such as 24h", exit_code=USAGE)
    span = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    if span > timedelta(days=days_max):
        raise StackError(f"{days_max} days is the most", exit_code=USAGE)
    return span
