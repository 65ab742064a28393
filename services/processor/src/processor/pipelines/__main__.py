"""`python -m processor.pipelines plan|apply|activate|off|hold|resume|list|show`: what runs, decided by a person.

Exit codes: 0 done, 1 refused or failed, 2 usage.
"""

import argparse
import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from processor.pipelines import choices, shown
from processor.pipelines.applying import apply_plan, problem_of
from processor.pipelines.folder import UnreadableError
from processor.pipelines.plan import Plan
from processor.pipelines.planning import make_plan
from processor.pipelines.registry import read_registry
from processor.pipelines.remembered import difference, is_token, remember
from processor.pipelines.sessions import Sessions, open_sessions
from processor.settings import PipelineSettings
from shared.contracts.errors import EtlPayError
from shared.postgres import POSTGRES_ERRORS
from shared.runtime.startup import load_settings

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2

Command = Callable[[Sessions, argparse.Namespace, PipelineSettings], Awaitable[int]]


def main() -> int:
    """Run the command line; return the exit code."""
    given = parser().parse_args()
    # Standard output is for the result alone, so warnings would be in its way.
    settings = load_settings(PipelineSettings, service="pipelines", log_level="error")
    return asyncio.run(run(given, settings))


async def run(given: argparse.Namespace, settings: PipelineSettings) -> int:
    """Run what a command line asks for, as `parser` has read it; return the exit code."""
    command: Command = given.run
    try:
        async with open_sessions(settings, _tell) as sessions:
            if given.changes:
                await sessions.hold_changes()
            return await command(sessions, given, settings)
    except UnreadableError as error:
        _complain(str(error))
        return USAGE
    except EtlPayError as error:
        _complain(str(error))
    except POSTGRES_ERRORS as error:
        _complain(problem_of(error))
    return REFUSED


async def _plan(sessions: Sessions, given: argparse.Namespace, settings: PipelineSettings) -> int:
    plan = await sessions.patiently(
        lambda: make_plan(sessions.main, given.path or settings.pipelines_folder, settings, compare=not given.sql)
    )
    remember(settings.pipelines_plans_folder, plan)
    if given.sql:
        _print_lines(shown.sql_lines(plan, settings.pipelines_lock_seconds_max))
        for each in plan.pipelines:
            for problem in each.problems:
                _complain(f"{each.name}: {problem}")
    elif given.json:
        _print_json(shown.plan_document(plan))
    else:
        _print_lines(shown.plan_lines(plan))
        if plan.is_work:
            _print_lines([f"plan {plan.token}: apply with  etlpay pipeline apply --plan {plan.token}"])
    return REFUSED if plan.refused else DONE


async def _apply(sessions: Sessions, given: argparse.Namespace, settings: PipelineSettings) -> int:
    path = given.path or settings.pipelines_folder
    plan = await sessions.patiently(lambda: make_plan(sessions.main, path, settings))
    if given.plan is not None and given.plan != plan.token:
        return _stale(given, plan, settings)
    failed = _missing(plan) if given.verify_only else {}
    doable = msgspec.structs.replace(plan, pipelines=tuple(each for each in plan.pipelines if each.name not in failed))
    failed |= await apply_plan(sessions, doable, by=given.by, label=given.label)
    if given.json:
        _print_json(shown.plan_document(plan, failed))
    else:
        _print_lines(shown.plan_lines(plan))
        done = [each.name for each in plan.pipelines if each.is_work and each.name not in failed]
        _print_lines([f"applied: {', '.join(done) or 'nothing'}"])
        for name, problem in failed.items():
            _complain(f"{name}: {problem}")
    return REFUSED if failed or plan.refused else DONE


def _stale(given: argparse.Namespace, plan: Plan, settings: PipelineSettings) -> int:
    lines = difference(settings.pipelines_plans_folder, given.plan, plan)
    if given.json:
        _print_json({"stale": given.plan, "plan": plan.token, "difference": lines})
    else:
        _print_lines([f"the plan {given.plan} is stale; the plan is {plan.token} now:", *lines])
    return REFUSED


def _missing(plan: Plan) -> dict[str, str]:
    """Return what an administrator has not made yet, by the name of the pipeline."""
    return {
        each.name: "is not there yet: " + "; ".join(change.what for change in each.changes if change.statements)
        for each in plan.pipelines
        if each.statements
    }


async def _activate(sessions: Sessions, given: argparse.Namespace, settings: PipelineSettings) -> int:
    name, number = given.version
    return _done(
        given, await choices.activate(sessions.main, name, number, choices.Person(given.by, given.reason), settings)
    )


async def _off(sessions: Sessions, given: argparse.Namespace, _: PipelineSettings) -> int:
    return _done(given, await choices.switch_off(sessions.main, given.name, choices.Person(given.by, given.reason)))


async def _hold(sessions: Sessions, given: argparse.Namespace, _: PipelineSettings) -> int:
    person = choices.Person(given.by, given.reason)
    return _done(given, await choices.hold(sessions.main, given.name, person, held=given.held))


async def _list(sessions: Sessions, given: argparse.Namespace, _: PipelineSettings) -> int:
    registry = await read_registry(sessions.main)
    if given.json:
        _print_json({"pipelines": shown.registry_document(registry)})
    else:
        _print_lines(shown.registry_lines(registry))
    return DONE


async def _show(sessions: Sessions, given: argparse.Namespace, _: PipelineSettings) -> int:
    registry = await read_registry(sessions.main)
    name, number = given.version
    found = registry.numbered(name, number) if number else registry.active(name) or registry.newest(name)
    if found is None:
        known = ", ".join(f"{each.name}@{each.version}" for listed in registry.versions.values() for each in listed)
        _complain(f"there is no such version; there are: {known or 'none'}")
        return REFUSED
    if given.json:
        _print_json(shown.version_document(found))
    else:
        _print_lines(shown.version_lines(found))
    return DONE


def _done(given: argparse.Namespace, text: str) -> int:
    if given.json:
        _print_json({"done": text})
    else:
        _print_lines([text])
    return DONE


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    reading = argparse.ArgumentParser(prog="processor.pipelines", description=__doc__)
    commands = reading.add_subparsers(required=True)
    everywhere = argparse.ArgumentParser(add_help=False)
    everywhere.add_argument("--json", action="store_true", help="print JSON")
    deciding = argparse.ArgumentParser(add_help=False)
    deciding.add_argument("--by", default=_user(), help="who decides; else the user of this system")
    reasoned = argparse.ArgumentParser(add_help=False)
    reasoned.add_argument("--reason", required=True, help="why")

    plan = commands.add_parser("plan", parents=[everywhere], help="say what applying pipeline files would do")
    plan.add_argument("path", type=Path, nargs="?", help="a pipeline file, or a folder of them")
    plan.add_argument("--sql", action="store_true", help="print the statements alone")
    plan.set_defaults(run=_plan, changes=False)
    apply = commands.add_parser("apply", parents=[everywhere, deciding], help="do what a plan says")
    apply.add_argument("path", type=Path, nargs="?", help="a pipeline file, or a folder of them")
    how = apply.add_mutually_exclusive_group(required=True)
    how.add_argument("--plan", type=_token, metavar="TOKEN", help="exactly this plan")
    how.add_argument("--yes", action="store_true", help="whatever the plan is")
    apply.add_argument("--label", help="what this version is called, such as a commit")
    apply.add_argument("--verify-only", action="store_true", help="run no statement; what is missing is refused")
    apply.set_defaults(run=_apply, changes=True)
    activate = commands.add_parser("activate", parents=[everywhere, deciding, reasoned], help="choose a version")
    activate.add_argument("version", type=_numbered, metavar="NAME@N")
    activate.set_defaults(run=_activate, changes=True)
    for name, run, held in (("off", _off, None), ("hold", _hold, True), ("resume", _hold, False)):
        each = commands.add_parser(name, parents=[everywhere, deciding, reasoned])
        each.add_argument("name")
        each.set_defaults(run=run, changes=True, held=held)
    listing = commands.add_parser("list", parents=[everywhere], help="list what is registered")
    listing.set_defaults(run=_list, changes=False)
    show = commands.add_parser("show", parents=[everywhere], help="show a version, else the active one")
    show.add_argument("version", type=_perhaps_numbered, metavar="NAME[@N]")
    show.set_defaults(run=_show, changes=False)
    return reading


def _token(text: str) -> str:
    if not is_token(text):
        raise argparse.ArgumentTypeError("is no token of a plan; `plan` prints it")
    return text


def _numbered(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition("@")
    if not name or not number.isdecimal() or not int(number):
        raise argparse.ArgumentTypeError("must be NAME@N")
    return name, int(number)


def _perhaps_numbered(text: str) -> tuple[str, int]:
    return _numbered(text) if "@" in text else (text, 0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def _print_json(document: object) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _complain(text: str) -> None:
    _tell(f"error: {text}")


if __name__ == "__main__":
    sys.exit(main())
