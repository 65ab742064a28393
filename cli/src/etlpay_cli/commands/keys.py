"""`etlpay keys`: makes, lists and revokes API keys. The file keeps hashes only."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from msgspec import ValidationError, convert, json
from rich.table import Table
from rich.text import Text

from etlpay_cli import console
from etlpay_cli.commands.invocation import refuse
from etlpay_cli.errors import ERROR, USAGE, StackError
from etlpay_cli.settings import CliSettings
from etlpay_cli.spans import parse_span
from etlpay_cli.state import write_private
from shared.auth.files import AccessFileError
from shared.auth.keys import KEYS_FILE, ApiKey, generate_key, hash_key, keys_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

app = typer.Typer(name="keys", help="Make, list and revoke API keys.", no_args_is_help=True)

FileOption = Annotated[Path | None, typer.Option("--file", help="The file of keys; else ETLPAY_API_KEYS_FILE.")]
NameOption = Annotated[str, typer.Option(help="Whose key it is. Two keys of a name may be active, to exchange one.")]
SourceOption = Annotated[
    list[str], typer.Option("--source", help="A source of its; `shop*`: all that begin so; `*`: all. Repeatable.")
]
MayOption = Annotated[str, typer.Option(help="What it may do for its sources: send, read, audit; commas between.")]
ExpiresOption = Annotated[str | None, typer.Option(help="After which time it is refused, such as 90d; else never.")]

_EXPIRES_DAYS_MAX: Final = 3_653
_EXPIRES_SOON: Final = timedelta(days=14)


@app.command()
def create(
    name: NameOption,
    source: SourceOption,
    may: MayOption = "send,read",
    expires: ExpiresOption = None,
    file: FileOption = None,
) -> None:
    """Print a new key, once, and keep its hash. Running services know it within a second."""
    path = _path(file)
    keys = _read(path) if path.exists() else []
    key = generate_key()
    created = datetime.now(UTC).replace(microsecond=0)
    made = {
        "name": name,
        "sha256": hash_key(key),
        "sources": source,
        "created": created,
        "may": [right.strip() for right in may.split(",")],
        "expires": created + _span(expires) if expires else None,
    }
    try:
        keys.append(convert(made, ApiKey))
    except ValidationError as error:
        refuse(f"no valid key: {error}", USAGE)
    if problem := keys_problem(keys):
        refuse(problem, USAGE)
    _write(path, keys)
    console.stdout.print(key)
    console.stderr.print("This is shown once. Its holder sends it as `Authorization: Bearer <key>`.")


@app.command(name="list")
def show(file: FileOption = None) -> None:
    """Show whose keys are active, what they may do for which sources, and until when; warn of those that expire."""
    table = Table("name", "may", "sources", "created", "expires", box=None)
    keys = _read(_path(file))
    for key in keys:
        expires = key.expires.isoformat() if key.expires else "never"
        row = (key.name, " ".join(key.may), " ".join(key.sources), key.created.isoformat(), expires)
        table.add_row(*map(Text, row))
    console.stdout.print(table)
    for warning in warnings(keys, at=datetime.now(UTC)):
        console.print_warning(warning)


def warnings(keys: Sequence[ApiKey], *, at: datetime) -> Iterator[str]:
    """Yield a sentence for each key that has expired, or will within two weeks."""
    for key in keys:
        if key.expires is not None and key.expires <= at:
            yield f"a key of {key.name} has expired, and is refused"
        elif key.expires is not None and key.expires <= at + _EXPIRES_SOON:
            days = math.ceil((key.expires - at) / timedelta(days=1))
            yield f"a key of {key.name} expires within {days} days"


@app.command()
def revoke(
    name: NameOption,
    *,
    keep_newest: Annotated[bool, typer.Option("--keep-newest", help="Only the older one, after an exchange.")] = False,
    file: FileOption = None,
) -> None:
    """Revoke the keys of a name. Running services refuse them within a second."""
    path = _path(file)
    keys = _read(path)
    revoked = sorted((key for key in keys if key.name == name), key=lambda key: key.created)
    if keep_newest:
        revoked = revoked[:-1]
    if not revoked:
        refuse("there is no such key", ERROR)
    _write(path, [key for key in keys if key not in revoked])
    console.stderr.print(f"revoked: {len(revoked)}")


def render(keys: Sequence[ApiKey]) -> str:
    """Return the file's text."""
    return "# Written by `etlpay keys`. It holds hashes, not keys.\n\n" + "\n".join(map(_render_key, keys))


def _render_key(key: ApiKey) -> str:
    expires = f"expires = {key.expires.isoformat()}\n" if key.expires else ""
    return (
        "[[keys]]\n"
        f"name = {_quote(key.name)}\n"
        f"sha256 = {_quote(key.sha256)}\n"
        f"sources = [{', '.join(map(_quote, key.sources))}]\n"
        f"may = [{', '.join(map(_quote, key.may))}]\n"
        f"created = {key.created.isoformat()}\n"
        f"{expires}"
    )


def _quote(text: str) -> str:
    """Return a string of TOML. A source holds no control characters, and of the others JSON escapes the same."""
    return json.encode(text).decode()


def _span(text: str) -> timedelta:
    try:
        return parse_span(text, days_max=_EXPIRES_DAYS_MAX)
    except StackError as error:
        refuse(str(error), USAGE)


def _path(file: Path | None) -> Path:
    path = file or CliSettings().api_keys_file
    if path is None:
        refuse("name the file of keys: --file, or ETLPAY_API_KEYS_FILE", USAGE)
    return path


def _read(path: Path) -> list[ApiKey]:
    try:
        return KEYS_FILE.read(path)
    except AccessFileError as error:
        refuse(str(error), ERROR)


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file whole, with the mode and owner that it had; a new one is for this user only."""
    write_private(path, render(keys).encode(), like=path.stat() if path.exists() else None)
