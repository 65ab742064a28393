"""Writes Python: lines with their indentation, and the constants that they name. Pure."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_INDENT: Final = "    "


class SourceWriter:
    """Lines of generated code, and the namespace that the code runs in."""

    def __init__(self) -> None:
        self.namespace: dict[str, object] = {}
        self._lines: list[str] = []
        self._depth = 0
        self._names: dict[tuple[type, object], str] = {}
        self._locals = 0

    def line(self, text: str) -> None:
        """Add a line at the current depth."""
        self._lines.append(_INDENT * self._depth + text)

    def indent(self, depth: int = 1) -> None:
        """Set the lines that follow further in, or back where `depth` is negative."""
        self._depth += depth

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Add a compound statement; the lines of the body are its block, which may be empty."""
        self.line(f"{head}:")
        self._depth += 1
        before = len(self._lines)
        yield
        if len(self._lines) == before:
            self.line("pass")
        self._depth -= 1

    def constant(self, value: object) -> str:
        """Return the name by which the code reads a value. Equal texts share one."""
        key: tuple[type, object] = (str, value) if type(value) is str else (object, id(value))
        if key not in self._names:
            self._names[key] = f"C{len(self.namespace)}"
            self.namespace[self._names[key]] = value
        return self._names[key]

    def local(self, letter: str) -> str:
        """Return the name of a local variable that no other has."""
        self._locals += 1
        return f"{letter}{self._locals}"

    def source(self) -> str:
        """Return the code."""
        return "\n".join(self._lines) + "\n"


class Chain:
    """Conditions of which the first that holds decides, and what is computed between them."""

    def __init__(self, writer: SourceWriter) -> None:
        self._writer = writer
        self._first = True
        self._depth = 0

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """Add a condition; the lines of the body run where it holds and none before it did."""
        with self._writer.block(f"{'if' if self._first else 'elif'} {condition}"):
            yield
        self._first = False

    def let(self, *lines: str) -> None:
        """Add lines that run where no condition held so far. Conditions that follow may read what they set."""
        if not self._first:
            self._writer.line("else:")
            self._writer.indent()
            self._depth += 1
            self._first = True
        for line in lines:
            self._writer.line(line)

    def close(self) -> None:
        """End all conditions."""
        self._writer.indent(-self._depth)
        self._depth = 0
