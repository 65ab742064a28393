"""Generate shared.rpc from protos/: `python tools/generate_proto.py [--check]`.

The virtual path `shared/rpc` given to protoc makes the generated imports absolute (`from shared.rpc import ...`), so
the output is used exactly as the compiler writes it. `--check` generates into a temporary folder, compares, and exits
with 1 where the committed code is stale.
"""

import argparse
import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = "shared/rpc"
SOURCES = ROOT / "shared" / "src"


def generate(destination: Path) -> None:
    """Write the modules and stubs of every proto below `destination`/shared/rpc.

    Raises:
        SystemExit: the compiler refused a proto; its message is on stderr.
    """
    names = [f"{PACKAGE}/{proto.name}" for proto in sorted(PROTOS.glob("*.proto"))]
    arguments = [
        "protoc",
        f"--proto_path={PACKAGE}={PROTOS}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--python_out={destination}",
        f"--pyi_out={destination}",
        f"--grpc_python_out={destination}",
        *names,
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")


def stale_files() -> list[str]:
    """Return the names of generated files that differ from what the protos say now, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.name: path for path in (Path(folder) / PACKAGE).iterdir()}
        committed = {path.name: path for path in (SOURCES / PACKAGE).glob("*_pb2*")}
        return sorted(
            name
            for name in fresh.keys() | committed.keys()
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        )


def main() -> int:
    """Generate, or with `--check` compare; return the exit code."""
    parser = argparse.ArgumentParser(description="Generate shared.rpc from protos/.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when the committed code is stale")
    if not parser.parse_args().check:
        generate(SOURCES)
        return 0
    stale = stale_files()
    for name in stale:
        sys.stderr.write(f"stale: {PACKAGE}/{name} (run python tools/generate_proto.py)\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
