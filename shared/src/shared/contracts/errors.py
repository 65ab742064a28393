"""Errors grouped by what is done about them."""

from collections.abc import Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A place (JSON Pointer, RFC 6901; empty: the whole) and what is wrong there. Never holds the value found there.

    `code`: the same as one word, where a pipeline found it (see `shared.pipelines.program.RowProblem`).
    """

    pointer: str
    detail: str
    code: str = ""


class EtlPayError(Exception):
    """The root of EtlPay's own errors. Messages never hold payloads, ids or secrets."""


class InvalidEventError(EtlPayError):
    """The input cannot be an event. Nothing of it was stored; `problems` name the places, `source` who sent it."""

    def __init__(self, problems: Sequence[Problem], *, source: str = "") -> None:
        """Keep the problems, at least one, and the source that the input names; empty where it names none."""
        super().__init__("; ".join(f"{problem.pointer or '/'}: {problem.detail}" for problem in problems))
        self.problems = tuple(problems)
        self.source = source


class RetryableError(EtlPayError):
    """It may work later; back off and try again with the same event id."""


class OverloadedError(RetryableError):
    """A buffer is at its limit. Nothing was taken."""


class UnavailableError(RetryableError):
    """A dependency cannot be reached. Nothing was taken."""


class OutcomeUnknownError(RetryableError):
    """No confirmation came in time. It may or may not have been stored; repeating with the same id is safe."""


class PermanentError(EtlPayError):
    """Trying again cannot help."""


class FatalError(EtlPayError):
    """The process cannot do its work here and must stop."""
