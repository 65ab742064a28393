"""`etlpay pipeline dbt` prints the views of pipelines as sources of dbt."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from etlpay_cli.__main__ import app
from support.servers import CHECKOUT

EXAMPLES = CHECKOUT / "pipelines" / "examples"


def printed(path: Path, code: int = 0) -> Any:  # noqa: ANN401 - YAML
    result = CliRunner().invoke(app, ["pipeline", "dbt", str(path)])
    assert result.exit_code == code, result.output
    return yaml.safe_load(result.stdout)


def test_each_view_is_a_table_of_the_source_with_its_columns() -> None:
    [source] = printed(EXAMPLES / "orders.toml")["sources"]
    tables = {table["name"]: table for table in source["tables"]}

    assert (source["name"], source["schema"]) == ("orders", "data")
    assert {"orders", "order_lines", "orders_totals"} <= tables.keys()
    columns = {column["name"]: column["data_type"] for column in tables["orders"]["columns"]}
    assert columns["_loaded_at"] == "timestamptz"
    assert columns["gross"] == "numeric"


def test_freshness_is_asked_where_rows_say_when_they_were_loaded() -> None:
    [source] = printed(EXAMPLES / "orders.toml")["sources"]
    tables = {table["name"]: table for table in source["tables"]}

    assert source["config"]["loaded_at_field"] == "_loaded_at"
    assert source["config"]["freshness"] == {"warn_after": {"count": 24, "period": "hour"}}
    assert tables["orders_totals"]["config"] == {"freshness": None}
    assert "config" not in tables["orders"]


def test_every_example_is_told() -> None:
    names = {source["name"] for source in printed(EXAMPLES)["sources"]}

    assert names == {path.stem for path in EXAMPLES.glob("*.toml") if not path.name.endswith(".test.toml")}


@pytest.mark.parametrize("about", ['a "quoted" text: # no comment', "línea\twith a tab", "- {a: b}", "100 %"])
def test_what_a_text_says_stays_as_it_is(tmp_path: Path, about: str) -> None:
    file = tmp_path / "p.toml"
    written = about.replace('"', '\\"').replace("\t", "\\t")
    file.write_text(
        f'etlpay = 1\nname = "p"\nsource = "p"\nabout = "{written}"\n[[table]]\nname = "t"\n'
        f'about = "{written}"\n[table.columns]\na = {{ from = "/a", about = "{written}" }}\n'
    )

    [source] = printed(file)["sources"]

    assert source["description"] == source["tables"][0]["description"] == about
    assert source["tables"][0]["columns"][0]["description"] == about


def test_names_that_mean_something_in_yaml_stay_names(tmp_path: Path) -> None:
    (tmp_path / "no.toml").write_text(
        'etlpay = 1\nname = "no"\nsource = "x"\n[[table]]\nname = "yes"\n[table.columns]\noff = "/a"\n'
    )

    [source] = printed(tmp_path)["sources"]

    assert (source["name"], source["tables"][0]["name"]) == ("no", "yes")
    assert source["tables"][0]["columns"][0]["name"] == "off"


def test_a_file_with_errors_makes_no_sources(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('etlpay = 1\nname = "p"\nsource = "p"\n[[table]]\nname = "T 1"\n')

    result = CliRunner().invoke(app, ["pipeline", "dbt", str(tmp_path)])

    assert result.exit_code == 1
    assert "sources" not in result.stdout
