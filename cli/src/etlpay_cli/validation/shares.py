"""A small picture of how many rows have a value in each column: plain SVG, readable on light and on dark."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etlpay_cli.validation.report import FileReport

_COLUMNS_MAX: Final = 60
_NAME_CHARS_MAX: Final = 40
_LINE: Final = 22
_BAR: Final = 12
_LEFT: Final = 250
_BAR_WIDTH: Final = 300
_WIDTH: Final = 640
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}.track{fill:#d8dee4}.bar{fill:#0969da}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.track{fill:#3d444d}.bar{fill:#4493f8}}"
)


def filled_shares(files: Iterable[FileReport]) -> dict[str, float]:
    """Return the share of the rows of all files that have a value (0 to 1), of each column where some have none."""
    filled: dict[str, float] = {}
    rows: dict[str, int] = {}
    for file in files:
        for name, column in file.profile.items():
            filled[name] = filled.get(name, 0.0) + column.filled * file.rows_valid
            rows[name] = rows.get(name, 0) + file.rows_valid
    shares = {name: filled[name] / count for name, count in rows.items() if count}
    return {name: share for name, share in shares.items() if share < 1}


def shares_svg(title: str, shares: dict[str, float]) -> str:
    """Return the picture: one bar for each column, 60 at most."""
    shown = list(shares.items())[:_COLUMNS_MAX]
    height = _LINE * (len(shown) + 1) + _BAR
    told = "; ".join(f"{name} {_percent(share)}" for name, share in shown)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" role="img" '
        f'viewBox="0 0 {_WIDTH} {height}" aria-labelledby="title desc">'
    )
    parts = [
        head,
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="desc">{escape(told)}</desc>',
        f"<style>{_STYLE}</style>",
        f'<text x="{_BAR}" y="{_LINE - 5}">{escape(title)}</text>',
    ]
    for number, (name, share) in enumerate(shown, 1):
        parts += _bar(number * _LINE + _BAR // 2, name, share)
    return "\n".join([*parts, "</svg>", ""])


def _bar(top: int, name: str, share: float) -> Sequence[str]:
    base = top + _BAR - 2
    short = name if len(name) <= _NAME_CHARS_MAX else name[: _NAME_CHARS_MAX - 1] + "…"
    return (
        f'<text x="{_LEFT - _BAR}" y="{base}" text-anchor="end">{escape(short)}</text>',
        f'<rect class="track" x="{_LEFT}" y="{top}" width="{_BAR_WIDTH}" height="{_BAR}" rx="2"/>',
        f'<rect class="bar" x="{_LEFT}" y="{top}" width="{round(share * _BAR_WIDTH, 1)}" height="{_BAR}" rx="2"/>',
        f'<text x="{_LEFT + _BAR_WIDTH + _BAR}" y="{base}">{_percent(share)}</text>',
    )


def _percent(share: float) -> str:
    # What is not full is not told as 100 %.
    return f"{min(share * 100, 99.9):.1f} %"
