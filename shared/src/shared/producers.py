"""Which sources the users of a broker may name: the producers of a queue, in a file that `etlpay producers` writes.

The broker proves who published a message: it refuses a property `user_id` that is not the user of the connection.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from shared.contracts.errors import EtlPayError
from shared.contracts.event import source_problem

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PRODUCERS_MAX: Final = 1_000
_FILE_BYTES_MAX: Final = 4 * 1024 * 1024


class ProducersFileError(EtlPayError):
    """The file of producers cannot be used."""


class Producer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A producer: the broker's user it publishes as, and its sources: exact names, or beginnings that end with `*`."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}\Z")]
    user: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    sources: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=1_000)]
    created: datetime


class _ProducerList(msgspec.Struct, forbid_unknown_fields=True):
    producers: list[Producer] = []


class Producers:
    """Knows which source each user may name. The file is read again where it has changed."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ProducersFileError."""
        self._path = path
        self._seen = _fingerprint(path)
        self._scopes = _scopes(read_producers(path))
        self._complaint = ""

    @property
    def is_readable(self) -> bool:
        """Whether the file could be read when it was last looked at. While it cannot, nobody knows who may do what."""
        return not self._complaint

    def look(self) -> None:
        """Read the file again where it changed, or could not be read."""
        try:
            seen = _fingerprint(self._path)
            if seen == self._seen and self.is_readable:
                return
            self._scopes = _scopes(read_producers(self._path))
        except ProducersFileError as error:
            if self._complaint != str(error):
                self._complaint = str(error)
                log.error("no messages are taken: the producers cannot be read", reason=str(error))  # noqa: TRY400 - the reason says it all
        else:
            self._seen, self._complaint = seen, ""
            log.info("producers read again", producers=len(self._scopes))

    def problem(self, user: str, source: str) -> str | None:
        """Return why a message of `user` (empty: it names none) may not name `source`, or None. Repeats neither.

        Where there are no producers at all, everybody may name every source.
        """
        if not self._scopes:
            return None
        scope = self._scopes.get(user)
        if scope is None:
            return (
                "its user is not among the producers" if user else "it names no user_id, and producers are bound here"
            )
        return None if scope.covers(source) else "its source is not among those of its producer"


class _Scope:
    """The sources of a producer."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._exact = frozenset(sources)
        self._beginnings = tuple(source.removesuffix("*") for source in sources if source.endswith("*"))

    def covers(self, source: str) -> bool:
        return source in self._exact or source.startswith(self._beginnings)


def read_producers(path: Path) -> list[Producer]:
    """Return the producers of a file. Raises ProducersFileError, which does not repeat what the file holds."""
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ProducersFileError(f"the file of producers cannot be read ({type(error).__name__})") from error
    return parse_producers(content)


def parse_producers(content: bytes) -> list[Producer]:
    """Return the producers of a file that holds `content`. Raises ProducersFileError."""
    try:
        producers = msgspec.toml.decode(content, type=_ProducerList).producers
    except msgspec.ValidationError as error:
        raise ProducersFileError(f"the file of producers is not valid: {error}") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ProducersFileError("the file of producers is not TOML") from error
    if problem := producers_problem(producers):
        raise ProducersFileError(f"the file of producers is not valid: {problem}")
    return producers


def producers_problem(producers: Sequence[Producer]) -> str | None:
    """Return what is wrong with a list of producers as a whole, or None."""
    if len(producers) > _PRODUCERS_MAX:
        return f"more than {_PRODUCERS_MAX} producers"
    for what, found in (("name", [each.name for each in producers]), ("user", [each.user for each in producers])):
        if max(Counter(found).values(), default=0) > 1:
            return f"one {what} stands in it twice"
    if any(scope_problem(source) for producer in producers for source in producer.sources):
        return "a source is neither a name nor the beginning of one with `*` at its end"
    return None


def scope_problem(source: str) -> str | None:
    """Return what is wrong with a source of a producer, a name or the beginning of one with `*` at its end; or None."""
    return None if source == "*" else source_problem(source.removesuffix("*"))


def _scopes(producers: Sequence[Producer]) -> dict[str, _Scope]:
    return {producer.user: _Scope(producer.sources) for producer in producers}


def _fingerprint(path: Path) -> tuple[int, ...]:
    """Return what changes with the file's content, however it was replaced."""
    try:
        found = path.stat()
    except OSError as error:
        raise ProducersFileError(f"the file of producers cannot be read ({type(error).__name__})") from error
    return (found.st_ino, found.st_size, found.st_mtime_ns)
