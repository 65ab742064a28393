"""Dropping files as a careful producer does: written beside, then renamed in."""

from pathlib import Path


def drop(folder: Path, name: str, rows: list[bytes]) -> None:
    """Put a file of these rows into a folder. Blocking."""
    drop_content(folder, name, b"\n".join(rows) + b"\n")


def drop_content(folder: Path, name: str, content: bytes) -> None:
    """Write a file beside a folder's own, and rename it in. Blocking."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{name}.tmp"
    unfinished.write_bytes(content)
    unfinished.rename(folder / name)
