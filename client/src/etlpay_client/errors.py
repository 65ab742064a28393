"""What publishing can end with, and asking. What was not confirmed may be published again with the same id."""


class QueueClientError(Exception):
    """The broker did not confirm the event."""


class UnavailableError(QueueClientError):
    """The broker did not take the event."""


class OutcomeUnknownError(QueueClientError):
    """The broker may or may not hold the event."""


class ApiError(Exception):
    """The HTTP API refuses a request; the same request is refused again."""

    def __init__(self, status: int | None, problem: str, detail: str) -> None:
        """`status` is that of HTTP, None where there was no answer; `problem` is a name of `/docs/problems`, or ""."""
        super().__init__(detail if status is None else f"{status} {problem}: {detail}")
        self.status = status
        self.problem = problem
        self.detail = detail


class ApiUnavailableError(ApiError):
    """The HTTP API cannot be reached, or cannot answer now; the same request may succeed later."""

    def __init__(
        self, status: int | None, problem: str, detail: str, *, retry_after_seconds: float | None = None
    ) -> None:
        """`retry_after_seconds`: when the server says that it is worth asking again; None: it does not say."""
        super().__init__(status, problem, detail)
        self.retry_after_seconds = retry_after_seconds
