"""Pipeline files on disk: which there are, and each one read, checked and compiled with its tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shared.pipelines.codegen.spots import CompileError
from shared.pipelines.document.problems import FileProblem, has_errors
from shared.pipelines.linting.pipeline import lint_together
from shared.pipelines.trials.expectations import TestFileError, read_tests
from shared.pipelines.trials.trying import check_files, compile_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from shared.pipelines.compiling import PipelineProgram
    from shared.pipelines.document.problems import ReadFile
    from shared.pipelines.model import Pipeline
    from shared.pipelines.trials.expectations import PipelineTest

TESTS_ENDING: Final = ".test.toml"


class UnreadableError(Exception):
    """A file or folder cannot be read; the message is one sentence."""


class PipelineFile(NamedTuple):
    """A pipeline file that was read. `pipeline` is None where it has errors that leave none."""

    path: Path
    pipeline: Pipeline | None
    problems: tuple[FileProblem, ...]
    read: ReadFile

    @property
    def tests_path(self) -> Path:
        """Where its tests stand: `stripe.toml` and `stripe.test.toml`."""
        return self.path.with_name(self.path.name.removesuffix(".toml") + TESTS_ENDING)

    @property
    def is_sound(self) -> bool:
        """It has no errors, and can be compiled."""
        return self.pipeline is not None and not has_errors(self.problems)


def find_pipelines(path: Path) -> list[Path]:
    """Return the file itself, or the pipeline files of a folder, without those below it. Raises UnreadableError."""
    if path.name.endswith(TESTS_ENDING):
        raise UnreadableError(f"{path}: holds tests; name {path.name.removesuffix(TESTS_ENDING)}.toml")
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UnreadableError(f"{path}: there is no such file or folder")
    paths = sorted(each for each in path.glob("*.toml") if not each.name.endswith(TESTS_ENDING))
    if not paths:
        below = sorted({str(each.parent) for each in path.glob("*/*.toml")})
        raise UnreadableError(f"{path}: holds no pipeline file" + (f"; look in {', '.join(below)}" if below else ""))
    return paths


def read_file(path: Path) -> PipelineFile:
    """Return a pipeline file with what `lint` says of it. Raises UnreadableError."""
    if not path.is_file():
        raise UnreadableError(f"{path}: there is no such file")
    read = reader_of(path.parent)
    pipeline, problems = check_files(path.name, read)
    return PipelineFile(path, pipeline, problems, read)


def reader_of(folder: Path) -> ReadFile:
    """Return what gives the content of files of a folder, by their names in it."""

    def read(name: str) -> bytes | None:
        path = folder / name
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise UnreadableError(f"{path}: {error.strerror or 'cannot be read'}") from None

    return read


def write_file(path: Path, text: str) -> None:
    """Write a text file. Raises UnreadableError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or 'cannot be written'}") from None


def problems_together(files: Sequence[PipelineFile]) -> tuple[FileProblem, ...]:
    """Return what is wrong between the pipelines of a folder."""
    return lint_together([each.pipeline for each in files if each.is_sound and each.pipeline is not None])


def tests_of(file: PipelineFile) -> tuple[tuple[PipelineTest, ...], tuple[FileProblem, ...]]:
    """Return the tests of a pipeline file, or what is wrong with them; neither where there are none."""
    name = file.tests_path.name
    data = file.read(name)
    if data is None:
        return (), (FileProblem("", None, "warning", "there are no tests of this pipeline", name),)
    try:
        return read_tests(data), ()
    except TestFileError as error:
        return (), (FileProblem("", error.line or None, "error", str(error), name),)


def compile_file(file: PipelineFile) -> PipelineProgram:
    """Return the program of a pipeline file without errors, with a key of its own for masks. Raises UnreadableError."""
    if file.pipeline is None:
        raise UnreadableError(f"{file.path}: has errors")
    try:
        return compile_files(file.path.name, file.pipeline, file.read)
    except CompileError as error:
        raise UnreadableError(f"{file.path}: {error}") from None
