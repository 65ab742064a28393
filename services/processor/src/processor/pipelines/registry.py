"""The versions of pipelines in the ledger, and which of them is active or held."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from shared.pipelines.bundle import Bundle, BundleError, open_bundle
from shared.pipelines.ddl.views import Written
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.model import Pipeline
from shared.pipelines.typed_tables import typed_tables

ACTIVE: Final = 1
OFF: Final = 3
"""The states of a pipeline, as the ledger has them."""

_VERSIONS: Final = """
    SELECT id, name, version, sha256, content, generations::text, label, registered_at, registered_by
    FROM public.pipelines ORDER BY name, version
"""
_STATES: Final = """
    SELECT DISTINCT ON (name) id, name, pipeline_id, state, pinned, set_at, set_by, reason
    FROM public.pipeline_states WHERE state IN (1, 3) ORDER BY name, id DESC
"""
_HOLDS: Final = """
    SELECT DISTINCT ON (name) name, held, set_at, set_by, reason FROM public.pipeline_holds ORDER BY name, id DESC
"""
_REGISTER: Final = """
    INSERT INTO public.pipelines (name, version, sha256, content, generations, label, registered_by)
    VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7) RETURNING id
"""
_SET_STATE: Final = """
    INSERT INTO public.pipeline_states (name, pipeline_id, state, pinned, set_by, reason)
    VALUES ($1, $2, $3, $4, $5, $6)
"""
_SET_HOLD: Final = "INSERT INTO public.pipeline_holds (name, held, set_by, reason) VALUES ($1, $2, $3, $4)"


class Version(msgspec.Struct, frozen=True):
    """A registered version. `id` is that of the ledger."""

    id: int
    name: str
    version: int
    sha256: bytes
    content: bytes
    generations: dict[str, int]
    label: str | None
    registered_at: datetime
    registered_by: str

    def bundle(self) -> Bundle | None:
        """Return its bundle, or None where it is of a format that is not known here."""
        try:
            return open_bundle(self.content)
        except BundleError:
            return None

    def pipeline(self) -> Pipeline | None:
        """Return its pipeline, or None where it cannot be read here."""
        bundle = self.bundle()
        return read_pipeline(bundle.file, bundle.read)[0] if bundle else None


class State(msgspec.Struct, frozen=True):
    """The last choice of somebody about a pipeline. `pinned`: they chose this version, or that there is none."""

    id: int
    name: str
    pipeline_id: int | None
    state: int
    pinned: bool
    set_at: datetime
    set_by: str
    reason: str


class Hold(msgspec.Struct, frozen=True):
    """Whether the events of a pipeline are kept and not processed, and who said so."""

    name: str
    held: bool
    set_at: datetime
    set_by: str
    reason: str


class Registry(msgspec.Struct, frozen=True):
    """Everything that is registered, by the name of the pipeline; versions are in their order."""

    versions: dict[str, tuple[Version, ...]] = {}
    states: dict[str, State] = {}
    holds: dict[str, Hold] = {}

    def of_content(self, name: str, sha256: str) -> Version | None:
        """Return the version of a content."""
        return next((each for each in self.versions.get(name, ()) if each.sha256.hex() == sha256), None)

    def numbered(self, name: str, number: int) -> Version | None:
        """Return the version of a number."""
        return next((each for each in self.versions.get(name, ()) if each.version == number), None)

    def newest(self, name: str) -> Version | None:
        """Return the version that was registered last."""
        versions = self.versions.get(name)
        return versions[-1] if versions else None

    def active(self, name: str) -> Version | None:
        """Return the active version; None: there is none, or the pipeline is off."""
        state = self.states.get(name)
        if state is None or state.state != ACTIVE:
            return None
        return next((each for each in self.versions.get(name, ()) if each.id == state.pipeline_id), None)

    def generations(self, name: str) -> dict[str, int]:
        """Return the number of each table that a version of the pipeline ever had."""
        return {table: number for each in self.versions.get(name, ()) for table, number in each.generations.items()}

    def written(self, name: str) -> Written:
        """Return the columns that each version of the pipeline writes; one that cannot be read here is left out."""
        written: dict[str, dict[int, frozenset[str]]] = {}
        for version in self.versions.get(name, ()):
            if (pipeline := version.pipeline()) is not None:
                for table in typed_tables(pipeline, version.generations):
                    written.setdefault(table.name, {})[version.id] = frozenset(table.table.columns)
        return written


async def read_registry(connection: asyncpg.Connection) -> Registry:
    """Return everything that is registered. Raises POSTGRES_ERRORS."""
    versions: dict[str, tuple[Version, ...]] = {}
    for row in await connection.fetch(_VERSIONS):
        fields = dict(row) | {"generations": msgspec.json.decode(row["generations"])}
        versions[row["name"]] = (*versions.get(row["name"], ()), Version(**fields))
    return Registry(
        versions,
        {row["name"]: State(**dict(row)) for row in await connection.fetch(_STATES)},
        {row["name"]: Hold(**dict(row)) for row in await connection.fetch(_HOLDS)},
    )


async def register(  # noqa: PLR0913 - a row of the table
    connection: asyncpg.Connection, name: str, version: int, bundle: Bundle, tables: Iterable[tuple[str, int]],
    *, label: str | None, by: str,
) -> int:  # fmt: skip
    """Add a version and return its id. `tables` are its tables with their generations. Raises POSTGRES_ERRORS."""
    generations = msgspec.json.encode(dict(tables)).decode()
    number: int = await connection.fetchval(
        _REGISTER, name, version, bytes.fromhex(bundle.sha256), bundle.content, generations, label, by
    )
    return number


async def set_state(  # noqa: PLR0913 - a row of the table
    connection: asyncpg.Connection,
    name: str,
    pipeline_id: int | None,
    state: int,
    *,
    pinned: bool,
    by: str,
    reason: str,
) -> None:
    """Say which version of a pipeline is active from now on. Raises POSTGRES_ERRORS."""
    await connection.execute(_SET_STATE, name, pipeline_id, state, pinned, by, reason)


async def set_hold(connection: asyncpg.Connection, name: str, *, held: bool, by: str, reason: str) -> None:
    """Say whether the events of a pipeline are kept and not processed. Raises POSTGRES_ERRORS."""
    await connection.execute(_SET_HOLD, name, held, by, reason)
