"""Makes a plan of pipeline files and of what the ledger and PostgreSQL hold."""

from pathlib import Path

import asyncpg
import msgspec

from processor.pipelines.catalog import read_existing
from processor.pipelines.claims import Claims, claim_problems, claims_of
from processor.pipelines.folder import PipelineFile, is_file, read_files
from processor.pipelines.plan import PipelinePlan, Plan, structural_problems
from processor.pipelines.registry import OFF, Registry, Version, read_registry
from processor.pipelines.stored import compare_versions
from processor.settings import PipelineSettings
from shared.pipelines.codegen.spots import CompileError
from shared.pipelines.compiling import PipelineProgram, compile_pipeline
from shared.pipelines.ddl.changes import changes_of
from shared.pipelines.ddl.existing import Existing


async def make_plan(
    connection: asyncpg.Connection, path: Path, settings: PipelineSettings, *, compare: bool = False
) -> Plan:
    """Return what applying the file or folder at a path would do; nothing is written.

    `compare` also says which stored events may differ. Raises UnreadableError and POSTGRES_ERRORS.
    """
    mask_key = settings.mask_key.get_secret_value().encode()
    files = read_files(path, mask_key)
    registry, existing = await read_registry(connection), await read_existing(connection)
    problems = _problems_together(files, registry)
    plans = [plan_of(file, registry, existing, problems.get(file.name, [])) for file in files]
    if compare:
        plans = [await _with_comparison(connection, each, settings) for each in plans]
    return Plan(tuple(plans), () if is_file(path) else tuple(_left_out(files, registry)))


def plan_of(file: PipelineFile, registry: Registry, existing: Existing, problems: list[str]) -> PipelinePlan:
    """Return what applying one file would do; `problems` are what it has with other pipelines."""
    name, active = file.name, registry.active(file.name)
    if file.pipeline is None or file.bundle is None or file.problems or problems:
        return PipelinePlan(name, "refused", file, active, problems=(*file.problems, *problems))
    known = registry.of_content(name, file.bundle.sha256)
    if kept := _kept_by_choice(file, known, registry):
        return PipelinePlan(name, "kept", file, active, known, notes=(kept,))
    generations = _generations(file, registry)
    newest = registry.newest(name)
    base = active or newest
    # The tables fit every registered version, so going back to one takes nothing.
    before = base.pipeline() if base and known is None else None
    changes = changes_of(file.pipeline, generations, existing, before, registry.written(name))
    plan = PipelinePlan(
        name,
        "new",
        file,
        active,
        known,
        number=known.version if known else newest.version + 1 if newest else 1,
        generations=generations,
        changes=changes,
        notes=tuple(_notes(file, registry, known)),
        problems=structural_problems(changes),
    )
    if plan.problems:
        return msgspec.structs.replace(plan, action="refused")
    if known is None:
        return msgspec.structs.replace(plan, action="new version" if newest else "new")
    if active is None or active.id != known.id:
        return msgspec.structs.replace(plan, action="activate")
    return msgspec.structs.replace(plan, action="repair" if any(each.statements for each in changes) else "unchanged")


def _kept_by_choice(file: PipelineFile, known: Version | None, registry: Registry) -> str:
    """Return why a version that somebody chose stays; empty: nobody did, or the file says something new."""
    state, active = registry.states.get(file.name), registry.active(file.name)
    if state is None or not state.pinned:
        return ""
    # What decides beside the files may be newer, as the table of currencies: that is nothing that its author wrote.
    said = known or next((each for each in registry.versions[file.name] if _same_files(each, file)), None)
    if said is None or (active and said.id == active.id):
        return ""
    who = f"by {state.set_by} on {state.set_at:%Y-%m-%d} ({state.reason})"
    stays = "off" if state.state == OFF or active is None else f"at version {active.version}"
    there = f"{file.name}@{said.version}"
    return f"stays {stays}, chosen {who}; the file is {there}, which etlpay pipeline activate {there} would choose"


def _same_files(version: Version, file: PipelineFile) -> bool:
    bundle = version.bundle()
    return bundle is not None and file.bundle is not None and bundle.files == file.bundle.files


def _generations(file: PipelineFile, registry: Registry) -> dict[str, int]:
    known = registry.generations(file.name)
    tables = file.pipeline.table if file.pipeline else ()
    return {table.name: known.get(table.name, 1) for table in tables}


def _notes(file: PipelineFile, registry: Registry, known: Version | None) -> list[str]:
    """Return what else is to be said of a plan that changes something."""
    notes = []
    state, active = registry.states.get(file.name), registry.active(file.name)
    if state is not None and state.pinned and known is None:
        chosen = f"version {active.version}" if active else "off"
        notes.append(f"{chosen} was chosen by {state.set_by} ({state.reason}); this content is new, so it is activated")
    newest = registry.newest(file.name)
    bundle = newest.bundle() if newest and known is None else None
    if bundle is not None and file.bundle is not None and bundle.files == file.bundle.files:
        facts = sorted(
            f"{fact} {bundle.facts.get(fact, 'none')} to {file.bundle.facts.get(fact, 'none')}"
            for fact in {**bundle.facts, **file.bundle.facts}
            if bundle.facts.get(fact) != file.bundle.facts.get(fact)
        )
        notes.append(f"the files are those of version {newest.version if newest else 0}; new is {', '.join(facts)}")
    hold = registry.holds.get(file.name)
    if hold is not None and hold.held:
        notes.append(f"is held by {hold.set_by} ({hold.reason}): its events are kept, and not processed")
    if not file.tests:
        notes.append("has no tests")
    return notes


def _problems_together(files: tuple[PipelineFile, ...], registry: Registry) -> dict[str, list[str]]:
    wanted: dict[str, Claims] = {}
    problems: dict[str, list[str]] = {}
    for file in files:
        if file.pipeline is None:
            continue
        if file.name in wanted:
            problems.setdefault(file.name, []).append("two files are of this name")
        wanted[file.name] = claims_of(file.pipeline)
    held = {name: _held(name, registry) for name in registry.versions}
    for name, found in claim_problems(wanted, held).items():
        problems.setdefault(name, []).extend(found)
    return problems


def _held(name: str, registry: Registry) -> Claims:
    """Return what a registered pipeline holds: the sources of its active version, and every name that it ever took."""
    active = registry.active(name)
    pipeline = active.pipeline() if active else None
    newest = registry.newest(name)
    last = newest.pipeline() if newest else None
    names = {*registry.generations(name)}
    for each in (pipeline, last):
        names |= claims_of(each).names if each else set()
    return Claims(claims_of(pipeline).sources if pipeline else frozenset(), frozenset(names))


def _left_out(files: tuple[PipelineFile, ...], registry: Registry) -> list[str]:
    there = {file.name for file in files}
    return [
        f"{name} is active (version {active.version}) and has no file here; it stays: etlpay pipeline off {name}"
        for name in registry.versions
        if name not in there and (active := registry.active(name))
    ]


async def _with_comparison(
    connection: asyncpg.Connection, plan: PipelinePlan, settings: PipelineSettings
) -> PipelinePlan:
    """Return the plan with what its version makes of stored events."""
    if not plan.is_work or plan.action == "repair" or plan.file.program is None or plan.file.pipeline is None:
        return plan
    before = _program_of(plan.active, settings)
    comparison = await compare_versions(
        connection,
        plan.file.pipeline.sources,
        (before, plan.file.program),
        events_max=settings.pipelines_events_max,
    )
    notes = () if comparison else ("which stored events may differ could not be told in a minute",)
    return msgspec.structs.replace(plan, comparison=comparison, notes=(*plan.notes, *notes))


def _program_of(version: Version | None, settings: PipelineSettings) -> PipelineProgram | None:
    bundle, pipeline = (version.bundle(), version.pipeline()) if version else (None, None)
    if bundle is None or pipeline is None:
        return None
    try:
        return compile_pipeline(
            pipeline, bundle.contents, mask_key=settings.mask_key.get_secret_value().encode() or b"none"
        )
    except CompileError:
        return None
