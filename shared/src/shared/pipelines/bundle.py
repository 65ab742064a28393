"""The canonical bytes of a version of a pipeline: the files that it names, and their SHA-256. Pure."""

from collections.abc import Mapping

import msgspec

from shared.pipelines.file_problems import FileProblem, ReadFile


class Bundle(msgspec.Struct, frozen=True):
    """A version: its content as canonical bytes (JSON, UTF-8), and their SHA-256 as 64 hexadecimal digits.

    `file` is the name of the pipeline file; `facts` are what counts beside the files, as the date of the currencies.
    """

    file: str
    files: dict[str, str]
    facts: dict[str, str]
    content: bytes
    sha256: str

    def read(self, name: str) -> bytes | None:
        """Return the content of a file of the version."""
        text = self.files.get(name)
        return None if text is None else text.encode()


def make_bundle(
    name: str, read: ReadFile, facts: Mapping[str, str] | None = None
) -> tuple[Bundle | None, tuple[FileProblem, ...]]:
    """Return the bundle of a pipeline file, or None and the problems."""
    raise NotImplementedError


def open_bundle(content: bytes) -> Bundle:
    """Return the bundle that canonical bytes hold. Raises ValueError."""
    raise NotImplementedError
