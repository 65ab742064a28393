"""The pipeline of a case, and whether its typed tables hold just the rows that the stored bodies make."""

import zlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

import asyncpg

from faults.harness.checks import Sign
from faults.harness.world import World
from processor.ledger.owed import stored_event
from processor.ledger.rows import Processed
from processor.ledger.statements import FIND_EVENTS
from processor.programs.active import ActiveSet
from processor.programs.compiled import Version, compile_version
from processor.stages.transform import transform
from shared.contracts.result import RecordStatus
from shared.pipelines.typed_tables import TypedTable
from support.waiting import until_true

_PIPELINE: Final = """\
etlpay = 1
name   = "{name}"
source = "{source}.*"

[drift]
unknown_member = "ignore"

[[table]]
name   = "{name}_objects"
mode   = "latest"
key    = ["object"]
newest = "at"
rank   = "stage"
index  = [["amount"]]

[table.columns]
object   = "object"
at       = {{ type = "integer" }}
stage    = {{ required = true, values = ["open", "paid", "back"] }}
amount   = {{ type = "money", currency = "currency", required = true }}
currency = {{ type = "currency" }}
text     = {text}

[[table]]
name = "{name}_states"
like = "{name}_objects"
"""
# The current record of each event: the latest SUCCESS, else the latest.
_RECORDS: Final = """
    SELECT DISTINCT ON (raw.id) raw.id, record.status, record.pipeline_id
    FROM raw_events AS raw JOIN ingestion_sources AS source ON source.id = raw.source_id
    JOIN processed_records AS record ON record.raw_event_id = raw.id
    WHERE starts_with(source.name, $1) ORDER BY raw.id, (record.status = 1) DESC, record.attempt DESC
"""
_VERSIONS: Final = """
    SELECT id, name, version, content, generations::text AS generations FROM pipelines WHERE name = $1
"""
_IS_HELD: Final = "SELECT held FROM pipeline_holds WHERE name = $1 ORDER BY id DESC LIMIT 1"
_WORKED_OFF_SECONDS_MAX: Final = 60.0
_RUNNING_SECONDS_MAX: Final = 20.0

Row: TypeAlias = Mapping[str, Any]
"""A row by its columns, without the time of its loading."""
Rows: TypeAlias = dict[str, dict[Hashable, Row]]
"""The rows of tables by their names, each row by its key."""


class CasePipeline:
    """The pipeline over all events of one case; its tables are the case's own."""

    def __init__(self, world: World, source: str) -> None:
        """`source` is the beginning of the sources of the case."""
        self._world = world
        self._source = source
        self._name = f"faults_{zlib.crc32(source.encode()):08x}"
        self.table = f"rows.{self._name}_objects_1"
        """The `latest` table."""

    async def apply(self, text: str = '"text"') -> None:
        """Apply the file, with this as its column `text`."""
        folder = self._world.layout.pipelines
        folder.mkdir(exist_ok=True)
        file = folder / f"{self._name}.toml"
        file.write_text(_PIPELINE.format(name=self._name, source=self._source, text=text))
        await self._world.run_pipelines("apply", str(file), "--yes")

    async def wait_running(self) -> None:
        """Return when the processor runs the first version, as its log says. Raises TimeoutError."""
        log, told = self._world.layout.log("processor"), f"{self._name}@1".encode()
        if not await until_true(lambda: told in log.read_bytes(), _RUNNING_SECONDS_MAX):
            raise TimeoutError("the processor does not run the pipeline")

    async def activate(self, version: int) -> None:
        """Let another version run."""
        await self._world.run_pipelines("activate", f"{self._name}@{version}", "--reason", "a case")

    async def choose(self, choice: str) -> None:
        """Do `hold`, `resume` or `off`."""
        await self._world.run_pipelines(choice, self._name, "--reason", "a case")

    async def is_held(self) -> bool:
        """Tell whether it is held now."""
        async with self._world.owner() as owner:
            return bool(await owner.fetchval(_IS_HELD, self._name))

    async def is_released(self) -> bool:
        """Tell whether it is not held now."""
        return not await self.is_held()

    async def count(self, status: RecordStatus, version: int = 0) -> int:
        """Return how many events of the case have a current record of a status, of a version (0: of any)."""
        async with self._world.owner() as owner:
            records = await owner.fetch(_RECORDS, f"{self._source}.")
            versions = {row["id"]: row["version"] for row in await owner.fetch(_VERSIONS, self._name)}
        of_status = [each for each in records if each["status"] == status]
        return sum(versions.get(each["pipeline_id"]) == version or not version for each in of_status)

    async def wait_processed(self) -> bool:
        """Wait until nothing is owed; return whether that came."""

        async def is_processed() -> bool:
            return await self.count(RecordStatus.HELD) == 0

        return await until_true(is_processed, _WORKED_OFF_SECONDS_MAX)

    async def problems(self, *, processed: bool) -> Counter[str]:
        """Return what is not as the stored bodies make it, each with its number. `processed`: nothing is owed."""
        async with self._world.owner() as owner, owner.transaction(isolation="repeatable_read", readonly=True):
            registered = await owner.fetch(_VERSIONS, self._name)
            versions = {row["id"]: compile_version(Version(**row), {}) for row in registered}
            records = {row["id"]: row for row in await owner.fetch(_RECORDS, f"{self._source}.")}
            events = await owner.fetch(FIND_EVENTS, list(records))
            tables = {table.name: table for version in versions.values() for table in version.tables}
            stored = {name: await _stored_rows(owner, table) for name, table in tables.items()}
        found: Counter[str] = Counter()
        made: list[tuple[int, Processed]] = []
        for event in events:
            record = records[event["id"]]
            version = versions.get(record["pipeline_id"])
            if version is not None:
                again = transform(stored_event(event), ActiveSet([version]))
                made.append((event["id"], again))
                found["a record of another status than the body makes"] += again.status != record["status"]
        found["no event met the pipeline"] += not made
        found["events are still HELD"] += not processed
        return +(found + differences(wanted_rows(made), stored))


async def _stored_rows(owner: asyncpg.Connection, table: TypedTable) -> dict[Hashable, Row]:
    rows = await owner.fetch(f'SELECT * FROM rows."{table.name}"')  # noqa: S608 - a name of our own
    plain = [{name: value for name, value in row.items() if name != "_loaded_at"} for row in rows]
    return {tuple(row[name] for name in table.key): row for row in plain}


def wanted_rows(made: Iterable[tuple[int, Processed]]) -> Rows:
    """Return the rows that events make, given by their raw ids: of a `latest` table the row of each key that counts."""
    best: dict[str, dict[Hashable, tuple[tuple[Any, ...], Row]]] = defaultdict(dict)
    for event, processed in made:
        pipeline = processed.pipeline
        for position, (number, part, values) in enumerate(processed.rows):
            assert pipeline is not None
            table = pipeline.tables[number]
            row = _row_of(table, values) | {"_event": event, "_part": part, "_pipeline": pipeline.id}
            if table.precedence is not None:
                row |= {"_rank": table.precedence.rank_of(values), "_gone": position in processed.gone}
            key, standing = tuple(row[name] for name in table.key), _standing(table, row)
            known = best[table.name].get(key)
            if known is None or standing > known[0]:
                best[table.name][key] = standing, row
    return {name: {key: row for key, (_, row) in rows.items()} for name, rows in best.items()}


def _row_of(table: TypedTable, values: tuple[Any, ...]) -> dict[str, Any]:
    """Return the columns of the file; an amount is a whole number, and the number of its decimals."""
    plain = [Decimal(value[0]).scaleb(-value[1]) if isinstance(value, tuple) else value for value in values]
    return {column.name: value for column, value in zip(table.columns, plain, strict=True)}


def _standing(table: TypedTable, row: Row) -> tuple[Any, ...]:
    newest = row[table.table.newest] if table.table.newest else None
    return newest is not None, newest, row.get("_rank", 0), row["_event"], row["_part"]


def differences(wanted: Rows, stored: Rows) -> Counter[str]:
    """Return how many rows are missing, are others than they must be, or are made by no body.

    A column that the version of a row does not have holds nothing.
    """
    found: Counter[str] = Counter()
    for name in {*wanted, *stored}:
        of_bodies, of_table = wanted.get(name, {}), stored.get(name, {})
        found[Sign.MISSING_ROW.value] += len(of_bodies.keys() - of_table.keys())
        found["a typed row that no body makes"] += len(of_table.keys() - of_bodies.keys())
        for key in of_bodies.keys() & of_table.keys():
            columns = {*of_bodies[key], *of_table[key]}
            same = all(of_bodies[key].get(column) == of_table[key].get(column) for column in columns)
            found[Sign.WRONG_ROW.value] += not same
    return +found
