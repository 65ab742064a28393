#!/bin/sh
# Makes the virtual environment: venv.sh FOLDER PACKAGE...
# Uses python3 of the PATH, or PYTHON, from 3.11 on. Where Debian left `venv` out of Python it is installed, if we may.
set -eu
venv=$1
shift
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "EtlPay needs Python 3.11 or newer; set PYTHON=/path/to/python3." >&2
  exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing python3-venv with the system's package manager" >&2
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  elif command -v apt-get >/dev/null && sudo -n true 2>/dev/null; then
    echo "Installing python3-venv with the system's package manager" >&2
    sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  else
    echo "Python has no venv module here; install it first, for example: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/pip" install --quiet --require-hashes --requirement requirements.lock
for package in "$@"; do
  "$venv/bin/pip" install --quiet --no-deps --no-build-isolation --editable "$package"
done
