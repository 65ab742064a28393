"""Events for tests of compiled pipelines."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from shared.pipelines.program import Attributes, Made

ABOUT: Final = Attributes(source="s", received_at=datetime(2026, 3, 1, 9, 30, 5, tzinfo=UTC))
_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)


def decode(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON payload as the processor decodes it: without a float."""
    return _DECODER.decode(text)


def told(made: Made) -> dict[str, str]:
    """Return the codes of the problems, by their pointers."""
    return {problem.pointer: problem.code for problem in made.problems}


def causes(made: Made) -> list[str]:
    """Return the causes of the problems, in their order."""
    return [problem.cause for problem in made.problems]
