"""The containers and volumes of a checkout are its own; those of earlier versions stay with who made them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from etlpay_cli.layout import Layout
from etlpay_cli.project import Project, choose_name, remember


def engine(*, containers: dict[str, str] | None = None, volumes: tuple[str, ...] = ()) -> Callable[..., str]:
    """A Docker engine with containers, by folder, of these projects, and with the databases of these projects."""
    theirs = containers or {}

    def ask(*arguments: str) -> str:
        wanted = dict(each.removeprefix("label=").split("=", 1) for each in arguments if each.startswith("label="))
        if arguments[0] == "volume":
            return "\n".join(name for name in volumes if name == wanted["com.docker.compose.project"])
        if folder := wanted.get("com.docker.compose.project.working_dir"):
            return "\n".join(project for where, project in theirs.items() if where == folder)
        return "\n".join(where for where, project in theirs.items() if project == wanted["com.docker.compose.project"])

    return ask


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "here")


def ran_before(layout: Layout) -> None:
    layout.state_folder.mkdir(parents=True)


def test_two_checkouts_have_two_names_and_keep_them(tmp_path: Path) -> None:
    names = [choose_name(Layout(tmp_path / where), "", engine()) for where in ("a", "b", "a")]

    assert names[0] != names[1]
    assert names[0] == names[2]


def test_the_name_that_was_given_counts(layout: Layout) -> None:
    assert choose_name(layout, "mine", engine(containers={str(layout.root): "etlpay"})) == "mine"


def test_containers_that_were_started_by_hand_from_this_folder_are_found(layout: Layout) -> None:
    assert choose_name(layout, "", engine(containers={str(layout.root): "etlpay"})) == "etlpay"


def test_a_checkout_stays_with_its_name_when_it_is_moved(layout: Layout) -> None:
    ran_before(layout)
    remember(layout, Project(name="etlpay-of-before"))

    assert choose_name(layout, "", engine()) == "etlpay-of-before"


def test_a_checkout_that_ran_under_the_shared_name_keeps_its_volumes(layout: Layout) -> None:
    ran_before(layout)

    assert choose_name(layout, "", engine(volumes=("etlpay",))) == "etlpay"


@pytest.mark.parametrize("mine", ["a fresh clone", "a local stack", "nothing under the shared name"])
def test_a_checkout_that_did_not_run_under_the_shared_name_leaves_its_volumes_alone(layout: Layout, mine: str) -> None:
    if mine != "a fresh clone":
        ran_before(layout)
    if mine == "a local stack":
        layout.state.write_text("{}")
    volumes = () if mine == "nothing under the shared name" else ("etlpay",)

    assert choose_name(layout, "", engine(volumes=volumes)) != "etlpay"


def test_volumes_that_another_checkout_uses_are_not_ours(layout: Layout) -> None:
    ran_before(layout)

    assert choose_name(layout, "", engine(containers={"/elsewhere": "etlpay"}, volumes=("etlpay",))) != "etlpay"
