"""Tell what the parts of a pipeline file mean together, and where that is wrong. Pure."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from shared.pipelines.document.lines import key_lines, line_of
from shared.pipelines.document.problems import PROBLEMS_MAX, FileProblem, ReadFile, Steps, path_text
from shared.pipelines.document.sql_names import PIPELINE_NAME_CHARS_MAX, name_problem, sql_name_problem
from shared.pipelines.linting.event import event_issues, mask_issues, personal_issues, source_issues
from shared.pipelines.linting.file_checks import file_check_issues, join_issues
from shared.pipelines.linting.files import file_issues
from shared.pipelines.linting.issues import Issue, scopes_of
from shared.pipelines.linting.sums import total_issues
from shared.pipelines.linting.tables import table_issues
from shared.pipelines.model import Pipeline

TABLES_MAX: Final = 50
_LISTS: Final = ("table", "join", "total", "file_check")


def lint(pipeline: Pipeline, read: ReadFile, file: str | None = None) -> tuple[FileProblem, ...]:
    """Return what is wrong or doubtful in a pipeline that was read; none of its errors may be there to use it.

    `read` gives the content of a file by its name; `file` is the name of the pipeline's own, for lines (by default
    the pipeline's name and `.toml`).
    """
    files = _files(pipeline, read, file or f"{pipeline.name}.toml")
    issues = dict.fromkeys(islice(_issues(pipeline, read), PROBLEMS_MAX))
    return tuple(_located(issue, files) for issue in issues)


def _issues(pipeline: Pipeline, read: ReadFile) -> Iterator[Issue]:
    if detail := name_problem(pipeline.name, chars_max=PIPELINE_NAME_CHARS_MAX):
        yield Issue(("name",), f"{pipeline.name[:80]!r} {detail}")
    yield from source_issues(pipeline)
    yield from event_issues(pipeline)
    yield from mask_issues(pipeline)
    yield from personal_issues(pipeline)
    yield from file_issues(pipeline, read)
    if len(pipeline.table) > TABLES_MAX:
        yield Issue(("table",), f"there are more than {TABLES_MAX} tables")
    yield from _name_issues(pipeline)
    for scope in scopes_of(pipeline):
        yield from table_issues(scope)
    yield from join_issues(pipeline)
    yield from total_issues(pipeline)
    yield from file_check_issues(pipeline)


def _named_parts(pipeline: Pipeline) -> Iterator[tuple[Steps, str, str]]:
    """Yield key path, kind and name of whatever becomes a table or a view."""
    for number, table in enumerate(pipeline.table):
        yield ("table", number, "name"), "table", table.name
    for number, join in enumerate(pipeline.join):
        yield ("join", number, "name"), "join", join.name
    for number, total in enumerate(pipeline.total):
        yield ("total", number, "name"), "total", total.name


def _name_issues(pipeline: Pipeline) -> Iterator[Issue]:
    taken = {
        f"{table.name}_totals": f"the view of the totals of {table.name}"
        for table in pipeline.table
        if any(column.type == "money" for column in table.columns.values())
    }
    for steps, kind, name in _named_parts(pipeline):
        if detail := sql_name_problem(name):
            yield Issue(steps, f"{name[:80]!r} {detail}")
        elif name in taken:
            yield Issue(steps, f"{name} is the name of {taken[name]} too")
        taken.setdefault(name, f"another {kind}")


class _File:
    """A file of the pipeline: its lines, and how many elements of each list are in the files before it."""

    def __init__(self, name: str, content: bytes | None, before: dict[str, int]) -> None:
        self.name = name
        self.lines = key_lines((content or b"").decode(errors="replace"))
        self.before = before
        self.lengths = {each: sum(1 for steps in self.lines if _is_element(steps, each)) for each in _LISTS}


def _is_element(steps: Steps, name: str) -> bool:
    return len(steps) == len((name, 0)) and steps[0] == name


def _files(pipeline: Pipeline, read: ReadFile, file: str) -> list[_File]:
    files: list[_File] = []
    before = dict.fromkeys(_LISTS, 0)
    content = read(file)
    for name in (file, *(pipeline.include if content is not None else ())):
        files.append(_File(name, read(name), before))
        before = {each: count + files[-1].lengths[each] for each, count in before.items()}
    return files


def _located(issue: Issue, files: list[_File]) -> FileProblem:
    steps, own = issue.steps, files[0]
    if len(steps) > 1 and steps[0] in _LISTS and isinstance(steps[1], int):
        name, number = str(steps[0]), steps[1]
        own = next((each for each in reversed(files) if each.before[name] <= number), own)
        steps = (name, number - own.before[name], *steps[2:])
    return FileProblem(path_text(steps), line_of(own.lines, steps), issue.level, issue.detail, own.name)


def lint_together(pipelines: Iterable[Pipeline]) -> tuple[FileProblem, ...]:
    """Return what is wrong between pipelines that shall be active at once: sources and names that two of them have.

    A source belongs to the longest name or beginning that fits it, so only equal ones overlap. The file of a problem is
    the name of its pipeline and `.toml`.
    """
    return tuple(
        FileProblem(path_text(steps), None, "error", detail, f"{pipeline.name}.toml")
        for pipeline, steps, detail in _common(pipelines)
    )


def _common(pipelines: Iterable[Pipeline]) -> Iterator[tuple[Pipeline, Steps, str]]:
    seen: set[str] = set()
    names: dict[str, str] = {}
    sources: dict[str, str] = {}
    for pipeline in pipelines:
        if pipeline.name in seen:
            yield pipeline, ("name",), f"{pipeline.name} is the name of another pipeline too"
        for source in dict.fromkeys(pipeline.sources):
            if source in sources:
                yield pipeline, ("source",), f"{source[:80]!r} is a source of the pipeline {sources[source]} too"
        for steps, _, name in _named_parts(pipeline):
            if name in names:
                yield pipeline, steps, f"{name} is the name of a table, join or total of the pipeline {names[name]} too"
        seen.add(pipeline.name)
        sources |= dict.fromkeys(pipeline.sources, pipeline.name)
        names |= dict.fromkeys((name for _, _, name in _named_parts(pipeline)), pipeline.name)
