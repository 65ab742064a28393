"""What a trial answers to the gateway, which reads it without the compiler of pipelines. Pure."""

from typing import Final, TypeAlias

import msgspec

from shared.contracts.errors import Problem
from shared.pipelines.document.problems import FileProblem

TOO_LARGE: Final = 3
"""The exit code of a process whose trial needs more memory than it may have."""


class Tried(msgspec.Struct, frozen=True, tag="tried"):
    """The event was tried; `result` is a TrialResult."""

    result: msgspec.Raw


class Unsound(msgspec.Struct, frozen=True, tag="unsound"):
    """The pipeline file, or one that it names, has errors."""

    problems: tuple[FileProblem, ...]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The request is none. `malformed`: it is not JSON."""

    problems: tuple[Problem, ...]
    malformed: bool = False


TrialAnswer: TypeAlias = Tried | Unsound | Refused

_decode: Final = msgspec.json.Decoder(TrialAnswer).decode


def read_answer(content: bytes) -> TrialAnswer:
    """Return what `answering.answer_trial` wrote."""
    answer: TrialAnswer = _decode(content)
    return answer
