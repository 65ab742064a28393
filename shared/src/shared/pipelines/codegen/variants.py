"""The functions of a pipeline for one form of input: JSON, or CSV rows of one header. Pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import CodeType
from typing import Final, NamedTuple, TypeAlias

from shared.pipelines.codegen import runtime
from shared.pipelines.codegen.access import Access, CsvAccess, JsonAccess
from shared.pipelines.codegen.amounts import Amounts, AmountTables
from shared.pipelines.codegen.cells import MISSING_TEXT, Form
from shared.pipelines.codegen.conditions import is_of
from shared.pipelines.codegen.faults import is_clean, tell
from shared.pipelines.codegen.plans import TablePlan
from shared.pipelines.codegen.spots import CompileError, ElementPath, spot_of
from shared.pipelines.codegen.tables import TableCode
from shared.pipelines.codegen.writer import SourceWriter
from shared.pipelines.model import Pipeline
from shared.pipelines.program import Attributes, RowProblem, TypedRow

_TYPES_MAX: Final = 1_024
_BUILTINS: Final = {"dict": dict, "int": int, "len": len, "list": list, "str": str, "type": type}


class EventState:
    """What the functions of the tables have made of one event so far.

    `broken`: tables that have a row whose columns have problems. `checked`: rows that checks over the event look at.
    """

    __slots__ = ("broken", "checked", "gone", "notes", "problems", "rows")

    def __init__(self) -> None:
        self.rows: list[TypedRow] = []
        self.problems: list[RowProblem] = []
        self.notes: list[RowProblem] = []
        self.gone: set[int] = set()
        self.broken: set[int] = set()
        self.checked: list[tuple[int, tuple[int | str, ...]]] = []


TableFunction: TypeAlias = Callable[[object, Attributes, str, EventState], bool]


class SourceText(NamedTuple):
    """Generated code that tracebacks can show: they ask the loader of a module for its source."""

    text: str

    def get_source(self, name: str) -> str:  # noqa: ARG002 - the signature of a loader
        """Return the code."""
        return self.text


class Variant:
    """Compiled functions, and which of them take a type of event."""

    def __init__(
        self, pipeline: Pipeline, plans: Sequence[TablePlan], source: str, namespace: Mapping[str, object]
    ) -> None:
        self.source_code = source
        self._plans = plans
        scope = {**_SCOPE, **namespace, "__loader__": SourceText(source), "__name__": f"pipeline.{pipeline.name}"}
        code: CodeType = compile(source, f"pipeline {pipeline.name}", "exec")
        exec(code, scope)  # noqa: S102 - code that this package wrote; texts of the file are constants in `scope`
        self._functions: list[TableFunction] = [scope[_function(plan)] for plan in plans]  # type: ignore[misc] # as defined
        self.type_of: Callable[[object, Attributes], str] = scope[_TYPE_FUNCTION]  # type: ignore[assignment] # as defined
        self._by_type: dict[str, tuple[TableFunction, ...]] = {}

    def tables(self, kind: str) -> tuple[TableFunction, ...]:
        """Return the functions of the tables that take events of a type, or decide by the type of each element."""
        found = self._by_type.get(kind)
        if found is None:
            pairs = zip(self._plans, self._functions, strict=True)
            found = tuple(
                function for plan, function in pairs if plan.type_spot is not None or is_of(kind, plan.table.types)
            )
            if len(self._by_type) >= _TYPES_MAX:
                self._by_type.clear()
            self._by_type[kind] = found
        return found


class VariantCompiler:
    """Compiles the functions of a pipeline for JSON, and for headers of CSV files."""

    def __init__(self, pipeline: Pipeline, plans: Sequence[TablePlan], files: Mapping[str, bytes]) -> None:
        self._pipeline = pipeline
        self._plans = plans
        self._files = files
        self._missing = frozenset(pipeline.csv.missing)
        self._amounts: AmountTables = {}

    def compile(self, header: Sequence[str] | None) -> Variant:
        """Return the functions for JSON, or for rows of a header. Raises CompileError."""
        form = Form(header is not None, self._missing, self._pipeline.csv.decimal == ",")
        writer = SourceWriter()
        writer.namespace[MISSING_TEXT] = self._missing
        for plan in self._plans:
            amounts = Amounts(self._pipeline.money, self._files, self._amounts)
            is_summed = any(check.sums for check in plan.checks)
            code = TableCode(writer, self._access(writer, header), form, plan, amounts, is_summed=is_summed)
            code.write(_function(plan))
        self._write_type(writer, self._access(writer, header))
        return Variant(self._pipeline, self._plans, writer.source(), writer.namespace)

    def _access(self, writer: SourceWriter, header: Sequence[str] | None) -> Access:
        return JsonAccess(writer) if header is None else CsvAccess(writer, header, self._missing)

    def _write_type(self, writer: SourceWriter, access: Access) -> None:
        with writer.block(f"def {_TYPE_FUNCTION}(root, about)"):
            try:
                spot = spot_of(self._pipeline.event.type or "@type", ElementPath((), ()))
            except CompileError:
                # It is the type of elements, and the event has none.
                writer.line('return ""')
                return
            access.fetch([spot])
            name = writer.local("t")
            writer.line(f"{name} = {access.expression(spot, as_text=True, moments=False)}")
            writer.line(f'return {name} if type({name}) is str else ""')


_TYPE_FUNCTION: Final = "type_of"
_SCOPE: Final[Mapping[str, object]] = {
    "__builtins__": _BUILTINS,
    "COLUMNS": runtime.columns,
    "DATETIME": datetime,
    "ELEMENTS": runtime.elements,
    "FROM_SECONDS": datetime.fromtimestamp,
    "IS_CLEAN": is_clean,
    "MEMBER": runtime.member,
    "MOMENT_TEXT": runtime.moment_text,
    "NEW": tuple.__new__,
    "NUL": "\x00",
    "TELL": tell,
    "TypedRow": TypedRow,
    "UTC": UTC,
}


def _function(plan: TablePlan) -> str:
    return f"table_{plan.number}"
