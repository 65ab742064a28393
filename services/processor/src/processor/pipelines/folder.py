"""Pipeline files on disk: each one read, checked, tested, and bundled as a version."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from shared.pipelines.bundle import Bundle, make_bundle
from shared.pipelines.codegen.spots import CompileError
from shared.pipelines.compiling import PipelineProgram, compile_pipeline
from shared.pipelines.document.problems import FileProblem, ReadFile
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.facts import facts_of, needs_mask_key
from shared.pipelines.linting.pipeline import lint
from shared.pipelines.model import Pipeline
from shared.pipelines.trials.expectations import TestFileError, read_tests
from shared.pipelines.trials.testing import run_tests

_ENDING: Final = ".toml"
_TESTS_ENDING: Final = ".test.toml"
_PROBLEMS_MAX: Final = 20


class UnreadableError(Exception):
    """A file or folder cannot be read; the message is one sentence."""


class PipelineFile(msgspec.Struct, frozen=True):
    """A pipeline file. `problems` keep it from being applied; there is a pipeline, bundle and program where none do.

    `tests`: how many tests it passed.
    """

    file: str
    pipeline: Pipeline | None = None
    bundle: Bundle | None = None
    program: PipelineProgram | None = None
    problems: tuple[str, ...] = ()
    tests: int = 0

    @property
    def name(self) -> str:
        """The name of the pipeline, or of the file where that cannot be read."""
        return self.pipeline.name if self.pipeline else self.file.removesuffix(_ENDING)


def read_files(path: Path, mask_key: bytes) -> tuple[PipelineFile, ...]:
    """Return the pipeline file at a path, or those of a folder, without those below it; a folder may hold none.

    Raises UnreadableError: there is no such file or folder, or it cannot be read.
    """
    try:
        return tuple(_read(each, mask_key) for each in _find(path))
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or 'cannot be read'}") from None


def is_file(path: Path) -> bool:
    """Tell whether a path is one pipeline file, and no folder of them."""
    return path.is_file()


def _find(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UnreadableError(f"{path}: there is no such file or folder")
    return sorted(each for each in path.glob(f"*{_ENDING}") if not each.name.endswith(_TESTS_ENDING))


def _read(path: Path, mask_key: bytes) -> PipelineFile:
    read = _reader_of(path.parent)
    pipeline, problems = read_pipeline(path.name, read)
    if pipeline is None or _errors(problems):
        return PipelineFile(path.name, problems=_errors(problems))
    if errors := _errors(lint(pipeline, read, path.name)):
        return PipelineFile(path.name, pipeline, problems=errors)
    if needs_mask_key(pipeline) and not mask_key:
        return PipelineFile(path.name, pipeline, problems=("needs a key for its masks: set ETLPAY_MASK_KEY_FILE",))
    bundle, problems = make_bundle(path.name, read, facts_of(pipeline, mask_key))
    if bundle is None:
        return PipelineFile(path.name, pipeline, problems=_errors(problems))
    try:
        program = compile_pipeline(pipeline, bundle.contents, mask_key=mask_key)
        tests, failures = _run_tests(path, pipeline, bundle, read)
    except CompileError as error:
        return PipelineFile(path.name, pipeline, problems=(str(error),))
    return PipelineFile(path.name, pipeline, bundle, program, failures, tests)


def _run_tests(path: Path, pipeline: Pipeline, bundle: Bundle, read: ReadFile) -> tuple[int, tuple[str, ...]]:
    """Return how many tests passed, and what failed. Raises CompileError."""
    name = path.name.removesuffix(_ENDING) + _TESTS_ENDING
    data = read(name)
    if data is None:
        return 0, ()
    try:
        tests = read_tests(data)
    except TestFileError as error:
        return 0, (f"{name}: {error}",)
    # With the key of its own that `etlpay pipeline test` takes: expected rows would hold hashes of this stack.
    program = compile_pipeline(pipeline, bundle.contents)
    results = run_tests(pipeline, program, tests, read)
    failures = [f"test {result.name!r}: {result.problems[0]}" for result in results if result.problems]
    return len(results) - len(failures), tuple(failures[:_PROBLEMS_MAX])


def _reader_of(folder: Path) -> ReadFile:
    def read(name: str) -> bytes | None:
        path = folder / name
        return path.read_bytes() if path.is_file() else None

    return read


def _errors(problems: Sequence[FileProblem]) -> tuple[str, ...]:
    return tuple(_texts(problem for problem in problems if problem.level == "error"))[:_PROBLEMS_MAX]


def _texts(problems: Iterator[FileProblem]) -> Iterator[str]:
    for problem in problems:
        place = problem.file + (f":{problem.line}" if problem.line else "")
        yield ": ".join(part for part in (place, problem.path, problem.detail) if part)
