"""Logs as JSON lines on stdout. Normal operation emits none per event; payloads are never a field."""

import logging
import sys

import structlog


def configure_logs(*, service: str, level: str) -> None:
    """Send structlog and the standard library's loggers to stdout as one JSON object a line.

    Raises:
        ValueError: `level` is not the name of a level.
    """
    numeric = logging.getLevelNamesMapping().get(level.upper())
    if numeric is None:
        raise ValueError("log level must be debug, info, warning or error")
    stamps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *stamps,
            structlog.processors.format_exc_info,
            escape_surrogates,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                escape_surrogates,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(numeric, logging.WARNING), force=True)


def escape_surrogates(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape surrogates, such as bytes of a file's name that are not UTF-8: JSON readers refuse them."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isascii():
            event[name] = value.encode("utf-8", "backslashreplace").decode()
    return event
