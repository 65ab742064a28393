"""Where RabbitMQ is, and the API key: from the environment, else from the stack of the current folder."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

_STACK_ENV: Final = Path(".etlpay/stack.env")


def broker_url() -> str:
    """Return the address of the broker with its password.

    It is the one in `ETLPAY_QUEUE_AMQP_URL`, else that in `ETLPAY_AMQP_URL` with the virtual host `/`. The password is
    the one in the variable that ends in `_PASSWORD`, or in the file that `..._PASSWORD_FILE` names.
    """
    if url := _setting("ETLPAY_QUEUE_AMQP_URL"):
        return _with_password(url, _setting("ETLPAY_QUEUE_AMQP_PASSWORD"))
    url = _setting("ETLPAY_AMQP_URL") or "amqp://guest@127.0.0.1:5672/"
    return _with_password(urlsplit(url)._replace(path="/").geturl(), _setting("ETLPAY_AMQP_PASSWORD") or "guest")


def api_key() -> str:
    """Return the API key in `ETLPAY_API_KEY`, or in the file that `ETLPAY_API_KEY_FILE` names; empty: there is none."""
    return _setting("ETLPAY_API_KEY")


def _setting(name: str) -> str:
    """Return a setting from the environment, else from a secret file, else from the file that `make up` writes."""
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    lines = _STACK_ENV.read_text(encoding="utf-8").splitlines() if _STACK_ENV.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line).get(name, "")


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
