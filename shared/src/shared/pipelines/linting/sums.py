"""Lint arithmetic: checks of rows, totals, and sums over whole files. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from shared.pipelines.arithmetic import ArithmeticSyntaxError, Comparison, Term, read_comparison, read_sum
from shared.pipelines.document.problems import Steps
from shared.pipelines.document.sql_names import sql_name_problem
from shared.pipelines.linting.issues import NUMERIC, Issue, TableScope, repeated, table_named, unknown_name
from shared.pipelines.model import Check, Column, Pipeline, Table

ROWS = "rows"
"""What a `must` calls the number of rows."""

_TAKEN = frozenset({ROWS, "holds"})


def check_issues(scope: TableScope) -> Iterator[Issue]:
    """Yield what is wrong with the checks of a table's rows."""
    for number, check in enumerate(scope.table.check):
        steps: Steps = (*scope.steps, "check", number)
        text = check.must if isinstance(check, Check) else check
        if isinstance(check, Check):
            steps = (*steps, "must")
        try:
            comparison = read_comparison(text)
        except ArithmeticSyntaxError as error:
            yield Issue(steps, f"`{text[:80]}` {error}")
            continue
        yield from _terms_issues(steps, comparison.terms, scope.table, scope.pipeline)


def _terms_issues(steps: Steps, terms: Iterable[Term], own: Table, pipeline: Pipeline) -> Iterator[Issue]:
    """Yield the operands that are not there or no numbers, and amounts that cannot be compared."""
    currencies: list[str] = []
    for term in terms:
        table = table_named(pipeline, term.table) if term.table else own
        if table is None:
            yield Issue(steps, unknown_name("table", term.table, [each.name for each in pipeline.table]))
            continue
        if not term.column:
            continue
        yield from _operand_issues(steps, term.column, table)
        currencies += _currency_of(table.columns.get(term.column))
    yield from _currency_issues(steps, currencies)
    if all(term.number is not None for term in terms):
        yield Issue(steps, "compares numbers only; name a column")


def _operand_issues(steps: Steps, name: str, table: Table) -> Iterator[Issue]:
    column = table.columns.get(name)
    if column is None:
        yield Issue(steps, unknown_name(f"column of {table.name}:", name, table.columns))
    elif column.type not in NUMERIC:
        yield Issue(steps, f"{name} is of type {column.type}; only {', '.join(sorted(NUMERIC))} are counted with")


def _currency_of(column: Column | None) -> list[str]:
    return [column.currency] if column and column.type == "money" and column.currency else []


def _currency_issues(steps: Steps, currencies: Iterable[str]) -> Iterator[Issue]:
    different = list(dict.fromkeys(currencies))
    if len(different) > 1:
        yield Issue(steps, f"mixes amounts of different currency columns: {', '.join(different)}")


def total_issues(pipeline: Pipeline) -> Iterator[Issue]:
    """Yield what is wrong with the control totals."""
    for number, total in enumerate(pipeline.total):
        steps: Steps = ("total", number)
        table = table_named(pipeline, total.of)
        if table is None:
            tables = [each.name for each in pipeline.table]
            yield Issue((*steps, "of"), unknown_name("table", total.of, tables))
            continue
        for position, name in enumerate(total.by):
            if name not in table.columns:
                detail = unknown_name(f"column of {table.name}:", name, table.columns)
                yield Issue((*steps, "by", position), detail)
        yield from repeated((*steps, "by"), total.by)
        yield from _clash_issues(steps, total.by, total.sums)
        yield from sums_issues(steps, "sums", total.sums, table)
        yield from _group_issues((*steps, "by"), total.by, total.sums, table)
        yield from must_issues(steps, total.must, total.sums, table)


def _clash_issues(steps: Steps, by: tuple[str, ...], sums: Mapping[str, str]) -> Iterator[Issue]:
    for name in sums:
        if name in by:
            yield Issue((*steps, "sums", name), "is the name of a column in `by` too")


def sums_issues(steps: Steps, key: str, sums: Mapping[str, str], table: Table) -> Iterator[Issue]:
    """Yield what is wrong with sums over the rows of a table."""
    if not sums and key == "sum":
        yield Issue((*steps, key), 'is empty; write what is summed, as sum = { amount = "credit - debit" }')
    for name, text in sums.items():
        at = (*steps, key, name)
        detail = "is what each total has already" if name in _TAKEN else sql_name_problem(name)
        if detail:
            yield Issue(at, f"{name[:80]!r} {detail}")
        try:
            terms = read_sum(text)
        except ArithmeticSyntaxError as error:
            yield Issue(at, f"`{text[:80]}` {error}")
            continue
        for term in terms:
            if term.function:
                yield Issue(at, f"uses {term.function}(); each name here is summed over the rows already")
            elif term.column:
                yield from _operand_issues(at, term.column, table)
        yield from _currency_issues(at, _currencies(text, table))


def _currencies(text: str, table: Table) -> list[str]:
    """Return the currency columns of the amounts in a sum; none where it cannot be read."""
    try:
        terms = read_sum(text)
    except ArithmeticSyntaxError:
        return []
    return [name for term in terms if not term.table for name in _currency_of(table.columns.get(term.column))]


def varying_currencies(sums: Mapping[str, str], table: Table) -> list[str]:
    """Return the currency columns of the amounts in sums, without those that are one fixed currency."""
    names = dict.fromkeys(name for text in sums.values() for name in _currencies(text, table))
    return [name for name in names if name in table.columns and table.columns[name].value is None]


def _group_issues(steps: Steps, by: tuple[str, ...], sums: Mapping[str, str], table: Table) -> Iterator[Issue]:
    for name in varying_currencies(sums, table):
        if name not in by:
            yield Issue(steps, f"lacks {name}; amounts of different currencies cannot be summed")


def must_issues(steps: Steps, must: tuple[str, ...], sums: Mapping[str, str], table: Table) -> Iterator[Issue]:
    """Yield what is wrong with what must hold for sums."""
    for number, text in enumerate(must):
        at = (*steps, "must", number)
        try:
            comparison = read_comparison(text)
        except ArithmeticSyntaxError as error:
            yield Issue(at, f"`{text[:80]}` {error}")
            continue
        yield from _sum_names_issues(at, comparison, sums)
        named = [term.column for term in comparison.terms if term.column in sums]
        yield from _currency_issues(at, [each for name in named for each in _currencies(sums[name], table)])


def _sum_names_issues(steps: Steps, comparison: Comparison, sums: Mapping[str, str]) -> Iterator[Issue]:
    for term in comparison.terms:
        if term.function:
            yield Issue(steps, f"uses {term.function}(); name what is summed above, or {ROWS}")
        elif term.column and term.column != ROWS and term.column not in sums:
            yield Issue(steps, unknown_name("sum", term.column, [*sums, ROWS]))
    if all(term.number is not None for term in comparison.terms):
        yield Issue(steps, f"compares numbers only; name a sum, or {ROWS}")
