"""Installs packages of the system without starting their services."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_POLICY_DENIES: Final = "#!/bin/sh\n# Written by etlpay while it installs a package: start no service.\nexit 101\n"
_INSTALL_SECONDS_MAX: Final = 600


class NotInstalledError(Exception):
    """A package is missing and cannot be installed from here."""

    def __init__(self, package: str, why: str = "") -> None:
        """Say how the operator installs it."""
        super().__init__(f"{package} is missing; install it with: sudo apt-get install {package}{why}")


def install(package: str) -> None:
    """Install a package; a service that it brings neither starts now nor with the system. Raises NotInstalledError."""
    become_root = _become_root()
    if become_root is None or shutil.which("apt-get") is None:
        raise NotInstalledError(package)
    # One shell, so that the policy is removed whatever happens to this process. A policy that was there stays.
    script = f"""
        set -e
        if [ ! -e {_POLICY} ]; then
          trap 'rm -f {_POLICY}' EXIT
          printf '%s' "$1" > {_POLICY}
          chmod 755 {_POLICY}
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "$2"
        if [ -d /run/systemd/system ]; then systemctl disable --quiet "$2.service" || true; fi
    """
    done = subprocess.run(
        (*become_root, "sh", "-c", script, "install", _POLICY_DENIES, package),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_INSTALL_SECONDS_MAX,
    )
    if done.returncode != 0:
        raise NotInstalledError(package, f" (apt-get said: {done.stderr.strip()[-500:]})")


def _become_root() -> tuple[str, ...] | None:
    """Return what to put before a command so that root runs it without a password; None where that is impossible."""
    if os.geteuid() == 0:
        return ()
    sudo = shutil.which("sudo")
    if sudo is None:
        return None
    allowed = subprocess.run((sudo, "-n", "true"), capture_output=True, check=False)
    return (sudo, "-n") if allowed.returncode == 0 else None
