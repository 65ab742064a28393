"""How a channel marks an event that it accepted and that cannot be processed: by a content type that gives the reason.

Such an event keeps the bytes that came, and its record is FAILED with that reason. It says so itself, so a stored row
can be read alone.
"""

from typing import Final

_FAILED: Final = 'application/vnd.etlpay.failed; reason="'


def failed_type(reason: str) -> str:
    """Return the content type of an event that cannot be processed. `reason` is ours: a sentence without quotes."""
    return f'{_FAILED}{reason}"'


def failure_reason(content_type: str) -> str | None:
    """Return why an event of this content type cannot be processed, or None where it does not say so."""
    return content_type[len(_FAILED) : -1] if content_type.startswith(_FAILED) else None
