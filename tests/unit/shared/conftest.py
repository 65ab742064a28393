"""Files of API keys, and a clock for them."""

from functools import partial
from pathlib import Path

import pytest

from support import keys


@pytest.fixture
def clock() -> keys.FakeClock:
    """Return a clock that moves when it is told to."""
    return keys.FakeClock()


@pytest.fixture
def write_keys(tmp_path: Path) -> keys.WriteKeys:
    """Return what replaces the file of keys by one with these: key, name, source."""
    return partial(keys.write_keys, tmp_path / "keys.toml")
