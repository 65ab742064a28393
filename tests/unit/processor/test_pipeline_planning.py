"""Which version of a pipeline applying a file would make active, and what a person's choice keeps."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from processor.pipelines.folder import PipelineFile, read_files
from processor.pipelines.plan import PipelinePlan
from processor.pipelines.planning import plan_of
from processor.pipelines.registry import ACTIVE, OFF, Registry, State, Version
from shared.pipelines.bundle import make_bundle
from shared.pipelines.ddl.existing import NOTHING, Existing
from support.typed_pipelines import SHOP, applied, read

AT = datetime(2026, 3, 1, tzinfo=UTC)
WIDER = SHOP.replace("status   = {", 'who      = "/who"\nstatus   = {')
NARROWER = SHOP.replace('types  = ["order.*"]\nwhen', 'types  = ["order.paid"]\nwhen')


def file_of(folder: Path, text: str) -> PipelineFile:
    """Return a pipeline file."""
    (folder / "shop.toml").write_text(text)
    [file] = read_files(folder, b"key")
    return file


def version(file: PipelineFile, number: int) -> Version:
    """Return a file as a registered version."""
    assert file.bundle is not None
    sha256 = bytes.fromhex(file.bundle.sha256)
    return Version(number, "shop", number, sha256, file.bundle.content, {"orders": 1}, None, AT, "ana")


def registry(*versions: Version, active: int | None, pinned: bool = False) -> Registry:
    """Return what is registered; `active` is the number of a version."""
    state = State(1, "shop", active, ACTIVE if active else OFF, pinned, AT, "ana", "because")
    return Registry({"shop": versions}, {"shop": state})


def plan(folder: Path, text: str, known: Registry, existing: Existing = NOTHING) -> PipelinePlan:
    """Return the plan of a file."""
    return plan_of(file_of(folder, text), known, existing, [])


def test_the_first_version_of_a_pipeline_is_new(tmp_path: Path) -> None:
    found = plan(tmp_path, SHOP, Registry())

    assert (found.action, found.number, found.known) == ("new", 1, None)


def test_the_same_content_is_the_same_version(tmp_path: Path) -> None:
    one = version(file_of(tmp_path, SHOP), 1)

    found = plan(tmp_path, SHOP, registry(one, active=1), applied(read(SHOP)))

    assert (found.action, found.is_work) == ("unchanged", False)


def test_other_content_is_the_next_version_whatever_is_active(tmp_path: Path) -> None:
    one, two = version(file_of(tmp_path, SHOP), 1), version(file_of(tmp_path, WIDER), 2)

    found = plan(tmp_path, SHOP + "# new\n", registry(one, two, active=1))

    assert (found.action, found.number) == ("new version", 3)


def test_the_content_of_an_older_version_makes_that_one_active_although_it_takes_fewer_events(tmp_path: Path) -> None:
    narrow, wide = version(file_of(tmp_path, NARROWER), 1), version(file_of(tmp_path, SHOP), 2)

    found = plan(tmp_path, NARROWER, registry(narrow, wide, active=2), applied(read(SHOP), rows=5))

    assert (found.action, found.number, found.problems) == ("activate", 1, ())


def test_new_content_that_takes_fewer_events_is_refused_where_rows_are_stored(tmp_path: Path) -> None:
    wide = version(file_of(tmp_path, SHOP), 1)

    found = plan(tmp_path, NARROWER, registry(wide, active=1), applied(read(SHOP), rows=5))

    assert found.action == "refused"
    assert "rebuilding them beside is not built yet" in found.problems[0]


@pytest.mark.parametrize("active", [1, None])
def test_what_somebody_chose_stays_against_content_that_is_registered(tmp_path: Path, active: int | None) -> None:
    one, two = version(file_of(tmp_path, SHOP), 1), version(file_of(tmp_path, WIDER), 2)

    found = plan(tmp_path, WIDER, registry(one, two, active=active, pinned=True))

    assert (found.action, found.is_work) == ("kept", False)
    assert "chosen by ana" in found.notes[0]


def test_what_nobody_chose_does_not_stay(tmp_path: Path) -> None:
    one, two = version(file_of(tmp_path, SHOP), 1), version(file_of(tmp_path, WIDER), 2)

    assert plan(tmp_path, WIDER, registry(one, two, active=1)).action == "activate"


def test_new_content_is_activated_and_says_whose_choice_it_ends(tmp_path: Path) -> None:
    one = version(file_of(tmp_path, SHOP), 1)

    found = plan(tmp_path, WIDER, registry(one, active=None, pinned=True))

    assert found.action == "new version"
    assert "off was chosen by ana (because); this content is new, so it is activated" in found.notes


def test_newer_currencies_alone_do_not_end_a_choice(tmp_path: Path) -> None:
    """They come with a release, and nobody has written anything."""
    one, wider = file_of(tmp_path, SHOP), file_of(tmp_path, WIDER)
    assert wider.bundle is not None
    bundle, _ = make_bundle("shop.toml", wider.bundle.read, {"currencies": "2020-01-01"})
    assert bundle is not None
    two = version(msgspec.structs.replace(wider, bundle=bundle), 2)

    pinned = plan(tmp_path, WIDER, registry(version(one, 1), two, active=1, pinned=True))
    free = plan(tmp_path, WIDER, registry(version(one, 1), two, active=2))

    assert pinned.action == "kept"
    assert (free.action, free.number) == ("new version", 3)
    assert any("the files are those of version 2; new is currencies 2020-01-01 to" in note for note in free.notes)


def test_an_active_version_of_which_something_is_missing_is_repaired_and_not_activated_again(tmp_path: Path) -> None:
    one = version(file_of(tmp_path, SHOP), 1)
    there = applied(read(SHOP))
    damaged = Existing(there.tables, {name: view for name, view in there.views.items() if name != "orders"})

    found = plan(tmp_path, SHOP, registry(one, active=1), damaged)

    assert (found.action, [each.what for each in found.changes]) == ("repair", ["view orders"])
