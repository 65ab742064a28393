"""What a trial answers: rows as exact texts, problems with places, and no value that was sent."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from api_gateway.http import openapi
from api_gateway.schemas import TrialResult
from api_gateway.trials.answering import ANSWER_BYTES_MAX, answer_trial
from api_gateway.trials.answers import Refused, Tried, Unsound, read_answer
from shared.pipelines.compiling import TEST_KEY
from shared.pipelines.values.masking import keyed_hash

HEAD = 'etlpay = 1\nname = "shop"\nsource = "shop-*"\n'
SHOP = (
    HEAD
    + '[mask]\n"/mail" = "hmac"\n'
    + '[[table]]\nname = "orders"\nmode = "latest"\nkey = ["id"]\nnewest = "at"\n'
    + 'gone = { "/type" = "deleted" }\n[table.columns]\nid = "/id"\n'
    + 'at = { from = "@occurred_at", type = "timestamp" }\n'
    + 'gross = { from = "/gross", type = "decimal", required = true }\nmail = "/mail"\nsource = "@source"\n'
)
ROWS = HEAD + '[[table]]\nname = "lines"\n[table.columns]\nsku = "sku"\nn = { from = "n", type = "integer" }\n'
SCHEMA = HEAD + '[contract]\nschema = "schemas/order.json"\n[[table]]\nname = "t"\n[table.columns]\na = "/a"\n'
EVENT = {"payload": {"id": "o-1", "gross": "10.90"}, "occurred_at": "2026-03-01T10:30:00+01:00"}


def answer_to(text: str, event: object, files: dict[str, str] | None = None) -> Tried | Unsound | Refused:
    return read_answer(
        answer_trial(msgspec.json.encode({"files": {"shop.toml": text} | (files or {}), "event": event}))
    )


def tried(text: str, event: object, files: dict[str, str] | None = None) -> TrialResult:
    answer = answer_to(text, event, files)
    assert isinstance(answer, Tried), answer
    return msgspec.json.decode(answer.result, type=TrialResult)


def refused(text: str, event: object) -> list[tuple[str, str]]:
    answer = answer_to(text, event)
    assert isinstance(answer, Refused), answer
    return [(each.pointer, each.detail) for each in answer.problems]


def lint_of(text: str, files: dict[str, str] | None = None) -> list[tuple[str, int | None, str, str]]:
    answer = answer_to(text, EVENT, files)
    assert isinstance(answer, Unsound), answer
    return [(each.file, each.line, each.path, each.detail) for each in answer.problems if each.level == "error"]


def test_an_event_makes_rows_of_exact_texts() -> None:
    result = tried(SHOP, EVENT | {"source_name": "shop-eu"})

    assert (result.status, result.cause, result.matched, result.errors, result.gone) == ("SUCCESS", None, True, (), {})
    assert result.rows == {
        "orders": [{"id": "o-1", "at": "2026-03-01T09:30:00Z", "gross": "10.90", "mail": None, "source": "shop-eu"}]
    }


@pytest.mark.parametrize("number", ["1000000000000000000000000000000", "0.01", "1.10", "0.1000000000000000055511151"])
def test_a_number_keeps_its_digits(number: str) -> None:
    event = b'{"payload": {"id": "o", "gross": %b}, "occurred_at": "2026-03-01T00:00:00Z"}' % number.encode()
    body = b'{"files": {"shop.toml": %b}, "event": %b}' % (msgspec.json.encode(SHOP), event)

    answer = read_answer(answer_trial(body))

    assert isinstance(answer, Tried)
    assert msgspec.json.decode(answer.result, type=TrialResult).rows["orders"][0]["gross"] == number


def test_an_event_that_breaks_the_contract_has_every_problem_and_the_cause_of_its_record() -> None:
    result = tried(SHOP, EVENT | {"payload": {"gross": "much"}})

    assert (result.status, result.rows) == ("FAILED", {})
    assert {(each.pointer, each.code) for each in result.errors} == {("/id", "missing"), ("/gross", "type")}
    assert result.cause == result.errors[0].cause
    assert "much" not in str(result)


def test_a_tombstone_is_told_apart() -> None:
    result = tried(SHOP, EVENT | {"payload": {"id": "o-1", "type": "deleted"}})

    assert (list(result.rows), [row["id"] for row in result.gone["orders"]]) == ([], ["o-1"])


def test_an_event_that_no_table_takes_is_told() -> None:
    typed = SHOP.replace("[mask]", '[event]\ntype = "/type"\n[mask]').replace(
        'mode = "latest"', 'types = ["x"]\nmode = "latest"'
    )

    assert not tried(typed, EVENT).matched


def test_a_mask_has_the_key_of_tests() -> None:
    result = tried(SHOP, EVENT | {"payload": {"id": "o-1", "gross": 1, "mail": "ana@example.com"}})

    assert result.rows["orders"][0]["mail"] == keyed_hash("ana@example.com", TEST_KEY)


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("text/csv", "sku,n\na-1,7\n"),
        ("text/csv", 'sku,n\r\n"a-1",7'),
        ('text/csv; header=present; delimiter=";"', "sku;n\na-1;7"),
    ],
)
def test_a_csv_row_is_an_event(content_type: str, text: str) -> None:
    result = tried(ROWS, {"content_type": content_type, "text": text})

    assert result.rows == {"lines": [{"sku": "a-1", "n": "7"}]}


def test_a_file_is_read_from_the_request_and_never_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas/order.json").write_text("{}")
    monkeypatch.chdir(tmp_path)

    [(file, line, path, detail)] = lint_of(SCHEMA)
    schema = tried(SCHEMA, {"payload": {"a": "b"}}, {"schemas/order.json": '{"required": ["b"]}'})

    assert (file, line, path) == ("shop.toml", 5, "contract.schema")
    assert "is not there" in detail
    assert [each.code for each in schema.errors] == ["schema.required"]


@pytest.mark.parametrize("name", ["../order.json", "/etc/passwd", "a/../../b.json", "~/x.json", "file:///etc/passwd"])
def test_a_file_outside_the_folder_is_refused_although_it_was_sent(name: str) -> None:
    [(_, _, path, _)] = lint_of(SCHEMA.replace("schemas/order.json", name), {name: "{}"})

    assert path == "contract.schema"


@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        ({"$ref": "https://example.com/x.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"pattern": "(?=a)a"}, "which could take for ever"),
        ({"pattern": "(a{1000}){1000}"}, "is no JSON Schema that can be used"),
    ],
)
def test_a_schema_that_fetches_or_explodes_is_refused(schema: object, detail: str) -> None:
    [(_, _, _, told)] = lint_of(SCHEMA, {"schemas/order.json": msgspec.json.encode(schema).decode()})

    assert detail in told


def test_a_pattern_that_explodes_elsewhere_takes_no_time() -> None:
    schema = {"properties": {"a": {"pattern": "^(a+)+$"}}}

    result = tried(
        SCHEMA, {"payload": {"a": "a" * 100_000 + "b"}}, {"schemas/order.json": msgspec.json.encode(schema).decode()}
    )

    assert [each.code for each in result.errors] == ["schema.pattern"]


def test_200_columns_are_tried_and_201_are_not() -> None:
    def tables(*sizes: int) -> str:
        return HEAD + "".join(
            f'[[table]]\nname = "t{number}"\n[table.columns]\n'
            + "".join(f'c{column} = "/a"\n' for column in range(size))
            for number, size in enumerate(sizes)
        )

    assert tried(tables(100, 100), EVENT).status == "SUCCESS"
    assert "201 columns" in lint_of(tables(100, 101))[0][3]
    assert "200 columns" in lint_of(tables(201))[0][3]


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        ({}, "/event/payload"),
        ({"payload": [1]}, "/event/payload"),
        ({"payload": "a"}, "/event/payload"),
        ({"payload": {}, "text": "a\n1"}, "/event/content_type"),
        ({"payload": {}, "text": "a\n1", "content_type": "text/csv"}, "/event/text"),
        ({"content_type": "text/csv"}, "/event/text"),
        ({"content_type": "text/csv", "text": "a,b\n1\n"}, "/event/text"),
        ({"content_type": "text/csv", "text": "a\n1\n2\n"}, "/event/text"),
        ({"content_type": "text/csv; x", "text": "a\n1\n"}, "/event/text"),
        ({"content_type": "secret", "text": "a\n1\n"}, "/event/content_type"),
        ({"payload": {}, "id": "\x01secret"}, "/event/id"),
        ({"payload": {}, "source_name": ""}, "/event/source_name"),
        ({"payload": {}, "occurred_at": "secret"}, "/event/occurred_at"),
        ({"payload": {}, "type": 7}, "/event/type"),
        ({"payload": {}, "secret": 7}, "/event"),
        ("secret", "/event"),
    ],
)
def test_an_event_that_is_none_is_refused_without_what_was_sent(event: object, pointer: str) -> None:
    [(told, detail)] = refused(SHOP, event)

    assert told == pointer
    assert detail
    assert "secret" not in detail


@pytest.mark.parametrize(
    ("request_", "pointer"),
    [
        ({"files": {}, "event": EVENT}, "/file"),
        ({"files": {"a.toml": HEAD, "b.toml": HEAD}, "event": EVENT}, "/file"),
        ({"files": {"a.toml": HEAD}, "file": "b.toml", "event": EVENT}, "/file"),
        ({"files": {"a.toml": 7}, "event": EVENT}, "/files/*"),
        ({"files": {"a.toml": HEAD}}, "/event"),
        ({"event": EVENT}, "/files"),
        ([], ""),
    ],
)
def test_a_request_without_a_pipeline_or_an_event_is_refused(request_: Any, pointer: str) -> None:  # noqa: ANN401 - JSON
    answer = read_answer(answer_trial(msgspec.json.encode(request_)))

    assert isinstance(answer, Refused)
    assert [each.pointer for each in answer.problems] == [pointer]


def test_the_pipeline_file_is_named_where_there_are_several() -> None:
    files = {
        "shop.toml": HEAD + 'include = ["more.toml"]\n',
        "more.toml": '[[table]]\nname = "t"\n[table.columns]\na = "/a"\n',
    }

    answer = read_answer(
        answer_trial(msgspec.json.encode({"file": "shop.toml", "files": files, "event": {"payload": {"a": "b"}}}))
    )

    assert isinstance(answer, Tried)
    assert msgspec.json.decode(answer.result)["rows"] == {"t": [{"a": "b"}]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"files": NaN}', b"\xff", b"{}{}", b'{"event": {"payload": {"a": NaN}}}']
)
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    answer = read_answer(answer_trial(body))

    assert isinstance(answer, Refused)
    assert answer.malformed or answer.problems


@pytest.mark.parametrize("deep", ["[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000])
def test_json_that_is_too_deep_is_refused(deep: str) -> None:
    body = b'{"files": {"shop.toml": %b}, "event": {"payload": {"a": %b}}}' % (msgspec.json.encode(SHOP), deep.encode())

    assert isinstance(read_answer(answer_trial(body)), Refused)


def test_rows_that_are_larger_than_an_answer_are_refused() -> None:
    text = HEAD + '[[table]]\nname = "t"\nat = "/a/*"\n[table.columns]\nlong = "/long"\n'
    payload = {"a": [1] * 100, "long": "x" * (ANSWER_BYTES_MAX // 100)}

    assert refused(text, {"payload": payload}) == [("/event", "makes rows of more than 1 MiB together")]


def test_an_event_of_too_many_rows_fails_as_it_would_when_stored() -> None:
    text = HEAD + '[[table]]\nname = "t"\nat = "/a/*"\n[table.columns]\nn = { from = "@index", type = "integer" }\n'

    result = tried(text, {"payload": {"a": [1] * 20_000}})

    assert (result.status, result.errors[0].code, result.rows) == ("FAILED", "too_many", {})


@pytest.mark.parametrize("example", [openapi._TRIED, openapi._TRIED_ROW])
def test_the_examples_of_the_description_become_what_it_says(example: object) -> None:
    answer = read_answer(answer_trial(msgspec.json.encode(example)))

    assert isinstance(answer, Tried)
    assert msgspec.json.decode(answer.result) == openapi._TRIED_RESULT
