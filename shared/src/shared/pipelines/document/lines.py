"""The lines of the keys of a TOML document; `tomllib` tells none. Pure."""

import re
import tomllib
from collections import Counter
from typing import Final

from shared.pipelines.document.problems import Steps

_BLANK: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY_PART: Final = re.compile(r'[ \t]*(?:(?P<bare>[A-Za-z0-9_-]+)|(?P<quoted>"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'))[ \t]*')
_TEXT: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' r"|'''(?:[^']|'(?!''))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN: Final = re.compile(r"[^,\]}\n#]+")


def key_lines(text: str) -> dict[Steps, int]:
    """Return the line, from 1, of each key and list element of a document, in the order of the text.

    Of a document that is no TOML, those before the place where that shows.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    try:
        scanner.scan()
    except (_NoTomlError, ValueError, RecursionError):
        return scanner.lines
    return scanner.lines


def line_of(lines: dict[Steps, int], steps: Steps) -> int | None:
    """Return the line of a key path, or that of the nearest one around it that stands in the document."""
    for end in range(len(steps), 0, -1):
        if steps[:end] in lines:
            return lines[steps[:end]]
    return None


class _NoTomlError(Exception):
    """The text is no TOML from here on."""


class _Scanner:
    """Goes through a document once, from its beginning; `lines` grows."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Steps, int] = {}
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._line = 1
        self._elements: Counter[Steps] = Counter()

    def scan(self) -> None:
        """Go through the whole document. Raises _NoTomlError, RecursionError."""
        header: Steps = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                header = self._header()
            else:
                self._pair(header)

    def _header(self) -> Steps:
        line = self._line_here()
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        *outer, last = self._key()
        path: Steps = ()
        for name in outer:
            self.lines.setdefault((*path, name), line)
            path = self._last_element((*path, name))
        path = (*path, last)
        if brackets == 2:  # noqa: PLR2004 - `[[`
            self.lines.setdefault(path, line)
            self._elements[path] += 1
            path = (*path, self._elements[path] - 1)
        self.lines.setdefault(path, line)
        self._expect("]" * brackets)
        return path

    def _last_element(self, path: Steps) -> Steps:
        return (*path, self._elements[path] - 1) if path in self._elements else path

    def _pair(self, above: Steps) -> None:
        line = self._line_here()
        path = above
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._expect("=")
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        names: list[str] = []
        while True:
            found = self._take(_KEY_PART)
            names.append(found["bare"] or str(tomllib.loads(f"key = {found['quoted']}")["key"]))
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _value(self, path: Steps) -> None:
        opening = self._text[self._at : self._at + 1]
        if opening == "[":
            self._list(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._take(_TEXT if opening in {'"', "'"} else _PLAIN)

    def _list(self, path: Steps) -> None:
        self._at += 1
        number = 0
        while self._skip(_BLANK) < len(self._text) and self._text[self._at] != "]":
            self.lines.setdefault((*path, number), self._line_here())
            self._value((*path, number))
            number += 1
            self._skip(_BLANK)
            if self._text.startswith(",", self._at):
                self._at += 1
        self._expect("]")

    def _inline_table(self, path: Steps) -> None:
        self._at += 1
        self._skip(_SPACE)
        while not self._text.startswith("}", self._at):
            self._pair(path)
            self._skip(_SPACE)
            if self._text.startswith(",", self._at):
                self._at += 1
                self._skip(_SPACE)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise _NoTomlError
        self._at = found.end()
        return found

    def _expect(self, sign: str) -> None:
        if not self._text.startswith(sign, self._at):
            raise _NoTomlError
        self._at += len(sign)

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line
