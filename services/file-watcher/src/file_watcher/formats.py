"""How the files of each source are written: a TOML file of settings, read at the start and again when it changed."""

import codecs
import csv
import io
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import structlog

from shared.contracts.csv_row import Dialect, charset_of, marks_problem
from shared.contracts.errors import FatalError
from shared.contracts.event import source_problem

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SETTING: Final = "ETLPAY_FILES_FORMATS_FILE"

_TAB: Final = "tab"
_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_SOURCES_MAX: Final = 10_000
_LOOK_SECONDS: Final = 1.0

Clock = Callable[[], float]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


class FileFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the files of one source are written, as far as their owner says so.

    `delimiter`: None is found out. `quote`: empty is none. `header`: "present", or the names of the columns of a file
    that has no header. `skip_lines`: so many lines at the beginning are passed over. `last_row`: what happens to a CSV
    row at the end of a file without its line end. `total_line`: what happens to a row that looks like a total: "refuse"
    is the whole file where the row is seen in time, else the row. `settle_seconds` and `marker`: when a file is whole.
    """

    delimiter: str | None = None
    quote: str = '"'
    encoding: str = "utf-8"
    header: Literal["present"] | Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=10_000)] = "present"
    skip_lines: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0
    last_row: Literal["reject", "accept"] = "reject"
    total_line: Literal["refuse", "reject", "accept"] = "refuse"
    settle_seconds: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    marker: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None

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
"""Of a source that the file of formats does not name."""


def names_problem(names: Sequence[str], charset: str) -> str | None:
    """Return what is wrong with the names of columns, or None."""
    trimmed = [name.strip() for name in names]
    if not all(trimmed) or len(set(trimmed)) < len(trimmed):
        return "the header has a name that is empty, or that stands in it twice"
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


class FormatsFileError(FatalError):
    """The file of formats cannot be used. The message does not repeat the values in it."""


class Formats:
    """Knows the formats of all sources. For several threads at once."""

    def __init__(self, file: Path | None, *, clock: Clock = time.monotonic) -> None:
        """Without `file` nothing is said about any source. Raises FormatsFileError."""
        self._file = file
        self._clock = clock
        self._guard = threading.Lock()
        self._exact: dict[str, FileFormat] = {}
        self._beginnings: list[tuple[str, FileFormat]] = []
        self._seen: tuple[int, ...] | None = None
        self._complaint: tuple[tuple[int, ...] | None, str] | None = None
        self._look_again_at = clock() + _LOOK_SECONDS
        if file is not None:
            self._seen = _fingerprint(file)
            self._use(read_formats(file))

    def of(self, source: str) -> FileFormat:
        """Return the format of a source: the table of its name, else the one of its longest beginning."""
        with self._guard:
            self._look()
            exact = self._exact.get(source)
            if exact is not None:
                return exact
            return next((form for beginning, form in self._beginnings if source.startswith(beginning)), UNSAID)

    def _look(self) -> None:
        """Read the file again where it changed. One that cannot be used changes nothing."""
        now = self._clock()
        if self._file is None or now < self._look_again_at:
            return
        self._look_again_at = now + _LOOK_SECONDS
        seen = None
        try:
            seen = _fingerprint(self._file)
            if seen == self._seen:
                return
            self._use(read_formats(self._file))
        except FormatsFileError as error:
            # Tried again every second, because what was wrong need not change the file; reported once.
            if self._complaint != (seen, str(error)):
                self._complaint = (seen, str(error))
                log.error("formats of files not read again; those before still count", reason=str(error))  # noqa: TRY400 - the reason says it all
        else:
            self._seen, self._complaint = seen, None
            log.info("formats of files read again", sources=len(self._exact) + len(self._beginnings))

    def _use(self, formats: dict[str, FileFormat]) -> None:
        self._exact = formats
        beginnings = [(name.removesuffix("*"), form) for name, form in formats.items() if name.endswith("*")]
        self._beginnings = sorted(beginnings, key=lambda named: -len(named[0]))


NO_FORMATS: Final = Formats(None)
"""Nothing is said about any source."""


def open_formats(file: str) -> Formats:
    """Return the formats that the file says; none where `file` is empty. Raises FormatsFileError, a FatalError."""
    return Formats(Path(file)) if file else NO_FORMATS


def read_formats(path: Path) -> dict[str, FileFormat]:
    """Return the tables of a file of formats. Raises FormatsFileError."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
        formats = msgspec.toml.decode(content, type=dict[str, FileFormat])
    except OSError as error:
        raise FormatsFileError(f"the file of formats cannot be read ({type(error).__name__})") from error
    except msgspec.ValidationError as error:
        raise FormatsFileError(f"the file of formats is not valid: {error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise FormatsFileError("the file of formats is not TOML") from error
    if len(formats) > _SOURCES_MAX or len(content) > _FILE_BYTES_MAX:
        raise FormatsFileError(f"the file of formats has more than {_SOURCES_MAX} sources, or {_FILE_BYTES_MAX} bytes")
    if any(name != "*" and source_problem(name.removesuffix("*")) for name in formats):
        raise FormatsFileError("the file of formats has a table that names neither a source nor the beginning of one")
    return formats


def _fingerprint(path: Path) -> tuple[int, ...]:
    """Return what changes with the file's content, however it was replaced."""
    try:
        found = path.stat()
    except OSError as error:
        raise FormatsFileError(f"the file of formats cannot be read ({type(error).__name__})") from error
    return (found.st_ino, found.st_size, found.st_mtime_ns)
