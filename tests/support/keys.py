"""Files of API keys."""

from pathlib import Path

from shared.access import hash_key


def write_keys(path: Path, *keys: tuple[str, str, str]) -> Path:
    """Replace the file by one with these: key, name, source."""
    blocks = (
        f'[[keys]]\nname = "{name}"\nsha256 = "{hash_key(key)}"\nsources = ["{source}"]\n'
        "created = 2026-11-23T08:00:00Z\n"
        for key, name, source in keys
    )
    unfinished = path.with_suffix(".new")
    unfinished.write_text("".join(blocks), encoding="utf-8")
    return unfinished.replace(path)
