"""`python -m queue_consumer`: consume until SIGTERM."""

import argparse
import sys
from functools import partial

from queue_consumer.service import serve
from queue_consumer.settings import Settings
from shared.runtime.lifecycle import run
from shared.runtime.startup import load_settings


def main() -> int:
    """Return the exit code."""
    flags = {name: value for name, value in vars(_parser().parse_args()).items() if value is not None}
    settings = load_settings(Settings, service="queue-consumer", **flags)
    return run(partial(serve, settings), drain_seconds_max=settings.drain_seconds_max)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m queue_consumer",
        description="Takes messages from a foreign RabbitMQ queue and stores each as an event.",
    )
    parser.add_argument("--queue", help="the queue to read (ETLPAY_QUEUE)")
    parser.add_argument("--source", dest="queue_source", help="source of messages that name none (ETLPAY_QUEUE_SOURCE)")
    parser.add_argument(
        "--interval",
        dest="queue_interval_seconds",
        metavar="SECONDS",
        help="longest pause between two attempts while the broker refuses (ETLPAY_QUEUE_INTERVAL_SECONDS)",
    )
    parser.add_argument(
        "--max-messages",
        dest="queue_messages_max",
        metavar="N",
        help="messages taken and not yet settled, at most (ETLPAY_QUEUE_MESSAGES_MAX)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
