"""What a validation needs before it reads a file: the pipeline, the files, and how their source writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from etlpay_cli.pipeline_files import PipelineFile, UnreadableError, compile_file, find_pipelines, read_file
from etlpay_cli.validation.report import PipelineReport
from shared.contracts.event import source_problem
from shared.files.file_format import UNSAID, FileFormat
from shared.files.source_formats import open_formats
from shared.pipelines.bundle import make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.pipelines.compiling import PipelineProgram
    from shared.pipelines.document.problems import FileProblem

_FOLDERS: Final = (Path("pipelines"), Path("pipelines/examples"))
_ENDINGS: Final = tuple(f".{kind}{packing}" for kind in ("csv", "json", "ndjson") for packing in ("", ".gz", ".zst"))
_PLACEHOLDER: Final = "example"


class OpenedPipeline(NamedTuple):
    """A pipeline that files are validated against. `files`: those that it names, by name."""

    path: Path
    program: PipelineProgram
    files: Mapping[str, bytes]
    sources: tuple[str, ...]
    report: PipelineReport


class UnsoundPipelineError(Exception):
    """A pipeline file has errors."""

    def __init__(self, path: Path, problems: Sequence[FileProblem]) -> None:
        """`problems` are those that `lint` finds."""
        super().__init__(f"{path}: has errors")
        self.path = path
        self.problems = problems


def open_pipeline(named: str) -> OpenedPipeline:
    """Return the pipeline of a file, or of a name in pipelines/. Raises UnreadableError, UnsoundPipelineError."""
    path = Path(named) if named.endswith(".toml") or "/" in named else _find(named)
    file = read_file(path)
    if file.pipeline is None or not file.is_sound:
        raise UnsoundPipelineError(path, file.problems)
    bundle, _ = make_bundle(path.name, file.read)
    program = compile_file(file)
    if bundle is None:
        raise UnreadableError(f"{path}: has errors")
    report = PipelineReport(file.pipeline.name, bundle.sha256, _shown(path))
    return OpenedPipeline(path, program, bundle.contents, file.pipeline.sources, report)


def files_of(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the files by the names that a report gives them; of a folder each that can be read, sorted.

    Raises UnreadableError.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for file in _files_in(path):
            name = file.name
            if name in found and found[name].resolve() != file.resolve():
                name = f"{file.resolve().parent.name}/{name}"
            found[name] = file
    return found


def source_of(opened: OpenedPipeline, given: str) -> str:
    """Return the source of the files: the given one, else that of the pipeline. Raises UnreadableError."""
    sources = opened.sources
    if not given:
        return sources[0].replace("*", _PLACEHOLDER)
    if problem := source_problem(given):
        raise UnreadableError(f"the source {problem}")
    if not any(given == each or (each.endswith("*") and given.startswith(each[:-1])) for each in sources):
        raise UnreadableError(f"{opened.path}: is of {', '.join(sources)}, not of {given}")
    return given


def format_of(formats: Path | None, source: str) -> FileFormat:
    """Return how a source writes its files. Raises FormatsFileError, a FatalError."""
    return open_formats(str(formats)).of(source) if formats else UNSAID


def _find(name: str) -> Path:
    folders = [folder for folder in _FOLDERS if folder.is_dir()]
    for folder in folders:
        if (path := folder / f"{name}.toml").is_file():
            return path
    for file in _pipelines_in(folders):
        if file.pipeline is not None and file.pipeline.name == name:
            return file.path
    raise UnreadableError(f"{name}: there is no such pipeline in {' or '.join(map(str, _FOLDERS))}; name its file")


def _pipelines_in(folders: Iterable[Path]) -> Iterable[PipelineFile]:
    for folder in folders:
        if any(folder.glob("*.toml")):
            yield from map(read_file, find_pipelines(folder))


def _files_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UnreadableError(f"{path}: there is no such file or folder")
    try:
        files = sorted(
            each
            for each in path.iterdir()
            if each.name.lower().endswith(_ENDINGS) and not each.name.startswith(".") and each.is_file()
        )
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if not files:
        raise UnreadableError(f"{path}: holds no .csv, .json or .ndjson file")
    return files


def _shown(path: Path) -> str:
    """Return a path without the folders of this machine."""
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name
