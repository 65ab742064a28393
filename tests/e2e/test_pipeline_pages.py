"""The tutorial and the how-to pages print what they say, pasted into one shell beside a new stack, in each mode."""

import sys
from pathlib import Path

import pytest

from support.page_commands import Command, commands_of, is_as_shown, paste
from support.servers import CHECKOUT, docker_is_here
from support.stack import Stack, copy_checkout, run_stack

DOCS = CHECKOUT / "docs"
TUTORIAL = [DOCS / "pipelines-tutorial.md"]
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
USUAL_HTTP = "http://127.0.0.1:8000"


def commands_beside(stack: Stack, page: Path) -> list[Command]:
    """Return the commands of a page, for a stack that is up on other ports than the usual ones."""
    found = [command for command in commands_of(page) if not command.text.startswith("make ")]
    return [command._replace(text=command.text.replace(USUAL_HTTP, stack.http)) for command in found]


def differences(stack: Stack, page: Path) -> list[str]:
    """Paste a page; return each command that printed something else than the page shows, with what it printed."""
    commands = commands_beside(stack, page)
    done = paste(commands, stack.root, stack.environment)
    assert len(done) == len(commands) > 0, page
    return [
        f"{page.name}: {command.text}printed:\n{came.printed}(exit code {came.exit_code})"
        for command, came in zip(commands, done, strict=True)
        if not (is_as_shown(came.printed, command.printed) if command.printed else came == ("", 0))
    ]


# The tutorial and an example both make a table `payments`, so each has a stack of its own.
@pytest.mark.parametrize("pages", [TUTORIAL, HOW_TO], ids=["tutorial", "how-to"])
@pytest.mark.parametrize("mode", ["local", "docker"] if docker_is_here() else ["local"])
def test_pages_print_what_they_show(mode: str, pages: list[Path], tmp_path: Path) -> None:
    with run_stack(mode, tmp_path) as stack:
        copy_checkout(tmp_path)
        (tmp_path / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)

        found = [difference for page in pages for difference in differences(stack, page)]

    assert found == [], "\n\n".join(found)
