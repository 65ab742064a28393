"""Prints what a distribution needs from others, one requirement a line: `python requirements.py FOLDER`.

The image installs these before our own code is copied. pip cannot do that by itself: it installs the requirements of
a project only together with the project. What the lock does not name is refused: pip would take the newest.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

_SHARED = re.compile(r"etlpay-shared(?:\[(?P<extras>[^]]*)])?$")


def project(folder: Path) -> dict[str, Any]:
    """Return the project table of a folder's pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


def requirements(folder: Path, shared_folder: Path) -> set[str]:
    """Return the requirements of a distribution, with those of `shared` and of the extras it asks of it."""
    found: set[str] = set()
    for requirement in project(folder)["dependencies"]:
        ours = _SHARED.match(requirement)
        if ours is None:
            found.add(requirement)
            continue
        shared = project(shared_folder)
        found.update(shared["dependencies"])
        for extra in filter(None, re.split(r"\s*,\s*", ours["extras"] or "")):
            found.update(shared["optional-dependencies"][extra])
    return found


def name(requirement: str) -> str:
    """Return a requirement's name as packages are compared by."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def main() -> int:
    """Print the requirements of the folder named on the command line."""
    locked = {name(line) for line in Path("requirements.lock").read_text().splitlines()}
    wanted = sorted(requirements(Path(sys.argv[1]), Path("shared")))
    missing = [requirement for requirement in wanted if name(requirement) not in locked]
    if missing:
        print(f"not in requirements.lock, call `make lock`: {', '.join(missing)}", file=sys.stderr)
        return 1
    print("\n".join(wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
