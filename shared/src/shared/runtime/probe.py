"""For container health checks: `python -m shared.runtime.probe URL` exits 0 when the URL answers within two seconds."""

import sys
import urllib.request


def main() -> int:
    """Ask the URL in the first argument."""
    try:
        # Anything but success raises.
        urllib.request.urlopen(sys.argv[1], timeout=2).close()  # noqa: S310 - the URL stands in compose.yaml
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
