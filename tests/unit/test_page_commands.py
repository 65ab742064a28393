"""Commands of pages are found, and what they print is compared without what differs."""

from pathlib import Path

import pytest

from support.page_commands import Command, Done, commands_of, is_as_shown, paste

PAGE = """\
# A page

```sh
echo one
A=2
```

```text
one
```

In a file:

```toml
a = 1
```

```sh
echo "$A"; false
```
"""
FOLDER_OF_BASH = {"PATH": "/usr/bin:/bin"}


def test_a_command_has_what_stands_behind_it(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")

    assert commands_of(tmp_path / "page.md") == [
        Command("echo one\nA=2\n", "one\n"),
        Command('echo "$A"; false\n', None),
    ]


def test_commands_run_in_one_shell(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")

    done = paste(commands_of(tmp_path / "page.md"), tmp_path, FOLDER_OF_BASH)

    assert done == [Done("one\n", 0), Done("2\n", 1)]


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("one\ntwo  \n", "one\ntwo\n", True),
        ("one\n", "two\n", False),
        ("plan 12ab: ok\n", "plan …: ok\n", True),
        ("plan 12ab: no\n", "plan …: ok\n", False),
        ("a\nb\nc\nd\n", "a\n…\nd\n", True),
        ("a\nd\n", "a\n…\nd\n", True),
        ("a\nb\n", "a\n", False),
        ("a.b\n", "a*b\n", False),
    ],
)
def test_an_ellipsis_stands_for_what_differs(printed: str, shown: str, *, same: bool) -> None:
    assert is_as_shown(printed, shown) == same
