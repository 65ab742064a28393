"""Plans of pipelines: who may have a source or a name, what a token stands for, and what a stale one differs in."""

import re
from pathlib import Path

import pytest

from processor.pipelines.claims import Claims, claim_problems
from processor.pipelines.folder import PipelineFile, UnreadableError, read_files
from processor.pipelines.plan import PipelinePlan, Plan
from processor.pipelines.remembered import difference, is_token, remember
from processor.pipelines.shown import comparison_lines, plan_lines, sql_lines
from processor.pipelines.stored import Comparison, source_pattern
from shared.pipelines.ddl.change import Change
from shared.pipelines.ddl.changes import changes_of
from shared.pipelines.ddl.existing import NOTHING
from support.typed_pipelines import SHOP

MASKED = '\n[mask]\n"/mail" = "hmac"\n'


def claims(*sources: str, names: tuple[str, ...] = ()) -> Claims:
    return Claims(frozenset(sources), frozenset(names))


def files(folder: Path, **texts: str) -> tuple[PipelineFile, ...]:
    """Write pipeline files and read them."""
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return read_files(folder, b"key")


def plan_of(file: PipelineFile) -> Plan:
    assert file.pipeline is not None
    return Plan((PipelinePlan(file.name, "new", file, number=1, changes=changes_of(file.pipeline, {}, NOTHING)),))


def test_two_pipelines_may_not_have_one_source_or_one_name() -> None:
    wanted = {"a": claims("shop", names=("orders",)), "b": claims("shop", names=("orders",)), "c": claims("kiosk")}

    problems = claim_problems(wanted, {})

    assert set(problems) == {"a", "b"}
    assert problems["a"] == [
        "the source shop belongs to the pipeline b too",
        "the table or view orders belongs to the pipeline b too",
    ]


def test_a_longer_beginning_of_a_source_is_another_claim() -> None:
    assert claim_problems({"a": claims("shop-*"), "b": claims("shop-eu-*"), "c": claims("shop-1")}, {}) == {}


def test_who_has_a_source_or_a_name_keeps_it() -> None:
    held = {"a": claims("shop", names=("orders",))}

    problems = claim_problems({"a": claims("shop", names=("orders",)), "b": claims("shop", names=("orders",))}, held)

    assert set(problems) == {"b"}
    assert claim_problems({"b": claims("shop")}, held) == {"b": ["the source shop belongs to the pipeline a too"]}


def test_a_source_that_is_given_up_in_the_same_plan_is_free_and_a_name_is_not() -> None:
    held = {"a": claims("shop", names=("orders",))}

    problems = claim_problems({"a": claims("kiosk"), "b": claims("shop", names=("orders",))}, held)

    assert problems == {"b": ["the table or view orders belongs to the pipeline a too"]}


@pytest.mark.parametrize(
    ("source", "matches", "others"),
    [
        ("shop-*", ("shop-", "shop-eu"), ("shop", "a-shop-eu")),
        ("shop.eu", ("shop.eu",), ("shop-eu", "shop.eu.1")),
        ("a+(b)$|^", ("a+(b)$|^",), ("aab", "")),
        ("*", ("", "anything"), ()),
    ],
)
def test_a_source_is_matched_as_it_is_written(source: str, matches: tuple[str, ...], others: tuple[str, ...]) -> None:
    pattern = re.compile(source_pattern([source, "never"]))

    assert all(pattern.match(each) for each in matches)
    assert not any(pattern.match(each) for each in others)


def test_a_file_is_read_checked_compiled_and_tested(tmp_path: Path) -> None:
    [shop] = files(tmp_path, shop=SHOP)

    assert shop.problems == ()
    assert shop.bundle is not None
    assert shop.bundle.facts == {"currencies": shop.bundle.facts["currencies"]}
    assert shop.program is not None


def test_a_failing_test_is_a_problem_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "shop.test.toml").write_text(
        '[[test]]\nname = "one"\nevent = "one.json"\n[[test.rows.orders]]\nid = "2"\n'
    )
    (tmp_path / "one.json").write_text('{"id": "1"}')

    [shop] = files(tmp_path, shop=SHOP)

    assert shop.bundle is not None
    assert [each.split(":")[0] for each in shop.problems] == ["test 'one'"]


def test_a_bad_file_is_told_with_its_line_and_the_others_are_read(tmp_path: Path) -> None:
    bad, shop = files(tmp_path, bad=SHOP.replace('key    = ["id"]', 'key    = ["idd"]'), shop=SHOP)

    assert bad.problems
    assert bad.problems[0].startswith("bad.toml:")
    assert shop.problems == ()


def test_names_that_need_quotes_are_refused(tmp_path: Path) -> None:
    [shop] = files(tmp_path, shop=SHOP.replace('"shipments"', '"Ship; ments"'))

    assert any("must begin with a small letter" in each for each in shop.problems)


def test_masks_need_a_key(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(SHOP + MASKED)

    [without] = read_files(tmp_path, b"")
    [with_key] = read_files(tmp_path, b"key")

    assert "ETLPAY_MASK_KEY_FILE" in without.problems[0]
    assert with_key.problems == ()
    assert with_key.bundle is not None
    assert "mask_key" in with_key.bundle.facts


def test_a_folder_that_is_not_there_is_no_empty_folder(tmp_path: Path) -> None:
    assert read_files(tmp_path, b"") == ()
    with pytest.raises(UnreadableError):
        read_files(tmp_path / "none", b"")


def test_a_token_stands_for_what_is_done_and_for_nothing_else(tmp_path: Path) -> None:
    [shop] = files(tmp_path, shop=SHOP)
    plan = plan_of(shop)
    [other] = files(tmp_path, shop=SHOP + "# a comment\n")

    assert is_token(plan.token)
    assert plan_of(shop).token == plan.token
    assert plan_of(other).token != plan.token


def test_statements_are_part_of_what_a_token_stands_for(tmp_path: Path) -> None:
    [shop] = files(tmp_path, shop=SHOP)

    one, other = (
        Plan((PipelinePlan("shop", "new", shop, number=1, changes=(Change("~", "view orders", statements=(sql,)),)),))
        for sql in ("CREATE VIEW one", "CREATE VIEW other")
    )

    assert one.token != other.token
    remember(tmp_path / "plans", one)
    assert difference(tmp_path / "plans", one.token, other) == ("- shop: CREATE VIEW one", "+ shop: CREATE VIEW other")


def test_a_stale_plan_is_told_with_what_is_different(tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    [shop] = files(tmp_path, shop=SHOP)
    old = plan_of(shop)
    remember(folder, old)
    [changed] = files(tmp_path, shop=SHOP.replace('parcel = "/parcel"', 'parcel = "/parcel"\nweight = "/weight"'))
    new = plan_of(changed)

    lines = difference(folder, old.token, new)

    assert "- shop: + table shipments  3 columns, key (id), latest" in lines
    assert "+ shop: + table shipments  4 columns, key (id), latest" in lines
    assert not any("CREATE" in line for line in lines)
    assert difference(folder, "0" * 12, new)[0] == "the plan 000000000000 is not known here; now it would do:"
    assert difference(None, old.token, new)[1:]


def test_the_statements_of_a_plan_are_a_script_for_an_administrator(tmp_path: Path) -> None:
    [shop] = files(tmp_path, shop=SHOP)

    script = list(sql_lines(plan_of(shop), 0.5))

    assert script[1:5] == ["SET ROLE etlpay_pipelines;", "-- shop", "BEGIN;", "SET LOCAL lock_timeout = '500ms';"]
    assert script[-1] == "COMMIT;"


def test_a_plan_says_what_is_refused_and_from_how_many_events_it_guesses(tmp_path: Path) -> None:
    [shop] = files(tmp_path, shop=SHOP.replace("key    = [", "kee    = ["))
    refused = Plan((PipelinePlan("shop", "refused", shop, problems=shop.problems),), ("old is active",))
    found = Comparison(
        events=1000,
        failing=3,
        differing={"orders": 18},
        rows={"orders": 1000},
        filled={"orders": {"who": 0, "id": 1000}},
    )

    assert next(iter(plan_lines(refused))) == "shop  REFUSED"
    assert list(plan_lines(refused))[-1] == "old is active"
    assert list(comparison_lines(found, is_new=False)) == [
        "of the newest 1,000 stored events of its sources, 18 would differ in orders",
        "of the newest 1,000 stored events of its sources, 3 would now fail, and 0 no longer",
        "orders.who: filled in 0 of 1,000 rows; is its place right?",
    ]
