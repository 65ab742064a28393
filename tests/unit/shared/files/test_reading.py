"""How the content of a file is opened: formats, packings, limits."""

import gzip
from pathlib import Path

import pytest
import zstandard

from shared.files.limits import USUAL_LIMITS, ReadLimits, UsualLimits
from shared.files.reading import FileKind, Format, kind_of, open_rows
from shared.files.rows import Piece, Row, UnreadableError

LINES = b"".join(b'{"id": %d, "text": "%d"}\n' % (number, number**7) for number in range(20_000))


def read(path: Path, limits: ReadLimits = USUAL_LIMITS) -> list[Piece]:
    with path.open("rb", buffering=0) as file:
        return list(open_rows(file, kind_of(path.name), limits).chunks.pieces)


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.json", FileKind(Format.JSON, "")),
        ("a.b.NDJSON.GZ", FileKind(Format.LINES, "gz")),
        ("a.jsonl.zst", FileKind(Format.LINES, "zst")),
        ("new\nline.csv", FileKind(Format.CSV, "")),
    ],
)
def test_the_name_tells_format_and_packing(name: str, kind: FileKind) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize("name", ["a", "a.txt", "a.gz", "json", "a.json.bz2", "a.json.gz.gz", "a.xlsx"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UnreadableError):
        kind_of(name)


@pytest.mark.parametrize(
    "content",
    [
        b'[{"a": 1}, {"a": 2}]',
        b'\xef\xbb\xbf \n [\n{"a": 1},{"a": 2}\n]\n',
        b'{"a": 1}\n{"a": 2}\n',
        b'\n{"a": 1}\r\n\r\n{"a": 2}',
    ],
)
def test_json_may_be_an_array_or_lines(tmp_path: Path, content: bytes) -> None:
    rows = read(written(tmp_path, "a.json", content))

    assert [row.body for row in rows if isinstance(row, Row)] == [b'{"a": 1}', b'{"a": 2}']


@pytest.mark.parametrize("content", [b'{\n"a":\n{"b": 1}\n}', b'{"items": [\n{"a": 1}\n', b'{"a": 1},\n{"b": 2}\n'])
def test_an_object_over_several_lines_is_one_row_even_where_it_is_broken(tmp_path: Path, content: bytes) -> None:
    """Its lines may look like events, and are none."""
    rows = read(written(tmp_path, "a.json", content))

    assert rows == [Row(1, content.strip())]


@pytest.mark.parametrize("content", [b"", b" \n", b"hello", b"1", b"\xff\xfe[\x00"])
def test_other_content_is_no_json_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read(written(tmp_path, "a.json", content))


def frames(content: bytes) -> bytes:
    """Two frames, the second without its size in the header."""
    half = len(content) // 2
    streaming = zstandard.ZstdCompressor(level=19).compressobj()
    return zstandard.compress(content[:half]) + streaming.compress(content[half:]) + streaming.flush()


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.ndjson.gz", gzip.compress(LINES)),
        ("a.ndjson.gz", gzip.compress(LINES[:1000]) + gzip.compress(LINES[1000:]) + b"\0" * 512),
        ("a.ndjson.zst", zstandard.compress(LINES)),
        ("a.ndjson.zst", frames(LINES)),
    ],
)
def test_packed_content_is_the_content(tmp_path: Path, name: str, packed: bytes) -> None:
    rows = read(written(tmp_path, name, packed))

    assert b"".join(row.body + b"\n" for row in rows if isinstance(row, Row)) == LINES


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("a.ndjson.gz", gzip.compress(LINES)[:-20_000]),
        ("a.ndjson.gz", gzip.compress(LINES)[:-4]),
        ("a.ndjson.zst", zstandard.compress(LINES)[:-20_000]),
        ("a.ndjson.zst", zstandard.compress(LINES) + zstandard.compress(LINES)[:-1]),
    ],
)
def test_packed_content_that_is_cut_off_says_so_after_its_rows(tmp_path: Path, name: str, packed: bytes) -> None:
    taken: list[Piece] = []

    with written(tmp_path, name, packed).open("rb", buffering=0) as file:
        rows = open_rows(file, kind_of(name), USUAL_LIMITS).chunks.pieces
        with pytest.raises(UnreadableError, match="cut off"):
            taken.extend(rows)

    assert taken[0] == Row(1, b'{"id": 0, "text": "0"}')


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.ndjson.zst"])
@pytest.mark.parametrize("content", [LINES[:100], b"\x1f\x8b\x08\x00garbage" * 9, b"\x28\xb5\x2f\xfd" + b"\xff" * 64])
def test_what_is_not_packed_as_its_name_says_is_unreadable(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"damaged|cut off"):
        read(written(tmp_path, name, content))


@pytest.mark.parametrize("name", ["bomb.ndjson.gz", "bomb.ndjson.zst"])
def test_a_bomb_is_not_unpacked(tmp_path: Path, name: str) -> None:
    zeros = b"\0" * (256 * 1024 * 1024)
    packed = gzip.compress(zeros, 9) if name.endswith("gz") else zstandard.compress(zeros)

    with pytest.raises(UnreadableError, match="times its packed size"):
        read(written(tmp_path, name, packed))


def test_unpacked_content_has_a_limit(tmp_path: Path) -> None:
    path = written(tmp_path, "a.ndjson.gz", gzip.compress(LINES))

    with pytest.raises(UnreadableError, match="larger than 100000 bytes"):
        read(path, UsualLimits(files_unpacked_bytes_max=100_000))


def test_fields_over_the_libraries_limit_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", b'id,text\n1,"' + b'x""' * 70_000 + b'\n"\n')

    (row,) = read(path)

    assert isinstance(row, Row)
