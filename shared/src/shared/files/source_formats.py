"""The file of formats: a TOML file that says how each source writes its files. It is read again when it changes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from shared.contracts.errors import FatalError
from shared.contracts.event import source_problem
from shared.files.file_format import UNSAID, FileFormat

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_FILE_BYTES_MAX: Final = 4 * 1024 * 1024
_SOURCES_MAX: Final = 10_000
_LOOK_SECONDS: Final = 1.0

Clock = Callable[[], float]


class FormatsFileError(FatalError):
    """The file of formats cannot be used. The message does not repeat the values in it."""


class Formats:
    """The formats of all sources. Several threads may use it."""

    def __init__(self, file: Path | None, *, clock: Clock = time.monotonic) -> None:
        """Without `file` every source has the usual format. Raises FormatsFileError."""
        self._file = file
        self._clock = clock
        self._guard = threading.Lock()
        self._exact: dict[str, FileFormat] = {}
        self._beginnings: list[tuple[str, FileFormat]] = []
        self._seen: tuple[int, ...] | None = None
        self._reported: tuple[tuple[int, ...] | None, str] | None = None
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
            # Tried again every second, because the fault may end without a change of the file; reported once.
            if self._reported != (seen, str(error)):
                self._reported = (seen, str(error))
                log.error("formats of files not read again; the ones before still apply", reason=str(error))  # noqa: TRY400 - the reason says it all
        else:
            self._seen, self._reported = seen, None
            log.info("formats of files read again", sources=len(self._exact) + len(self._beginnings))

    def _use(self, formats: dict[str, FileFormat]) -> None:
        self._exact = formats
        beginnings = [(name.removesuffix("*"), form) for name, form in formats.items() if name.endswith("*")]
        self._beginnings = sorted(beginnings, key=lambda named: -len(named[0]))


NO_FORMATS: Final = Formats(None)
"""Every source has the usual format."""


def open_formats(file: str) -> Formats:
    """Return the formats in `file`; empty: none. Raises FormatsFileError, a FatalError."""
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
    """Return what changes when the file is written or replaced."""
    try:
        found = path.stat()
    except OSError as error:
        raise FormatsFileError(f"the file of formats cannot be read ({type(error).__name__})") from error
    return (found.st_ino, found.st_size, found.st_mtime_ns)
