"""The commands of a page of the documentation, and what the page says that they print."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

_BLOCK: Final = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_ANY: Final = "…"
_END: Final = "\x1e"


class Command(NamedTuple):
    """A block of `sh`, and the block of `text` behind it; None where the page shows nothing."""

    text: str
    printed: str | None


class Done(NamedTuple):
    """What a command printed, on both streams, and the exit code of its last line."""

    printed: str
    exit_code: int


def commands_of(page: Path) -> list[Command]:
    """Return the blocks that a reader pastes, in order."""
    blocks = [(found["kind"], found["text"]) for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))]
    following = [*blocks[1:], ("", "")]
    return [
        Command(text, after if kind_after == "text" else None)
        for (kind, text), (kind_after, after) in zip(blocks, following, strict=True)
        if kind == "sh"
    ]


def paste(commands: list[Command], folder: Path, environment: Mapping[str, str]) -> list[Done]:
    """Paste all commands into one shell in a folder, as a reader does; return what came of each."""
    marked = (f"{command.text}\nprintf '{_END}%s{_END}' \"$?\"\n" for command in commands)
    done = subprocess.run(
        ("bash",),
        input="exec 2>&1\n" + "".join(marked),
        cwd=folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    parts = done.stdout.split(_END)
    return [Done(printed, int(code)) for printed, code in zip(parts[::2], parts[1::2], strict=False)]


def is_as_shown(printed: str, shown: str) -> bool:
    """Tell whether a text is what a page shows; `…` stands for some characters, alone on a line for some lines."""
    parts = []
    for line in shown.rstrip().splitlines():
        if line.strip() == _ANY:
            parts.append(r"(?:[^\n]*\n)*")
        else:
            parts.append("[^\n]*".join(re.escape(part) for part in line.rstrip().split(_ANY)) + r"\n")
    lines = "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())
    return re.fullmatch("".join(parts), lines) is not None
