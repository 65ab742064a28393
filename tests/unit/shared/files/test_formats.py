"""What the file of formats says of a source, and what happens when it changes."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.contracts.errors import FatalError
from shared.files.file_format import UNSAID, FileFormat
from shared.files.source_formats import Formats, FormatsFileError, open_formats

FILE = """
["bank-*"]
delimiter = ";"
encoding = "windows-1252"

[bank-north]
header = ["id", "amount"]
last_row = "accept"
settle_seconds = 30
marker = ".done"

["bank-nor*"]
skip_lines = 3
"""


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "formats.toml"
    path.write_text(FILE)
    return path


def test_the_exact_name_counts_then_the_longest_beginning(path: Path) -> None:
    formats = Formats(path)

    assert formats.of("bank-north") == FileFormat(
        header=("id", "amount"), last_row="accept", settle_seconds=30, marker=".done"
    )
    assert formats.of("bank-northern") == FileFormat(skip_lines=3)
    assert formats.of("bank-south") == FileFormat(delimiter=";", encoding="windows-1252")
    assert formats.of("shop") == UNSAID


def test_the_example_of_the_documentation_can_be_pasted(tmp_path: Path) -> None:
    page = Path(__file__).parents[4] / "services" / "file-watcher" / "README.md"
    section = page.read_text(encoding="utf-8").partition("## How a source writes its files")[2].partition("\n## ")[0]
    path = tmp_path / "formats.toml"
    path.write_text(section.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")

    formats = Formats(path)

    assert formats.of("bank-settlements").delimiter == ";"
    assert formats.of("partner-north").header == ("id", "amount", "currency")
    assert formats.of("pos-7").marker == ".done"


def test_without_a_file_nothing_is_said() -> None:
    assert open_formats("").of("shop") == UNSAID


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[a]\ndelimeter = ';'", "delimeter"),
        ("[a]\nskip_lines = -1", "skip_lines"),
        ("[a]\nheader = 'absent'", "header"),
        ("[a]\nheader = []", "header"),
        ("[a]\nheader = ['a', 'a ']", "is in it twice"),
        ("[a]\nheader = ['a', ' ']", "empty"),
        ("[a]\nheader = ['a\\n']\n".replace("'a\\n'", '"a\\n"'), "not printable"),
        ("[a]\nheader = ['€']\nencoding = 'latin-1'", "the encoding cannot write"),
        ("[a]\nlast_row = 'keep'", "last_row"),
        ("[a]\nencoding = 'utf-16'", "the encoding must be"),
        ("[a]\nencoding = 'utf-8-sig'", "the encoding must be"),
        ("[a]\nencoding = 'gbk'", "the encoding must be"),
        ("[a]\nencoding = 'zip'", "the encoding must be"),
        ("[a]\nencoding = ''", "the encoding must be"),
        ("[a]\ndelimiter = ''", "the delimiter must be"),
        ("[a]\ndelimiter = '||'", "the delimiter must be"),
        ("[a]\ndelimiter = 'x'", "the delimiter must be"),
        ("[a]\ndelimiter = '\"'", "must not be a quote"),
        ("[a]\ndelimiter = '~'\nquote = '~'", "must not be a quote"),
        ("[a]\nquote = 'ab'", "the quote must be"),
        ("[a]\nsettle_seconds = 0", "settle_seconds"),
        ("delimiter = ';'", "object"),
        ('["a\\nb"]', "neither a source"),
        ("[a", "not TOML"),
    ],
)
def test_a_file_that_cannot_be_used_ends_the_start(path: Path, content: str, reason: str) -> None:
    path.write_text(content)

    with pytest.raises(FatalError, match=reason):
        open_formats(str(path))


def test_a_missing_file_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(FormatsFileError, match="cannot be read"):
        open_formats(str(tmp_path / "no.toml"))


def test_the_file_is_read_again_when_it_changed(path: Path) -> None:
    clock = Clock()
    formats = Formats(path, clock=clock)

    path.write_text("[shop]\nskip_lines = 1\n")
    before = formats.of("shop")
    clock.now = 2

    assert before == UNSAID
    assert formats.of("shop") == FileFormat(skip_lines=1)
    assert formats.of("bank-north") == UNSAID


def test_a_broken_edit_changes_nothing_and_is_reported_once(path: Path) -> None:
    clock = Clock()
    formats = Formats(path, clock=clock)

    path.write_text("[bank-north]\nskip_line = 1\n")
    with capture_logs() as logs:
        for clock.now in (2, 4, 6):
            assert formats.of("bank-north").last_row == "accept"
    path.unlink()
    clock.now = 8
    assert formats.of("bank-north").last_row == "accept"

    assert [entry["log_level"] for entry in logs] == ["error"]
    assert "skip_line" in logs[0]["reason"]
