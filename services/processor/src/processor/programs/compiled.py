"""Makes an active pipeline of a version that the ledger holds. Pure."""

import tomllib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from processor.programs.active import ActivePipeline
from shared.pipelines.bundle import Bundle, BundleError, open_bundle
from shared.pipelines.compiling import CompileError, compile_pipeline
from shared.pipelines.document.reading import read_pipeline
from shared.pipelines.facts import MASK_KEY, needs_mask_key
from shared.pipelines.model import Pipeline
from shared.pipelines.typed_tables import typed_tables

_read_generations: Final = msgspec.json.Decoder(dict[str, int]).decode


class Version(msgspec.Struct, frozen=True):
    """A version as the ledger holds it; `generations` is a JSON object."""

    id: int
    name: str
    version: int
    content: bytes
    generations: str


class VersionError(ValueError):
    """A version cannot be run here; the message says why."""


def compile_version(version: Version, mask_keys: Mapping[str, bytes]) -> ActivePipeline:
    """Return the pipeline with its program. It may run in a thread. Raises VersionError."""
    try:
        bundle = open_bundle(version.content)
        pipeline = _pipeline_of(bundle)
        program = compile_pipeline(pipeline, bundle.contents, mask_key=_mask_key(bundle, pipeline, mask_keys))
        tables = typed_tables(pipeline, _read_generations(version.generations))
    except VersionError:
        raise
    except (BundleError, CompileError) as error:
        raise VersionError(f"cannot be compiled: {error}") from error
    except Exception as error:
        # What was registered without being checked may raise anything. It is this version's fault alone.
        raise VersionError(f"cannot be compiled: {type(error).__name__}") from error
    return ActivePipeline(version.id, version.name, version.version, pipeline.sources, program, tables)


def without_program(version: Version) -> ActivePipeline:
    """Return the pipeline of a version that cannot be run here. Its sources are those that can be made out."""
    return ActivePipeline(version.id, version.name, version.version, _sources_of(version.content), None, ())


def _pipeline_of(bundle: Bundle) -> Pipeline:
    """Raises VersionError."""
    pipeline, problems = read_pipeline(bundle.file, bundle.read)
    if pipeline is None:
        raise VersionError(f"is no pipeline file that is known here: {problems[0].path} {problems[0].detail}")
    return pipeline


def _mask_key(bundle: Bundle, pipeline: Pipeline, mask_keys: Mapping[str, bytes]) -> bytes:
    """Return the key of a version; empty: it needs none. Raises VersionError."""
    if not needs_mask_key(pipeline):
        return b""
    wanted = bundle.facts.get(MASK_KEY)
    if wanted is None:
        raise VersionError("masks with a key, and names none")
    if wanted not in mask_keys:
        raise VersionError(f"needs the mask key {wanted[:100]!r}, which is not known here")
    return mask_keys[wanted]


def _sources_of(content: bytes) -> tuple[str, ...]:
    """Return the sources of a version of a format that may not be known here; empty: they cannot be told."""
    try:
        known: Any = msgspec.json.decode(content)
        source = tomllib.loads(known["files"][known["file"]])["source"]
        return msgspec.convert([source] if isinstance(source, str) else source, tuple[str, ...])
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.MsgspecError):
        return ()
