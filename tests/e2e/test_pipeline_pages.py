"""The tutorial and the how-to pages print what they say, pasted into one shell beside a new stack, in each mode."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.page_commands import Command, commands_of, is_as_shown, paste
from support.servers import CHECKOUT, docker_is_here
from support.stack import Stack, copy_checkout, run_stack

DOCS = CHECKOUT / "docs"
TUTORIAL = "pipelines-tutorial.md"
HOW_TO = sorted(f"how-to/{page.name}" for page in (DOCS / "how-to").glob("*.md"))
USUAL_HTTP = "http://127.0.0.1:8000"
MODES = ["local", "docker"] if docker_is_here() else ["local"]


# The tutorial and an example both make a table `payments`, so each has a stack of its own.
@pytest.fixture(scope="module", params=[(mode, pages) for mode in MODES for pages in ("tutorial", "how-to")], ids=str)
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, str]]:
    """A fresh checkout with its stack, and which pages are read beside it."""
    mode, pages = request.param
    folder = tmp_path_factory.mktemp("pages")
    with run_stack(mode, folder) as running:
        copy_checkout(folder)
        (folder / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
        yield running, pages


def commands_beside(stack: Stack, page: str) -> list[Command]:
    """Return the commands of a page, for a stack that is up on other ports than the usual ones."""
    found = [command for command in commands_of(DOCS / page) if not command.text.startswith("make ")]
    return [command._replace(text=command.text.replace(USUAL_HTTP, stack.http)) for command in found]


@pytest.mark.parametrize("page", [TUTORIAL, *HOW_TO])
def test_a_page_prints_what_it_shows(reader: tuple[Stack, str], page: str) -> None:
    stack, pages = reader
    if (page == TUTORIAL) != (pages == "tutorial"):
        pytest.skip("read beside another stack")
    commands = commands_beside(stack, page)

    done = paste(commands, stack.root, stack.environment)

    assert len(done) == len(commands)
    for command, came in zip(commands, done, strict=True):
        if command.printed is None:
            assert (came.printed, came.exit_code) == ("", 0), command.text
        else:
            assert is_as_shown(came.printed, command.printed), f"{command.text}\nprinted:\n{came.printed}"
