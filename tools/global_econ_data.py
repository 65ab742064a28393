"""Makes economic indicators of 20 countries and 30 years, with planted faults: `global_econ_data.py FOLDER`.

The same numbers come out each time. `global_econ_data.py FOLDER 3334`: of so many countries, in one file, without a
fault in a row.
"""

import csv
import random
import sys
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

COLUMNS: Final = (
    *("country_id", "country_name", "year", "Inflation (CPI %)", "GDP (Current USD)", "GDP per Capita (Current USD)"),
    *("Unemployment Rate (%)", "Interest Rate (Real, %)", "GDP Growth (% Annual)", "Current Account Balance (% GDP)"),
    "Public Debt (% of GDP)",
)
YEARS: Final = range(1995, 2025)
CSV: Final = "indicators.csv"
JSON: Final = "latest.json"
_SEED: Final = 7
_COUNTRIES: Final = {
    "AT": "Austria",
    "BR": "Brazil",
    "CH": "Switzerland",
    "DE": "Germany",
    "ES": "Spain",
    "FR": "France",
    "GB": "United Kingdom",
    "IN": "India",
    "IT": "Italy",
    "JP": "Japan",
    "KE": "Kenya",
    "NA": "Namibia",
    "NL": "Netherlands",
    "NO": "Norway",
    "PL": "Poland",
    "SE": "Sweden",
    "US": "United States",
    "XK": "Kosovo",
    "ZA": "South Africa",
    "FJ": "Fiji",
}
_NAME, _YEAR, _GDP, _UNEMPLOYMENT = 1, 2, 4, 6
_UNREAD: Final = "Inflation (GDP Deflator, %)"

Row = list[str]


class Planted(NamedTuple):
    """A fault, as the report must name it: file, rule, column, level, how many rows or groups, and the first places."""

    file: str
    rule: str
    column: str
    level: str
    rows: int
    places: list[int]


def rows_of(code: str, name: str, numbers: random.Random) -> list[Row]:
    """Return the rows of a country, a year each."""
    gdp = numbers.uniform(5e9, 9e12)
    rows: list[Row] = []
    for year in YEARS:
        growth = numbers.gauss(2.4, 2)
        gdp *= 1 + growth / 100
        rates = (numbers.uniform(2, 19), numbers.gauss(3, 2), growth, numbers.gauss(0, 5), numbers.uniform(20, 110))
        unemployment, *others = (f"{rate:.1f}" for rate in rates)
        inflation = f"{numbers.gauss(3, 1.5):.1f}"
        figures = (inflation, f"{gdp:.4E}", f"{gdp / 5e7:.1f}", unemployment, *others)
        rows.append([code, name, str(year), *figures])
    return rows


def table() -> list[Row]:
    """Return the rows of all countries, in order."""
    numbers = random.Random(_SEED)  # noqa: S311 - the same numbers each time, and no secret
    return [row for code, name in _COUNTRIES.items() for row in rows_of(code, name, numbers)]


def write_demo(folder: Path) -> list[Planted]:
    """Write a CSV file and a JSON file with faults, and return what was planted."""
    rows = table()
    return [*_write_json(folder / JSON, rows), *_write_faulty_csv(folder / CSV, rows)]


def write_csv(path: Path, rows: list[Row], header: tuple[str, ...] = COLUMNS) -> None:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_faulty_csv(path: Path, rows: list[Row]) -> list[Planted]:
    """Write the rows with a fault of each kind. A row's place is its line; the header is the first."""
    found = {(row[0], int(row[_YEAR])): row for row in rows}
    rows.remove(found["KE", 2021])
    back, forth = rows.index(found["BR", 2010]), rows.index(found["BR", 2011])
    rows[back], rows[forth] = rows[forth], rows[back]
    again = list(found["US", 2012])
    rows.insert(rows.index(found["US", 2012]) + 1, again)
    unlisted = [row for row in rows if row[0] == "FJ"]
    empty = [row for row in rows if row[0] in {"JP", "NL", "NO"}]
    for row in rows:
        row.append("1.5")
    for row in empty:
        row[_GDP] = ".."
    found["DE", 2001][_UNEMPLOYMENT] = "109.2"
    found["ES", 2003][_YEAR] = "2,003"
    found["FR", 2005][_NAME] = ""
    found["IN", 2007].pop()
    write_csv(path, rows, (*COLUMNS, _UNREAD))
    lines = {id(row): number for number, row in enumerate(rows, 2)}

    def at(rule: str, column: str, level: str, faulty: list[Row]) -> Planted:
        places = [lines[id(row)] for row in faulty]
        return Planted(CSV, rule, column, level, len(places), places)

    return [
        at("max", "unemployment", "error", [found["DE", 2001]]),
        at("type", "year", "error", [found["ES", 2003]]),
        at("missing", "country_name", "error", [found["FR", 2005]]),
        at("fields", "", "error", [found["IN", 2007]]),
        at("unique", "country, year", "error", [again]),
        at("listed", "country", "error", unlisted),
        at("ascending", "year by country", "error", [found["BR", 2010]]),
        at("complete", "year by country", "warning", [found["KE", YEARS[0]]]),
        at("filled", "gdp_usd", "warning", empty),
        at("unknown_member", _UNREAD, "note", [row for row in rows if row is not found["IN", 2007]]),
    ]


def _write_json(path: Path, rows: list[Row]) -> list[Planted]:
    """Write the last six years as a JSON array, with three faults. A row's place is its number in the array."""
    elements = [_element(row) for row in rows if row[0] != "FJ" and int(row[_YEAR]) >= YEARS[-6]]
    wrong = [number for number, element in enumerate(elements) if element["year"] == YEARS[-6]][:3]
    elements[wrong[0]]["year"] = str(YEARS[-6])
    elements[wrong[1]]["country_id"] = None
    elements[wrong[2]]["GDP (Current USD)"] = -1
    path.write_bytes(msgspec.json.encode(elements))
    faults = zip(("type", "missing", "min"), ("year", "country", "gdp_usd"), wrong, strict=True)
    return [Planted(JSON, rule, column, "error", 1, [number + 1]) for rule, column, number in faults]


def _element(row: Row) -> dict[str, str | int | float | None]:
    texts, numbers = row[:_YEAR], row[_YEAR + 1 :]
    return dict(zip(COLUMNS, (*texts, int(row[_YEAR]), *map(float, numbers)), strict=True))


def write_large(path: Path, countries: int) -> None:
    """Write a CSV file of so many countries of 30 years without a fault in a row; the countries repeat."""
    numbers = random.Random(_SEED)  # noqa: S311 - the same numbers each time, and no secret
    names = list(_COUNTRIES.items())
    rows = (row for number in range(countries) for row in rows_of(*names[number % len(names)], numbers))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 2:  # noqa: PLR2004 - the folder, and the number of countries
        write_large(target / CSV, int(sys.argv[2]))
    else:
        for fault in write_demo(target):
            print(*fault[:-1], fault.places[:3])
