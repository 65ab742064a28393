"""What publishing can end with. Both errors may be answered by publishing again with the same id."""


class QueueClientError(Exception):
    """The broker did not confirm the event."""


class UnavailableError(QueueClientError):
    """The broker did not take the event."""


class OutcomeUnknownError(QueueClientError):
    """The broker may or may not hold the event."""
