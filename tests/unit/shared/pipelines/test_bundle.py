"""A version is the same bytes wherever its files were checked out, and holds all that decides a result."""

import hashlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pipelines.bundle import Bundle, BundleError, make_bundle, open_bundle
from shared.pipelines.document.problems import FileProblem
from shared.pipelines.document.reading import read_pipeline
from support.pipeline_texts import COLUMNS, FILE, HEAD, assert_told, reader

TEXT = (
    HEAD
    + 'include = ["parts/more.toml"]\n[contract]\nschema = "shop.json"\n'
    + '[money]\nunits = "minor"\nexponents = "own.toml"\n'
    + '[[file_check]]\nlisted = "a"\nin = { list = "lists/x.csv", column = "a" }\n'
)
FILES: dict[str, str | bytes] = {
    "parts/more.toml": '[[table]]\nname = "t"\n[table.columns]\na = "/a"\n',
    "shop.json": '{"type": "object"}\r\n',
    "own.toml": "UGX = 2\n",
    "lists/x.csv": "a\nä\n",
    "unnamed.txt": "not named",
}
FACTS = {"currencies": "2026-11-28", "zones": "2026.6"}


def bundle_of(text: str = TEXT, files: dict[str, str | bytes] = FILES, facts: dict[str, str] = FACTS) -> Bundle:
    """Return a bundle that has no problems."""
    bundle, problems = make_bundle(FILE, reader(text, files), facts)
    assert bundle is not None, problems
    return bundle


def problems_of(text: str, files: dict[str, str | bytes]) -> tuple[FileProblem, ...]:
    """Return what keeps files from being a bundle."""
    bundle, problems = make_bundle(FILE, reader(text, files))
    assert bundle is None
    return problems


def test_a_bundle_holds_every_file_that_is_named() -> None:
    bundle = bundle_of()

    assert sorted(bundle.files) == ["lists/x.csv", "own.toml", "parts/more.toml", "shop.json", "shop.toml"]
    assert bundle.read("own.toml") == bundle.contents["own.toml"] == b"UGX = 2\n"
    assert bundle.read("unnamed.txt") is None
    assert read_pipeline(bundle.file, bundle.read) == read_pipeline(FILE, reader(TEXT, FILES))


def test_the_bytes_are_a_json_object_with_sorted_keys() -> None:
    bundle = bundle_of(HEAD, {}, {"zones": "2026.6", "currencies": "2026-11-28"})

    assert bundle.content == (
        b'{"currencies":"2026-11-28","file":"shop.toml","files":{"shop.toml":"etlpay = 1\\nname = \\"shop\\"\\n'
        b'source = \\"shop\\"\\n"},"format":1,"zones":"2026.6"}'
    )
    assert bundle.sha256 == hashlib.sha256(bundle.content).hexdigest()


def test_line_ends_of_windows_make_no_other_version() -> None:
    files: dict[str, str | bytes] = {
        name: str(text).replace("\r\n", "\n").replace("\n", "\r\n") for name, text in FILES.items()
    }

    assert bundle_of(TEXT.replace("\n", "\r\n"), files) == bundle_of()


@pytest.mark.parametrize("name", ["parts/more.toml", "shop.json", "own.toml", "lists/x.csv", FILE])
def test_another_content_of_a_file_is_another_version(name: str) -> None:
    text = TEXT + "# more\n" if name == FILE else TEXT
    files = {**FILES, name: f"{FILES[name]!s}\n"} if name != FILE else FILES

    assert bundle_of(text, files).sha256 != bundle_of().sha256


def test_another_fact_is_another_version() -> None:
    assert bundle_of(facts={**FACTS, "hmac_key": "k2"}).sha256 != bundle_of(facts={**FACTS, "hmac_key": "k1"}).sha256


@given(st.dictionaries(st.sampled_from(["currencies", "zones", "hmac_key"]), st.text()))
def test_a_bundle_comes_back_from_its_bytes(facts: dict[str, str]) -> None:
    bundle = bundle_of(facts=facts)

    assert open_bundle(bundle.content) == bundle


@pytest.mark.parametrize("name", ["format", "file", "files"])
def test_a_fact_cannot_replace_a_part_of_the_version(name: str) -> None:
    with pytest.raises(ValueError, match=f"no fact can be named {name}"):
        make_bundle(FILE, reader(HEAD), {name: "x"})


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "no JSON object"),
        (b"\xff", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"[" * 5000, "no JSON object"),
        (b"{}", "a format that is not known"),
        (b'{"format":2}', "a format that is not known"),
        (b'{"file":"a","format":1}', "lack a part"),
        (b'{"file":"a","files":{"a":1},"format":1}', "lack a part"),
        (b'{"file":"a","files":{},"format":1,"zones":1}', "lack a part"),
        (b'{"format":1,"file":"a","files":{}}', "canonical order"),
    ],
)
def test_bytes_that_are_no_version_are_refused(content: bytes, detail: str) -> None:
    with pytest.raises(BundleError, match=detail):
        open_bundle(content)


@given(st.binary() | st.dictionaries(st.sampled_from(["format", "file", "files"]), st.just(1)).map(msgspec.json.encode))
def test_no_bytes_stop_the_opening(content: bytes) -> None:
    with pytest.raises(BundleError):
        open_bundle(content)


@pytest.mark.parametrize(
    ("change", "path", "line", "detail"),
    [
        ({"shop.json": None}, "contract.schema", 6, "is not there"),
        ({"own.toml": b"\xff"}, "money.exponents", 9, "is no UTF-8"),
        ({"lists/x.csv": b"a" * (1 << 20)}, "file_check[0].in.list", 12, "larger than 1 MiB together"),
    ],
)
def test_a_file_that_cannot_be_kept_is_told(change: dict[str, bytes | None], path: str, line: int, detail: str) -> None:
    files = {name: content for name, content in {**FILES, **change}.items() if content is not None}

    problems = problems_of(TEXT, files)

    assert_told(problems, path, detail)
    assert problems[0].line == line


@pytest.mark.parametrize("name", ["../shop.toml", "/work/shop.toml", "a/../../shop.toml", "C:\\shop.toml"])
def test_the_path_of_a_machine_is_in_no_version(name: str) -> None:
    bundle, problems = make_bundle(name, lambda _: HEAD.encode())

    assert bundle is None
    assert problems[0].path == ""


def test_a_file_elsewhere_is_in_no_version() -> None:
    assert_told(
        problems_of(HEAD + '[contract]\nschema = "../a.json"\n', {"../a.json": "{}"}), "contract.schema", "leaves"
    )


def test_a_file_that_cannot_be_read_is_no_version() -> None:
    assert_told(problems_of("a = ", {}), "", "a value is missing")


def test_a_version_has_limits() -> None:
    tables = "".join(f"[[table]]\nname = 't{n}'\n[table.columns]\na = '/a'\n" for n in range(51))
    columns = "".join(f"c{n} = '/c'\n" for n in range(201))

    assert_told(problems_of(HEAD + tables, {}), "table", "more than 50 tables")
    assert_told(problems_of(COLUMNS + columns, {}), "table[0].columns", "more than 200 columns")


def test_the_examples_are_versions() -> None:
    folder = Path(__file__).resolve().parents[4] / "pipelines" / "examples"

    def read(name: str) -> bytes | None:
        path = folder / name
        return path.read_bytes() if path.is_file() else None

    names = [each.name for each in folder.glob("*.toml") if not each.name.endswith(".test.toml")]
    made = [make_bundle(name, read) for name in names]

    assert names
    assert [problems for bundle, problems in made if bundle is None] == []
