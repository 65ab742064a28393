"""What a person decides about a registered pipeline: which version is active, none, or that its events are kept."""

from typing import NamedTuple

import asyncpg

from processor.pipelines.catalog import read_existing
from processor.pipelines.claims import Claims, claim_problems, claims_of
from processor.pipelines.registry import ACTIVE, OFF, Registry, Version, read_registry, set_hold, set_state
from processor.settings import PipelineSettings
from shared.contracts.errors import EtlPayError
from shared.pipelines.ddl.changes import changes_of
from shared.pipelines.facts import MASK_KEY, key_id
from shared.pipelines.model import Pipeline


class RefusedChoiceError(EtlPayError):
    """It cannot be done; the message says why and what can."""


class Person(NamedTuple):
    """Who decides, and why."""

    by: str
    reason: str


async def activate(
    connection: asyncpg.Connection, name: str, number: int, person: Person, settings: PipelineSettings
) -> str:
    """Make a registered version the active one, and pin it; return what was done. Raises RefusedChoiceError."""
    registry = await read_registry(connection)
    version = registry.numbered(_known(registry, name), number)
    if version is None:
        numbers = ", ".join(str(each.version) for each in registry.versions[name])
        raise RefusedChoiceError(f"{name} has no version {number}; there are {numbers}")
    state = registry.states.get(name)
    if state is not None and state.pinned and (state.pipeline_id, state.state) == (version.id, ACTIVE):
        return f"{name}: version {number} is active and pinned already"
    pipeline = _pipeline_of(version, settings)
    _check_claims(name, pipeline, registry)
    await _check_tables(connection, version, pipeline)
    await set_state(connection, name, version.id, ACTIVE, pinned=True, by=person.by, reason=person.reason)
    return f"{name}: version {number} is active and pinned: applying a file that is registered does not undo it"


async def switch_off(connection: asyncpg.Connection, name: str, person: Person) -> str:
    """Make no version active: events are stored without rows. Raises RefusedChoiceError."""
    registry = await read_registry(connection)
    if registry.active(_known(registry, name)) is None:
        return f"{name}: is off already"
    await set_state(connection, name, None, OFF, pinned=True, by=person.by, reason=person.reason)
    return f"{name}: is off: its events are stored, and make no rows; what is stored stays"


async def hold(connection: asyncpg.Connection, name: str, person: Person, *, held: bool) -> str:
    """Keep the events of a pipeline without processing them, or go on. Raises RefusedChoiceError."""
    registry = await read_registry(connection)
    last = registry.holds.get(_known(registry, name))
    if held == bool(last and last.held):
        return f"{name}: is {'held already' if held else 'not held'}"
    await set_hold(connection, name, held=held, by=person.by, reason=person.reason)
    if held:
        return f"{name}: is held: its events are kept, and processed when it is resumed"
    return f"{name}: is resumed: the processor works off what was kept"


def _known(registry: Registry, name: str) -> str:
    if name not in registry.versions:
        known = ", ".join(registry.versions) or "none"
        raise RefusedChoiceError(f"no pipeline {name[:80]} is registered; there are: {known}")
    return name


def _pipeline_of(version: Version, settings: PipelineSettings) -> Pipeline:
    bundle, pipeline = version.bundle(), version.pipeline()
    if bundle is None or pipeline is None:
        raise RefusedChoiceError(f"version {version.version} is of a format that this release does not know")
    key = settings.mask_key.get_secret_value().encode()
    wanted = bundle.facts.get(MASK_KEY)
    if wanted is not None and wanted != (key_id(key) if key else None):
        raise RefusedChoiceError(f"version {version.version} masks with the key {wanted}, which is not the one here")
    return pipeline


def _check_claims(name: str, pipeline: Pipeline, registry: Registry) -> None:
    others = {
        other: claims_of(found)
        for other in registry.versions
        if other != name and (active := registry.active(other)) and (found := active.pipeline())
    }
    wanted = {name: Claims(claims_of(pipeline).sources, frozenset())}
    if problems := claim_problems(wanted, others):
        raise RefusedChoiceError("; ".join(problems[name]))


async def _check_tables(connection: asyncpg.Connection, version: Version, pipeline: Pipeline) -> None:
    """Raise RefusedChoiceError where the tables are not there as the version needs them; views do not matter here."""
    changes = changes_of(pipeline, version.generations, await read_existing(connection))
    wrong = [
        each.line
        for each in changes
        if each.kind == "structural" or (each.statements and each.what.startswith(("table ", "column ")))
    ]
    if wrong:
        raise RefusedChoiceError(f"its tables are not as version {version.version} needs them: {'; '.join(wrong[:5])}")
