"""A run of the fault matrix or of the benchmark is one JSON file in docs/records/; a page shows the newest of them."""

import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from support.servers import CHECKOUT

DOCS: Final = CHECKOUT / "docs"
RECORDS: Final = DOCS / "records"
_BEGIN: Final = "<!-- generated from docs/records/ by `make docs` -->\n"
_END: Final = "<!-- end of the generated part -->\n"

Record = dict[str, Any]


def about_run(*, whole: bool) -> Record:
    """Return what every record begins with. `whole`: all cases ran, so that a page may show it."""
    return {
        "finished_at": datetime.now(UTC),
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed_since_commit": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "whole": whole,
    }


def write(path: Path, record: Record) -> None:
    """Write a record, one line for each case: a person can read it, and a diff is short."""
    members = (f"{_json(name)}: {_lines(value)}" for name, value in record.items())
    path.parent.mkdir(exist_ok=True)
    path.write_text("{\n" + ",\n".join(members) + "\n}\n", encoding="utf-8")


def path_of(kind: str, record: Record) -> Path:
    """Return where the record of a run belongs."""
    return RECORDS / f"{kind}-{record['finished_at']:%Y-%m-%d-%H%M}.json"


def newest(kind: str) -> Record:
    """Return the newest record of a whole run. Raises LookupError where there is none."""
    for path in sorted(RECORDS.glob(f"{kind}-2*.json"), reverse=True):
        record: Record = msgspec.json.decode(path.read_bytes())
        if record["whole"]:
            return record | {"file": path.name}
    raise LookupError(f"no whole run of {kind} is recorded")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = (f"| {' | '.join(cells)} |\n" for cells in (head, *rows))
    return next(lines) + "|---" * len(head) + "|\n" + "".join(lines)


def with_part(page: str, part: str) -> str:
    """Return a page with its generated part replaced."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("the page has no generated part")
    return f"{before}{begin}\n{part}\n{end}{after}"


def _lines(value: object) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"  {_json(item)}" for item in value) + "\n]"
    return _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _git(*arguments: str) -> str:
    return subprocess.run(("git", *arguments), cwd=CHECKOUT, capture_output=True, check=True, text=True).stdout.strip()
