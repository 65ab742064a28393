"""The check that each door makes on a payload: can it be an event at all?"""

import msgspec

_scan = msgspec.json.Decoder(msgspec.Raw).decode


def object_problem(body: bytes) -> str | None:
    """Return why `body` is not one JSON object in UTF-8 (RFC 8259), or None when it is.

    Only scans: no value is built, so nothing is rounded. Whether the values in it are fit for use is for the
    processor to say.
    """
    try:
        raw = bytes(_scan(body))
        # The scanner passes over strings without decoding them.
        raw.decode()
    except UnicodeDecodeError:
        return "must be UTF-8"
    except RecursionError:
        return "is nested too deeply"
    except msgspec.DecodeError:
        return "must be valid JSON"
    if not raw.startswith(b"{"):
        return "must be a JSON object"
    return None
