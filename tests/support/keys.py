"""Files of API keys, and a clock for them."""

from collections.abc import Callable
from pathlib import Path

from shared.auth.keys import hash_key

WriteKeys = Callable[..., Path]


class FakeClock:
    """A clock that moves when a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def bearer(key: str) -> str:
    """Return the credentials that hold a key."""
    return f"Bearer {key}"


def write_keys(path: Path, *keys: tuple[str, str, str], **members: str) -> Path:
    """Replace the file by one with these: key, name, source; `members` are more of each, as TOML."""
    more = "".join(f"{name} = {value}\n" for name, value in members.items())
    blocks = (
        f'[[keys]]\nname = "{name}"\nsha256 = "{hash_key(key)}"\nsources = ["{source}"]\n'
        f"created = 2026-11-23T08:00:00Z\n{more}"
        for key, name, source in keys
    )
    unfinished = path.with_suffix(".new")
    unfinished.write_text("".join(blocks), encoding="utf-8")
    return unfinished.replace(path)
