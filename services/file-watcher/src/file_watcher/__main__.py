"""`python -m file_watcher`: watch the inbox until SIGTERM; with `--path`, read one file in place."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from file_watcher.in_place import InPlace
from file_watcher.service import serve_in_place, serve_inbox
from file_watcher.settings import Settings
from shared.contracts.event import source_problem
from shared.runtime.lifecycle import run
from shared.runtime.startup import load_settings


def main() -> int:
    """Return the exit code."""
    flags = _read_flags()
    settings = load_settings(Settings, service="file-watcher")
    return run(_edge(flags, settings), drain_seconds_max=settings.drain_seconds_max)


def _edge(flags: argparse.Namespace, settings: Settings) -> Callable[[asyncio.Event], Awaitable[None]]:
    if flags.path is None:
        return partial(serve_inbox, settings)
    file = InPlace(flags.path, flags.source, flags.name or flags.path.name, rotates=flags.rotates)
    return partial(serve_in_place, settings, file, flags.interval, accept_header=flags.accept_header)


def _read_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m file_watcher",
        description="Without flags: take every file that appears in the inbox.",
    )
    in_place = parser.add_argument_group("one file that its owner rewrites, read in place and never moved")
    in_place.add_argument("--path", type=Path, help="the file: .json, .ndjson, .jsonl or .csv, also with .gz or .zst")
    in_place.add_argument("--source", type=_source, help="who produces its events")
    in_place.add_argument("--interval", type=_seconds, default=10.0, help="seconds between two looks at it (10)")
    in_place.add_argument("--name", help="what the file is called in the keys of its rows (its own name)")
    in_place.add_argument(
        "--rotates", action="store_true", help="it only grows, or begins anew: then equal rows are other rows"
    )
    in_place.add_argument(
        "--accept-header", action="store_true", help="go on with another CSV header than that of the rows of before"
    )
    flags = parser.parse_args()
    if (flags.path is None) != (flags.source is None):
        parser.error("--path and --source belong together")
    return flags


def _source(text: str) -> str:
    problem = source_problem(text)
    if problem:
        raise argparse.ArgumentTypeError(problem)
    return text


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
