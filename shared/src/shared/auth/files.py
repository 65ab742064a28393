"""TOML files of API keys and of producers: how one is read, and read again when it changes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from shared.contracts.errors import EtlPayError

T = TypeVar("T")

_FILE_BYTES_MAX: Final = 4 * 1024 * 1024


class AccessFileError(EtlPayError):
    """The file of API keys or of producers cannot be used. The message repeats nothing of it."""


class FileFormat(Generic[T]):
    """What a file holds: a list, under the name `noun` in messages."""

    def __init__(
        self, noun: str, decode: Callable[[bytes], list[T]], problem: Callable[[Sequence[T]], str | None]
    ) -> None:
        """`problem` says what is wrong with a list as a whole."""
        self.noun = noun
        self._decode = decode
        self._problem = problem

    def read(self, path: Path) -> list[T]:
        """Return what a file holds. Raises AccessFileError."""
        try:
            with path.open("rb") as file:
                content = file.read(_FILE_BYTES_MAX + 1)
        except OSError as error:
            raise self._unreadable(error) from error
        return self.parse(content)

    def parse(self, content: bytes) -> list[T]:
        """Return what a file with this content holds. Raises AccessFileError."""
        if len(content) > _FILE_BYTES_MAX:
            raise AccessFileError(f"the file of {self.noun} is larger than {_FILE_BYTES_MAX} bytes")
        try:
            entries = self._decode(content)
        except msgspec.ValidationError as error:
            raise AccessFileError(f"the file of {self.noun} is not valid: {error}") from error
        except (msgspec.DecodeError, ValueError) as error:
            raise AccessFileError(f"the file of {self.noun} is not TOML") from error
        if problem := self._problem(entries):
            raise AccessFileError(f"the file of {self.noun} is not valid: {problem}")
        return entries

    def fingerprint(self, path: Path) -> tuple[int, ...]:
        """Return what changes with a file's content and with who may read it, however it was replaced.

        Raises AccessFileError.
        """
        try:
            found = path.stat()
        except OSError as error:
            raise self._unreadable(error) from error
        return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _unreadable(self, error: OSError) -> AccessFileError:
        return AccessFileError(f"the file of {self.noun} cannot be read ({type(error).__name__})")


class ReloadedFile(Generic[T]):
    """A file that is read again where it has changed, and as long as it cannot be used."""

    def __init__(
        self,
        path: Path,
        form: FileFormat[T],
        *,
        reloaded: Callable[[Sequence[T]], None],
        failed: Callable[[str], None],
    ) -> None:
        """`look` calls `reloaded` with what the file holds now, and `failed` once for each reason.

        Raises AccessFileError.
        """
        self._path = path
        self._form = form
        self._reloaded = reloaded
        self._failed = failed
        self._seen = form.fingerprint(path)
        self._complaint: tuple[tuple[int, ...] | None, str] | None = None

    def read(self) -> list[T]:
        """Return what the file holds. Raises AccessFileError."""
        return self._form.read(self._path)

    @property
    def problem(self) -> str | None:
        """Why the file could not be used when it was last looked at, or None."""
        return None if self._complaint is None else self._complaint[1]

    def look(self) -> bool:
        """Read the file again where it changed; return whether it can be used.

        This runs in the event loop: to hand it to a thread takes longer than to read a small file.
        """
        seen = None
        try:
            seen = self._form.fingerprint(self._path)
            if seen == self._seen and self._complaint is None:
                return True
            entries = self.read()
        except AccessFileError as error:
            # Tried again with every look, because what is wrong need not change the file.
            if self._complaint != (seen, str(error)):
                self._complaint = (seen, str(error))
                self._failed(str(error))
            return False
        self._seen, self._complaint = seen, None
        self._reloaded(entries)
        return True
