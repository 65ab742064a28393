"""Generate the gRPC code from protos/: `python tools/generate_proto.py [--check]`.

Each proto belongs to one package: the public one to the client of the producers, ours to `shared`. The package's path,
given to protoc as the virtual path of the proto, makes the generated imports absolute, so the output is used exactly as
the compiler writes it. `--check` generates into a temporary folder, compares, and exits with 1 where the committed code
is stale.
"""

import argparse
import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"


class Package(NamedTuple):
    """Where the code of one proto lies: the package's path below a folder of sources."""

    sources: Path
    path: str


PACKAGES = {
    "etlpay.proto": Package(ROOT / "client" / "src", "etlpay_client"),
    "processing.proto": Package(ROOT / "shared" / "src", "shared/rpc"),
}


def generate(proto: str, destination: Path) -> None:
    """Write the modules and stubs of a proto below `destination`, in the folders of its package.

    Raises:
        SystemExit: the compiler refused the proto; its message is on stderr.
    """
    path = PACKAGES[proto].path
    arguments = [
        "protoc",
        f"--proto_path={path}={PROTOS}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--python_out={destination}",
        f"--pyi_out={destination}",
        f"--grpc_python_out={destination}",
        f"{path}/{proto}",
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")


def stale_files() -> list[str]:
    """Return the names of generated files that differ from what the protos say now, sorted."""
    stale: list[str] = []
    for proto, package in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            generate(proto, Path(folder))
            fresh = {path.name: path for path in (Path(folder) / package.path).iterdir()}
            committed = {path.name: path for path in (package.sources / package.path).glob("*_pb2*")}
            stale += (
                f"{package.path}/{name}"
                for name in fresh.keys() | committed.keys()
                if name not in fresh
                or name not in committed
                or not filecmp.cmp(fresh[name], committed[name], shallow=False)
            )
    return sorted(stale)


def main() -> int:
    """Generate, or with `--check` compare; return the exit code."""
    parser = argparse.ArgumentParser(description="Generate the gRPC code from protos/.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when the committed code is stale")
    if not parser.parse_args().check:
        for proto, package in PACKAGES.items():
            generate(proto, package.sources)
        return 0
    stale = stale_files()
    for name in stale:
        sys.stderr.write(f"stale: {name} (run python tools/generate_proto.py)\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
