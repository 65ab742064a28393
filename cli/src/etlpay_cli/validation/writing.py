"""Writes a report into a folder: JSON, Markdown, and a picture where some columns are not full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etlpay_cli.validation.markdown import markdown_text
from etlpay_cli.validation.report import json_text
from etlpay_cli.validation.shares import filled_shares, shares_svg

if TYPE_CHECKING:
    from pathlib import Path

    from etlpay_cli.validation.report import ValidationReport


def write_report(report: ValidationReport, folder: Path) -> list[Path]:
    """Write the report, and return the paths of its files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{report.pipeline.name}_validation_report"
    picture = folder / f"{name}.svg"
    texts = {folder / f"{name}.json": json_text(report).decode()}
    shares = filled_shares(report.files)
    if shares:
        texts[picture] = shares_svg(f"{report.pipeline.name}: rows that have a value", shares)
    else:
        # One of an earlier run would be taken for that of this one.
        picture.unlink(missing_ok=True)
    texts[folder / f"{name}.md"] = markdown_text(report, picture=picture.name if shares else None)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)
