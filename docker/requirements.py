"""Prints what of requirements.lock a distribution needs: `python requirements.py FOLDER`, or `... --name PACKAGE`.

The image installs this before our own code is copied. pip cannot find it by itself: it installs the requirements of a
project only together with the project, and with hashes it wants every requirement pinned. So whole entries of the lock
are printed, of what is declared and of all that follows from it. A package that is not in the lock is an error.
`... --folders FOLDER` prints the folders of our own distributions that this one needs, itself included.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

_OURS = re.compile(r"etlpay-(?P<folder>client|shared)(?:\[(?P<extras>[^]]*)])?$")
_VIA = "    # via "


class Entry(NamedTuple):
    """An entry of the lock: its lines, and the names of what asks for it."""

    text: str
    asked_for_by: frozenset[str]


def project(folder: Path) -> dict[str, Any]:
    """Return the project table of a folder's pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


class Needed(NamedTuple):
    """What a distribution needs: requirements of others, and folders of our own distributions."""

    requirements: set[str]
    folders: set[str]


def needed(folder: Path, extras: str = "") -> Needed:
    """Return what a distribution needs with these extras, which stand with commas between."""
    table = project(folder)
    found = Needed(set(), {str(folder)})
    chosen = [table["optional-dependencies"][extra] for extra in filter(None, re.split(r"\s*,\s*", extras))]
    for requirement in sum(chosen, table["dependencies"]):
        if ours := _OURS.match(requirement):
            for names, more in zip(found, needed(Path(ours["folder"]), ours["extras"] or ""), strict=True):
                names.update(more)
        else:
            found.requirements.add(requirement)
    return found


def name(requirement: str) -> str:
    """Return a requirement's name as packages are compared by."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def read_lock(text: str) -> dict[str, Entry]:
    """Return the entries of the lock by name."""
    entries: dict[str, Entry] = {}
    for block in re.split(r"\n(?=\S)", text.strip()):
        lines = block.splitlines()
        via = [line.removeprefix(_VIA).split(", ") for line in lines if line.startswith(_VIA)]
        wanted = "\n".join(line for line in lines if not line.startswith(_VIA))
        entries[name(block)] = Entry(wanted, frozenset(name(each) for names in via for each in names))
    return entries


def closure(names: set[str], entries: dict[str, Entry]) -> set[str]:
    """Return the names with those of all that they need."""
    found = set(names)
    while more := {each for each, entry in entries.items() if entry.asked_for_by & found} - found:
        found |= more
    return found


def main() -> int:
    """Print the entries, or with `--folders` the folders, that the command line asks for."""
    option, argument = ("", *sys.argv[1:])[-2:]
    if option == "--folders":
        print(*(f"./{folder}" for folder in sorted(needed(Path(argument)).folders)))
        return 0
    entries = read_lock(Path("requirements.lock").read_text())
    wanted = {argument} if option == "--name" else needed(Path(argument)).requirements
    names = {name(requirement) for requirement in wanted}
    if missing := sorted(names - entries.keys()):
        print(f"not in requirements.lock, call `make lock`: {', '.join(missing)}", file=sys.stderr)
        return 1
    print("\n".join(entries[each].text for each in sorted(closure(names, entries))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
