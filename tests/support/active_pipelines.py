"""Pipelines as the processor runs them, for tests."""

from collections.abc import Mapping
from pathlib import Path

from processor.programs.active import ActivePipeline, ActiveSet
from processor.programs.compiled import Version, compile_version
from shared.pipelines.bundle import Bundle, make_bundle
from support.servers import CHECKOUT

EXAMPLES = CHECKOUT / "pipelines" / "examples"
KEYS = {"k-1": b"a key of thirty-two characters..", "k-2": b"another, also of enough characters"}


def bundle_of(text: str, facts: Mapping[str, str] | None = None) -> Bundle:
    """Return the bundle of a pipeline file, by its text."""
    content = text.encode()
    bundle, problems = make_bundle("p.toml", lambda name: content if name == "p.toml" else None, facts)
    assert bundle is not None, problems
    return bundle


def active(text: str, *, number: int = 1, mask_key: str | None = "k-1") -> ActivePipeline:
    """Return an active pipeline, by the text of its file."""
    facts = {} if mask_key is None else {"mask_key": mask_key}
    return compile_version(Version(number, "p", 1, bundle_of(text, facts).content, "{}"), KEYS)


def example(name: str) -> ActivePipeline:
    """Return one of the examples."""
    folder = EXAMPLES

    def read(file: str) -> bytes | None:
        path: Path = folder / file
        return path.read_bytes() if path.is_file() else None

    bundle, problems = make_bundle(f"{name}.toml", read, {"mask_key": "k-1"})
    assert bundle is not None, problems
    return compile_version(Version(1, name, 1, bundle.content, "{}"), KEYS)


def set_of(*pipelines: ActivePipeline, held: Mapping[str, str] | None = None) -> ActiveSet:
    """Return a set of these."""
    return ActiveSet(pipelines, held)
