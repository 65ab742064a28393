"""Producers of a queue: which sources each user of the broker may name. `etlpay producers` writes their file.

The broker checks who published a message: it refuses a property `user_id` that is not the user of the connection.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from shared.auth.files import FileFormat, ReloadedFile
from shared.auth.scopes import Scope
from shared.contracts.event import source_problem

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PRODUCERS_MAX: Final = 1_000


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
        """Read the file. Raises AccessFileError."""
        self._file = ReloadedFile(path, PRODUCERS_FILE, reloaded=self._reload, failed=_log_failure)
        self._scopes = _scopes(self._file.read())

    @property
    def is_readable(self) -> bool:
        """Whether the file could be read when it was last looked at. While it cannot, no message may be taken."""
        return self._file.problem is None

    def look(self) -> None:
        """Read the file again where it changed, or could not be read."""
        self._file.look()

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

    def _reload(self, producers: Sequence[Producer]) -> None:
        self._scopes = _scopes(producers)
        log.info("producers read again", producers=len(producers))


def _scopes(producers: Sequence[Producer]) -> dict[str, Scope]:
    return {producer.user: Scope(producer.sources) for producer in producers}


def _log_failure(reason: str) -> None:
    log.error("no messages are taken: the producers cannot be read", reason=reason)


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


PRODUCERS_FILE: Final = FileFormat(
    "producers", lambda content: msgspec.toml.decode(content, type=_ProducerList).producers, producers_problem
)
"""The file that `etlpay producers` writes and that queue-consumer reads again."""
