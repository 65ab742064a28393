"""What is wrong with a pipeline file, and where. Pure."""

import re
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

Steps: TypeAlias = tuple[str | int, ...]
"""A key path: names of keys, and numbers of the elements of lists, from 0."""

ReadFile: TypeAlias = Callable[[str], bytes | None]
"""Return the content of a file by its name, relative to the folder of the pipeline file; None where there is none."""

Level: TypeAlias = Literal["error", "warning"]

PROBLEMS_MAX: Final = 200
"""Of one file; further ones are not looked for."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


class FileProblem(msgspec.Struct, frozen=True):
    """What is wrong in a pipeline file, or in one beside it.

    `path` is a key path, as `table[0].columns.amount.currency`, empty for the file as a whole. `line` counts from 1.
    """

    path: str
    line: int | None
    level: Level
    detail: str
    file: str


def path_text(steps: Steps) -> str:
    """Return a key path as text; keys that TOML would quote are quoted."""
    parts: list[str] = []
    for step in steps:
        if isinstance(step, int):
            parts.append(f"[{step}]")
            continue
        name = step if _BARE.fullmatch(step) else msgspec.json.encode(step).decode()
        parts.append(f".{name}" if parts else name)
    return "".join(parts)


def has_errors(problems: tuple[FileProblem, ...]) -> bool:
    """Tell whether a problem is more than a warning."""
    return any(problem.level == "error" for problem in problems)
