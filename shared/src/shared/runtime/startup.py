"""The start of a program: read its settings, and configure its logs."""

from typing import Any, NoReturn, TypeVar

import structlog
from pydantic import ValidationError
from pydantic_settings import SettingsError

from shared.failpoints import arm
from shared.settings import ProgramSettings, unknown_variables
from shared.telemetry import configure_logs

S = TypeVar("S", bound=ProgramSettings)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_USAGE = 2


def load_settings(settings_class: type[S], *, service: str, **overrides: Any) -> S:  # noqa: ANN401 - the values of any setting
    """Return the settings, with the logs configured; warn about unknown ETLPAY variables.

    `overrides`, such as the flags of a command line, take precedence over the environment.

    Raises:
        SystemExit: 2, where a setting cannot be used; the log names it and does not repeat its value.
    """
    try:
        settings = settings_class(**overrides)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        _refuse(service, {".".join(map(str, problem["loc"])): problem["msg"] for problem in problems})
    except SettingsError as error:
        _refuse(service, {"settings": str(error)})
    configure_logs(service=service, level=settings.log_level)
    try:
        arm(settings.failpoint, settings.failpoint_log)
    except ValueError as error:
        _refuse(service, {"failpoint": str(error)})
    for name, similar in unknown_variables(settings_class):
        log.warning("unknown setting ignored", setting=name, similar=similar)
    return settings


def _refuse(service: str, problems: dict[str, str]) -> NoReturn:
    configure_logs(service=service, level="error")
    log.error("not started: a setting cannot be used", problems=problems)
    raise SystemExit(_USAGE)
