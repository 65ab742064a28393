"""The settings for the files of one source. Pure."""

import codecs
import csv
import io
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from shared.contracts.csv_row import Dialect, charset_of, marks_problem

SETTING: Final = "ETLPAY_FILES_FORMATS_FILE"
"""The setting that names the file of formats; reasons point to it."""

_TAB: Final = "tab"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


class FileFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the files of one source are written.

    `delimiter`: None: it is found. `quote`: empty: none. `header`: "present", or the names of the columns of a file
    without a header. `skip_lines`: so many lines at the beginning are skipped. `last_row`: what happens to a last CSV
    row without its line end. `total_line`: what happens to a row that looks like a total; "refuse" refuses the whole
    file where the row is one of the first, else the row. `settle_seconds`: how long a file must be unchanged.
    `marker`: the suffix of the file that marks another one as complete.
    """

    delimiter: str | None = None
    quote: str = '"'
    encoding: str = "utf-8"
    header: Literal["present"] | Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=10_000)] = "present"
    skip_lines: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    last_row: Literal["reject", "accept"] = "reject"
    total_line: Literal["refuse", "reject", "accept"] = "refuse"
    settle_seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    marker: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[^/\x00]*$")] = ""

    def __post_init__(self) -> None:
        """Raise ValueError where a value cannot be used."""
        if charset_of(self.encoding) is None:
            raise ValueError("the encoding must be UTF-8 or one of a single byte that begins with ASCII")
        dialect = self.dialect(",")
        if problem := marks_problem(dialect.delimiter, dialect.quote):
            raise ValueError(problem)
        if self.header != "present" and (problem := names_problem(self.header, dialect.charset)):
            raise ValueError(problem)

    def dialect(self, delimiter: str) -> Dialect:
        """Return how rows are written; `delimiter` counts where the settings name none."""
        named = delimiter if self.delimiter is None else self.delimiter
        return Dialect("\t" if named == _TAB else named, self.quote, charset_of(self.encoding) or "utf-8")


UNSAID: Final = FileFormat()
"""The format of a source that the file of formats does not name."""


def names_problem(names: Sequence[str], charset: str) -> str | None:
    """Return what is wrong with the names of columns, or None."""
    trimmed = [name.strip() for name in names]
    if not all(trimmed) or len(set(trimmed)) < len(trimmed):
        return "the header has a name that is empty, or that is in it twice"
    if not all(name.isprintable() for name in names):
        return "the header has a name that is not printable"
    try:
        codecs.encode("".join(names), charset)
    except UnicodeEncodeError:
        return "the header has a name that the encoding cannot write"
    return None


def encode_header(names: Sequence[str], dialect: Dialect) -> bytes:
    """Return the names of columns as a header in this dialect. Raises csv.Error where only quotes could write it."""
    written = io.StringIO(newline="")
    writer = csv.writer(
        written,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        lineterminator="",
    )
    writer.writerow(names)
    return written.getvalue().encode(dialect.charset)
