"""Compiles a pipeline to functions, and runs them over events. Pure.

A program makes rows of an event, or says everything that is wrong with it: one problem in any table and no table has a
row of it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from shared.pipelines.codegen.checks import CheckOfSums, check_of_sums, sums_of
from shared.pipelines.codegen.drift import UnknownMembers, known_places, unknown_columns, unknown_names
from shared.pipelines.codegen.faults import PROBLEMS_MAX, cause_of
from shared.pipelines.codegen.plans import mask_rules, table_plan
from shared.pipelines.codegen.spots import CompileError, root_steps
from shared.pipelines.codegen.tables import ROWS_MAX
from shared.pipelines.codegen.variants import EventState, Variant, VariantCompiler
from shared.pipelines.contract import SchemaCheck, SchemaError, compile_schema
from shared.pipelines.histories import complete_histories
from shared.pipelines.model import Pipeline
from shared.pipelines.program import Attributes, Made, Program, RowProblem
from shared.pipelines.values.ignoring import without
from shared.pipelines.values.masking import keyed_hash, masked

HEADERS_MAX: Final = 256
"""Headers of CSV files whose functions are kept."""

NO_FILES: Final[Mapping[str, bytes]] = {}
TEST_KEY: Final = b"test key"


class _HeaderVariant:
    """The functions for one header, and what is told of it with every row."""

    def __init__(self, variant: Variant, header: tuple[str, ...], unknown: list[RowProblem]) -> None:
        self.variant = variant
        self.header = header
        self.unknown = unknown


class PipelineProgram:
    """A compiled pipeline. It is for one thread: it keeps functions by header and by type."""

    def __init__(self, pipeline: Pipeline, files: Mapping[str, bytes], mask_key: bytes) -> None:
        """Raises CompileError."""
        self.pipeline = complete_histories(pipeline)
        self._mask_key = mask_key
        self._plans = [table_plan(self.pipeline, number, mask_key) for number in range(len(self.pipeline.table))]
        self._compiler = VariantCompiler(self.pipeline, self._plans, files)
        self._json = self._compiler.compile(None)
        self.source_code = self._json.source_code
        self._headers: dict[tuple[str, ...], _HeaderVariant] = {}
        self._last: _HeaderVariant | None = None
        self._sums: list[CheckOfSums] = [
            check_of_sums(self._plans, plan, check, number)
            for plan in self._plans
            for number, check in enumerate(plan.checks)
            if check.sums
        ]
        self._wanted = tuple(dict.fromkeys(place for check in self._sums for place in check.wanted))
        self._schema = _schema_check(self.pipeline, files)
        self._masks = {steps: mask for steps, (_, mask) in mask_rules(self.pipeline, mask_key).items()}
        self._ignored = tuple([steps for place in self.pipeline.event.ignore if (steps := root_steps(place))])
        self._places = known_places(self.pipeline, self._plans)
        self._unknown = UnknownMembers(self.pipeline.name, self._places)
        self._positions = {spot.number for plan in self._plans for each in plan.columns for spot in each.spots}

    def run(self, payload: object, about: Attributes) -> Made:
        """Return what a JSON payload makes. Never raises because of its content."""
        rule = self.pipeline.drift.unknown_member or "ignore"
        unknown = self._unknown.of(payload) if rule != "ignore" else []
        return self._run(self._json, payload, about, payload, (rule, unknown))

    def run_row(self, header: Sequence[str], fields: Sequence[str], about: Attributes) -> Made:
        """Return what a row of a CSV file makes. Never raises because of its content."""
        found = self._last
        if found is None or found.header is not header:
            found = self._last = self._of_header(tuple(header))
        if len(fields) != len(found.header):
            return self._unreadable()
        rule = self.pipeline.drift.unknown_member or "note"
        payload = dict(zip(found.header, fields, strict=True)) if self._schema else None
        return self._run(found.variant, fields, about, payload, (rule, found.unknown))

    def source_of_header(self, header: Sequence[str]) -> str:
        """Return the code for rows of a header."""
        return self._of_header(tuple(header)).variant.source_code

    def unknown_columns(self, header: Sequence[str]) -> list[str]:
        """Return the columns of a CSV file that the pipeline does not read."""
        return unknown_names(header, self._places, self._positions)

    def masked(self, payload: object) -> object:
        """Return a payload with the places of `[mask]` masked; the payload itself stays."""
        return masked(payload, self._masks)

    def counted(self, payload: object) -> object:
        """Return a payload without the members of `ignore`: two events whose rest is equal are the same."""
        return without(payload, self._ignored)

    def subject_of(self, payload: object) -> str | None:
        """Return the keyed hash of the person whom a payload is about, or None where the file or payload names none."""
        personal = self.pipeline.personal
        steps = root_steps(personal.subject) if personal else None
        if steps is None:
            return None
        for step in steps:
            payload = payload.get(step) if isinstance(payload, dict) else None
        if isinstance(payload, bool) or not isinstance(payload, str | int) or payload == "":
            return None
        return keyed_hash(str(payload), self._mask_key)

    def _of_header(self, header: tuple[str, ...]) -> _HeaderVariant:
        found = self._headers.get(header)
        if found is None:
            if len(self._headers) >= HEADERS_MAX:
                del self._headers[next(iter(self._headers))]
            unknown = unknown_columns(self.pipeline.name, header, self._places, self._positions)
            found = self._headers[header] = _HeaderVariant(self._compiler.compile(header), header, unknown)
        return found

    def _run(
        self, variant: Variant, root: object, about: Attributes, payload: object, drift: tuple[str, list[RowProblem]]
    ) -> Made:
        state = EventState()
        if self._schema is not None:
            state.problems += self._schema(payload)
        matched = False
        for function in variant.tables(about.type or variant.type_of(root, about)):
            if function(root, about, about.type, state):
                matched = True
        if self._sums:
            self._check_sums(state)
        if len(state.rows) > ROWS_MAX:
            state.problems.append(self._problem("too_many", "makes more rows than one event may"))
        if not matched:
            self._tell_unknown_type(state)
        rule, unknown = drift
        if unknown and rule != "ignore":
            (state.problems if rule == "fail" else state.notes).extend(unknown)
        notes = tuple(state.notes[:PROBLEMS_MAX])
        if state.problems:
            return Made((), tuple(state.problems[:PROBLEMS_MAX]), notes, matched=matched)
        return Made(tuple(state.rows), (), notes, frozenset(state.gone), matched)

    def _check_sums(self, state: EventState) -> None:
        checks = [check for check in self._sums if not check.tables & state.broken]
        sums = sums_of(state.rows, state.gone, self._wanted)
        for number, keys in state.checked:
            row = state.rows[number]
            for check in checks:
                if check.table == row.table and not check.holds(row.values, sums):
                    (state.notes if check.note else state.problems).append(check.fault.told(keys))

    def _tell_unknown_type(self, state: EventState) -> None:
        rule = self.pipeline.drift.unknown_type
        if rule != "ignore":
            problem = self._problem("unknown_type", "is of a type that no table takes")
            (state.problems if rule == "fail" else state.notes).append(problem)

    def _problem(self, code: str, detail: str) -> RowProblem:
        return RowProblem("", code, detail, cause_of(self.pipeline.name, "", "", code))

    def _unreadable(self) -> Made:
        return Made((), (self._problem("unreadable", "has another number of fields than its header"),))


def compile_pipeline(
    pipeline: Pipeline, files: Mapping[str, bytes] = NO_FILES, *, mask_key: bytes = TEST_KEY
) -> PipelineProgram:
    """Return the program of a pipeline that has passed `lint`; `files` are those that it names, by name.

    `mask_key`: of `hmac` masks, and of the subject of personal data. Raises CompileError.
    """
    return PipelineProgram(pipeline, files, mask_key)


def _schema_check(pipeline: Pipeline, files: Mapping[str, bytes]) -> SchemaCheck | None:
    name = pipeline.contract.schema
    if name is None:
        return None
    if name not in files:
        raise CompileError(f"contract: the file {name[:100]} is missing")
    try:
        return compile_schema(pipeline.name, files[name])
    except SchemaError as error:
        raise CompileError(f"contract: {name[:100]} {error}") from error


_: type[Program] = PipelineProgram

__all__ = ["HEADERS_MAX", "TEST_KEY", "CompileError", "PipelineProgram", "compile_pipeline"]
