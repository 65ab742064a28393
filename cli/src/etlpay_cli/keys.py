"""`etlpay keys`: makes, lists and revokes the API keys that the doors ask for. The file keeps hashes only."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from msgspec import ValidationError, convert
from rich.table import Table

from etlpay_cli import screen
from etlpay_cli.errors import ERROR, USAGE
from etlpay_cli.settings import CliSettings
from etlpay_cli.state import write_private
from shared.access import ApiKey, KeysFileError, generate_key, hash_key, keys_problem, read_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(name="keys", help="Make, list and revoke API keys.", no_args_is_help=True)

FileOption = Annotated[Path | None, typer.Option("--file", help="The file of keys; else ETLPAY_API_KEYS_FILE.")]
NameOption = Annotated[str, typer.Option(help="Whose key it is. Two keys of a name may be active, to exchange one.")]
SourceOption = Annotated[
    list[str], typer.Option("--source", help="A source it may send; `shop*`: all that begin so; `*`: all. Repeatable.")
]


@app.command()
def create(name: NameOption, source: SourceOption, file: FileOption = None) -> None:
    """Print a new key, once, and keep its hash. Running doors know it within a second."""
    path = _path(file)
    keys = _read(path) if path.exists() else []
    key = generate_key()
    made = {
        "name": name,
        "sha256": hash_key(key),
        "sources": source,
        "created": datetime.now(UTC).replace(microsecond=0),
    }
    try:
        keys.append(convert(made, ApiKey))
    except ValidationError as error:
        _refuse(f"no valid key: {error}", USAGE)
    if problem := keys_problem(keys):
        _refuse(problem, USAGE)
    _write(path, keys)
    screen.data.print(key)
    screen.talk.print("This is shown once. Its holder sends it as `Authorization: Bearer <key>`.")


@app.command(name="list")
def show(file: FileOption = None) -> None:
    """Show whose keys are active, for which sources, and since when."""
    table = Table("name", "sources", "created", box=None)
    for key in _read(_path(file)):
        table.add_row(key.name, " ".join(key.sources), key.created.isoformat())
    screen.data.print(table)


@app.command()
def revoke(
    name: NameOption,
    *,
    keep_newest: Annotated[bool, typer.Option("--keep-newest", help="Only the older one, after an exchange.")] = False,
    file: FileOption = None,
) -> None:
    """Revoke the keys of a name. Running doors refuse them within a second."""
    path = _path(file)
    keys = _read(path)
    revoked = sorted((key for key in keys if key.name == name), key=lambda key: key.created)
    if keep_newest:
        revoked = revoked[:-1]
    if not revoked:
        _refuse("there is no such key", ERROR)
    _write(path, [key for key in keys if key not in revoked])
    screen.talk.print(f"revoked: {len(revoked)}")


def render(keys: Sequence[ApiKey]) -> str:
    """Return the file's text. Names and sources hold nothing that TOML would need escaped."""
    blocks = (
        "[[keys]]\n"
        f'name = "{key.name}"\n'
        f'sha256 = "{key.sha256}"\n'
        f"sources = [{', '.join(map(_quote, key.sources))}]\n"
        f"created = {key.created.isoformat()}\n"
        for key in keys
    )
    return "# Written by `etlpay keys`. It holds hashes, not keys.\n\n" + "\n".join(blocks)


def _quote(text: str) -> str:
    return f'"{text}"'


def _path(file: Path | None) -> Path:
    path = file or CliSettings().api_keys_file
    if path is None:
        _refuse("name the file of keys: --file, or ETLPAY_API_KEYS_FILE", USAGE)
    return path


def _read(path: Path) -> list[ApiKey]:
    try:
        return read_keys(path)
    except KeysFileError as error:
        _refuse(str(error), ERROR)


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace the file whole, with the mode and owner that it had; a new one is for this user only."""
    write_private(path, render(keys).encode(), like=path.stat() if path.exists() else None)


def _refuse(reason: str, exit_code: int) -> NoReturn:
    screen.complain(reason)
    raise typer.Exit(exit_code)
