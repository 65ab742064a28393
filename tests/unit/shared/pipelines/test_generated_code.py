"""Generated code holds nothing of a file, and what an event may cost has a limit."""

import ast
import builtins
import re
import traceback
from typing import Any

import pytest

from shared.pipelines.codegen.spots import CompileError
from shared.pipelines.codegen.variants import EventState
from shared.pipelines.compiling import HEADERS_MAX, compile_pipeline
from shared.pipelines.model import (
    Alternative,
    Check,
    Column,
    ColumnType,
    EventRules,
    Join,
    Otherwise,
    Pipeline,
    Sign,
    Table,
    ZoneNames,
)
from support.pipeline_events import ABOUT, causes, told

EVIL = (
    *('"', "'", '"""', "\n", "\\", "{", "}", "{0}", "%s", "#", ";", "\u2028", "$(x)", "`x`"),
    *("__import__('os').system('x')", "');raise SystemExit(1)#", "\n    import os", "__proto__", "__class__", "None"),
    *("constructor", "self", "rows", "C0", "a1", "\ud83d\ude00", "x" * 5_000),
)
SHAPE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def pipeline(*tables: Table, **parts: Any) -> Pipeline:  # noqa: ANN401 - parts of the file
    return Pipeline(etlpay=1, name="p", source="s", table=tables, **parts)


def hostile(text: str) -> Pipeline:
    """Return a pipeline that says a text wherever a file can."""
    step = text.replace("~", "~0").replace("/", "~1")
    columns = {
        text: Column(from_=f"/{step}"),
        "listed": Column(from_=(f"./{step}", Alternative(text)), values=(text,), otherwise=Otherwise(text)),
        "mapped": Column(from_=text, values={text: text}, otherwise="note"),
        "joined": Column(from_=Join((text, f"/{step}/{step}"), text)),
        "fixed": Column(value=text),
        "whole": Column(from_=text, type="integer", sign=Sign(f"/{step}", (text,), (text + "+",))),
        "at": Column(from_=text, type="timestamp", as_="%Y-%m-%d %H:%M:%S", zone=ZoneNames(text, {text: "+01:00"})),
        "layout": Column(from_=text, type="date", as_=f"%Y-%m-%d{text.replace('%', '%%')}"),
    }
    return pipeline(
        Table(
            name=text,
            columns=columns,
            types=(text, f"{text}*"),
            when={f"/{step}": (text, "x")},
            gone={text: "gone"},
            key=(text,),
            check=(Check("whole <= 5"),),
        ),
        event=EventRules(type=f"/{step}"),
        mask={f"/{step}/m": "hmac"},
    )


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_no_text_of_a_file_reaches_the_code(text: str) -> None:
    program = compile_pipeline(hostile(text))
    harmless = compile_pipeline(hostile("harmless"))
    header = (text, "other")

    assert program.source_code == harmless.source_code
    assert program.source_of_header(header) == harmless.source_of_header(("harmless", "other"))


@pytest.mark.parametrize("text", EVIL, ids=range(len(EVIL)))
def test_names_of_any_form_are_read(text: str) -> None:
    program = compile_pipeline(
        pipeline(Table("t", {"c": Column(from_=f"./{text.replace('~', '~0').replace('/', '~1')}")}))
    )

    assert program.run({text: "found"}, ABOUT).rows[0].values == ("found",)
    assert program.run_row((text,), ("found",), ABOUT).rows[0].values == ("found",)


def every_option() -> Pipeline:
    types: tuple[ColumnType, ...] = (
        *("text", "integer", "decimal", "boolean", "timestamp", "date", "uuid", "json", "currency", "country"),
    )
    columns = {f"c{number}": Column(type=kind) for number, kind in enumerate(types)}
    columns["amount"] = Column(type="money", currency="c8", min=1, max=99)
    at = Table("t", columns, at="/l/*/m/*", types=("x",), key=("c0",), check=("amount <= 5", "c1 = sum(t.c2)"))
    return pipeline(at, Table("u", columns), event=EventRules(type="/l/*/type"))


def test_the_code_knows_no_float_and_few_names() -> None:
    source = compile_pipeline(every_option()).source_code + compile_pipeline(every_option()).source_of_header(
        ("c0", "c1")
    )
    numbers = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    texts = {value for value in numbers if isinstance(value, str)}

    assert "float" not in source
    assert not any(isinstance(value, float) for value in numbers)
    assert texts <= {"", "type"}
    assert "import" not in source
    assert all(SHAPE.fullmatch(name) for name in re.findall(r"[^\W\d]\w*", source))


def test_the_code_runs_without_the_builtins_of_python() -> None:
    program = compile_pipeline(pipeline(Table("t", {"c": Column()})))
    scope = program._json.tables("")[0].__globals__

    assert scope["__builtins__"] is not builtins.__dict__
    assert set(scope["__builtins__"]) == {"dict", "int", "len", "list", "str", "type"}


def test_a_traceback_shows_the_line_of_the_code() -> None:
    program = compile_pipeline(pipeline(Table("t", {"c": Column()})))

    with pytest.raises(AttributeError) as raised:
        program._json.tables("")[0]({}, ABOUT, "", None)  # type: ignore[arg-type] # provokes an error in the code

    assert "rows = state.rows" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("count", [10_000, 10_001])
def test_an_event_makes_ten_thousand_rows_at_most(count: int) -> None:
    program = compile_pipeline(pipeline(Table("t", {"c": Column(from_="@index", type="integer")}, at="/l/*")))

    made = program.run({"l": [None] * count}, ABOUT)

    assert len(made.rows) == (count if count <= 10_000 else 0)
    assert causes(made) == ([] if count <= 10_000 else ["p:too_many"])


def test_a_huge_array_is_left_after_ten_thousand_rows() -> None:
    program = compile_pipeline(pipeline(Table("t", {"c": Column()}, at="/l/*")))
    state = EventState()

    program._json.tables("")[0]({"l": [None] * 100_000}, ABOUT, "", state)

    assert len(state.rows) == 10_001


def test_all_tables_together_make_ten_thousand_rows_at_most() -> None:
    column = {"c": Column(from_="@index", type="integer")}
    program = compile_pipeline(pipeline(*(Table(f"t{number}", column, at="/l/*") for number in range(3))))

    assert causes(program.run({"l": [None] * 4_000}, ABOUT)) == ["p:too_many"]


def test_a_hundred_problems_of_an_event_are_told() -> None:
    program = compile_pipeline(
        pipeline(Table("t", {"c": Column(required=True), "d": Column(required=True)}, at="/l/*"))
    )

    made = program.run({"l": [{}] * 100_000}, ABOUT)

    assert len(made.problems) == 100
    assert made.problems[99].pointer == "/l/49/d"
    assert set(causes(made)) == {"p.t.c:missing", "p.t.d:missing"}


def test_functions_are_kept_for_some_headers_and_some_types() -> None:
    program = compile_pipeline(pipeline(Table("t", {"c": Column()}, types=("x*",))))

    for number in range(HEADERS_MAX + 5):
        assert program.run_row(("c", str(number)), ("v", ""), ABOUT._replace(type="x")).rows[0].values == ("v",)
    for number in range(2_000):
        program.run({}, ABOUT._replace(type=f"x{number}"))

    assert len(program._headers) == HEADERS_MAX
    assert len(program._json._by_type) <= 1_024


def test_names_and_keys_in_pointers_are_escaped_and_short() -> None:
    program = compile_pipeline(pipeline(Table("t", {"c": Column(from_="@value", required=True)}, at="/l/*")))

    made = program.run({"l": {"a/b~c": None, "x\x00y": None, "z" * 500: None}}, ABOUT)

    assert list(told(made)) == ["/l/a~1b~0c", "/l/x\ufffdy", f"/l/{'z' * 100}"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (Table("t", {"c": Column(from_="/l/*/a")}), "at"),
        (Table("t", {"c": Column(from_="/m/*/a")}, at="/l/*"), "at"),
        (Table("t", {"c": Column()}, at="/*" * 9), "more than 8"),
        (Table("t", {"c": Column(from_="a.b")}), "did you mean /a/b"),
        (Table("t", {"c": Column(type="money")}), "currency"),
        (Table("t", {"c": Column(type="money", currency="d"), "d": Column()}), "currency"),
        (Table("t", {"c": Column(type="timestamp", as_="%Q", zone="UTC")}), "directive"),
        (Table("t", {"c": Column(type="timestamp", as_="%Y-%m-%d")}), "zone"),
        (Table("t", {"c": Column(type="timestamp", as_="%Y-%m-%d", zone="Mars/X")}), "zone"),
        (Table("t", {"c": Column(type="integer", values=("x",))}), "c"),
        (Table("t", {"c": Column()}, check=("c <= 5",)), "no number"),
        (Table("t", {"c": Column(type="integer")}, check=("c <= sum(u.c)",)), "none of the pipeline"),
        (Table("t", {"c": Column(type="integer")}, check=("c * 5",)), "compare"),
        (Table("t", {"c": Column(type="integer")}, check=("c <= d",)), "no column"),
    ],
)
def test_what_cannot_be_compiled_is_said(table: Table, message: str) -> None:
    with pytest.raises(CompileError, match=message):
        compile_pipeline(pipeline(table))
