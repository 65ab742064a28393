"""Plans that were shown, kept in a folder: so that one that is stale can be told with what is different now."""

import contextlib
import re
from pathlib import Path
from typing import Final

import msgspec

from processor.pipelines.plan import Plan

_KEPT_MAX: Final = 100
_TOKEN: Final = re.compile(r"[0-9a-f]{12}")


def is_token(text: str) -> bool:
    """Tell whether a text is the token of a plan."""
    return _TOKEN.fullmatch(text) is not None


def remember(folder: Path | None, plan: Plan) -> None:
    """Keep the steps of a plan. It is no error where that cannot be done: only the difference is not known then."""
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{plan.token}.json").write_bytes(msgspec.json.encode(plan.steps))
        kept = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-_KEPT_MAX]:
            path.unlink(missing_ok=True)


def difference(folder: Path | None, token: str, plan: Plan) -> tuple[str, ...]:
    """Return what a plan does that the one of the token did not (`+`), and the other way round (`-`).

    It is all that the plan does, where the other is not known here.
    """
    before = _recall(folder, token)
    now = plan.steps
    if before is None:
        return (f"the plan {token} is not known here; now it would do:", *(f"+ {step}" for step in _told(now)))
    gone = tuple(step for step in before if step not in now)
    new = tuple(step for step in now if step not in before)
    return (*(f"- {step}" for step in _told(gone)), *(f"+ {step}" for step in _told(new)))


def _recall(folder: Path | None, token: str) -> tuple[str, ...] | None:
    if folder is None:
        return None
    try:
        return msgspec.json.decode((folder / f"{token}.json").read_bytes(), type=tuple[str, ...])
    except (OSError, msgspec.DecodeError):
        return None


def _told(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Return the lines that people read; of a difference in statements alone, the first line of each."""
    lines = tuple(step for step in steps if not _is_statement(step))
    return lines or tuple(step.partition("\n")[0] for step in steps)


def _is_statement(step: str) -> bool:
    return step.partition(": ")[2].startswith(("CREATE ", "ALTER ", "COMMENT ", "DROP "))
