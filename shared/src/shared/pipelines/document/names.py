"""Names of files that a pipeline file may name: those in its own folder, and below. Pure."""

import re
from typing import Final

NAME_CHARS_MAX: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*(?:/[A-Za-z0-9_][A-Za-z0-9_. -]*)*")


def file_name_problem(name: str) -> str | None:
    """Return why a file of that name is not read, or None. Whether the file is there is not looked at."""
    if not name:
        return "is empty; name a file"
    if len(name) > NAME_CHARS_MAX:
        return f"is longer than {NAME_CHARS_MAX} characters"
    if name.startswith(("/", "\\", "~")) or name[1:2] == ":":
        return "is an absolute path; files stand in the folder of the pipeline file, or below"
    if ".." in name.replace("\\", "/").split("/"):
        return "leaves the folder of the pipeline file; files stand in that folder, or below"
    if not _NAME.fullmatch(name) or name.endswith((" ", ".")):
        return "is no name of a file here; names hold letters, digits, blanks and . _ - only, and / between folders"
    return None
