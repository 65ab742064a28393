"""The record of a run, its tables on the terminal and in docs/benchmarks.md, and the chart beside it.

`python -m benchmarks.record` writes the page and the chart from the newest record of a whole run.
"""

import platform
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Line, Sample
from benchmarks.standing import Reading
from support.run_records import DOCS, Record, about_run, newest, path_of, table, with_part, write

PAGE: Final = DOCS / "benchmarks.md"
CHART: Final = DOCS / "benchmarks.svg"
_LIBRARIES: Final = (
    "uvicorn", "httptools", "uvloop", "grpcio", "protobuf", "msgspec", "asyncpg", "sqlalchemy", "aio-pika", "aiormq",
)  # fmt: skip
_LINES: Final = ("case", "bytes", "events/s", "p50 / p99 ms", "beside", "its events/s", "ratio", "required", "")
_PAGE_LINES: Final = ("case", "bytes", "events/s", "p50 / p99 ms", "ratio", "beside", "required", "")
_READINGS: Final = ("figure", "measured", "at most", "")
_BAR_PIXELS, _ROW_PIXELS, _LABEL_PIXELS = 420, 30, 300


def record_of(
    lines: Sequence[Line], readings: Sequence[Reading], *, arguments: str, facts: dict[str, str], whole: bool
) -> Record:
    """Return everything that was measured."""
    return about_run(whole=whole) | {
        "arguments": arguments,
        "machine": _machine() | facts,
        "lines": [_line(line) for line in lines],
        "readings": [msgspec.to_builtins(each) | {"missed": each.missed} for each in readings],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "case": line.case,
        "title": line.title,
        "payload": line.size,
        "rate": _rates(line.samples),
        "p50_ms": line.latency_ms("p50_ms"),
        "p99_ms": line.latency_ms("p99_ms"),
        "beside": line.beside,
        "limit": _rates(line.limits),
        "ratio": line.ratio,
        "ratio_min": line.ratio_min,
        "required": required(line),
        "missed": line.misses(),
        "peers": {peer: _rates(samples) for peer, samples in line.peer_samples.items()},
        "cpu_us_per_event": costs_us(line),
        "cpu_share_of_others": others_share(line),
        "resident_mib": line.cost.resident_mib,
        "samples": line.samples,
        "limits": line.limits,
    }


def _rates(samples: Sequence[Sample]) -> dict[str, float]:
    rates = [sample.rate for sample in samples]
    return {"median": statistics.median(rates), "lowest": min(rates), "highest": max(rates)}


def costs_us(line: Line) -> dict[str, float]:
    """Return the CPU microseconds of each program per event, the highest first."""
    events = sum(sample.events for sample in line.samples)
    spent = {name: 1e6 * seconds / events for name, seconds in line.cost.cpu_seconds.items()}
    return {name: us for name, us in sorted(spent.items(), key=lambda item: -item[1]) if us >= 0.1}


def others_share(line: Line) -> float:
    """Return which part of the CPU time went to programs that were not measured."""
    return line.cost.others_seconds / line.cost.machine_seconds if line.cost.machine_seconds else 0.0


def required(line: Line) -> str:
    """Return what is required of a line."""
    asked = (
        ("≥ {:.2f} of it", line.ratio_min),
        ("≥ {:,.0f}/s", line.rate_min),
        ("p50 ≤ {:g} ms", line.p50_ms_max),
        ("p99 ≤ {:g} ms", line.p99_ms_max),
    )
    return ", ".join(text.format(value) for text, value in asked if value is not None)


def missed(record: Record) -> list[str]:
    """Return the titles of all figures that are missed."""
    return [each["title"] for each in (*record["lines"], *record["readings"]) if each["missed"]]


def show(console: Console, record: Record) -> None:
    """Print the tables."""
    lines = Table(*_LINES)
    for line in record["lines"]:
        lines.add_row(
            line["title"], line["payload"], _range(line["rate"]), _latencies(line), line["beside"],
            _range(line["limit"]), f"{line['ratio']:.2f}", line["required"], _result(line),
            style="red" if line["missed"] else "",
        )  # fmt: skip
        for peer, rates in line["peers"].items():
            lines.add_row("", "", "", "", peer, _range(rates), "", "", "")
    console.print(lines)
    readings = Table(*_READINGS, "")
    for each in record["readings"]:
        readings.add_row(*_reading(each), each["detail"], style="red" if each["missed"] else "")
    console.print(readings)


def show_progress(console: Console, measured: Line) -> None:
    """Print one line as soon as it is measured."""
    line = _line(measured)
    spent = ", ".join(f"{name} {us:.0f}" for name, us in line["cpu_us_per_event"].items())
    resident = ", ".join(f"{name} {mib:.0f}" for name, mib in line["resident_mib"].items())
    console.print(
        f"{line['title']}, {line['payload']}: {_range(line['rate'])}/s, {line['beside']} {_range(line['limit'])}/s,"
        f" ratio {line['ratio']:.2f}\n"
        f"    CPU microseconds an event: {spent}; other programs {line['cpu_share_of_others']:.0%} of the CPU;"
        f" resident MiB: {resident}"
    )


def save(record: Record) -> None:
    """Write the record, and the page and the chart that show the newest one."""
    write(path_of("benchmarks", record), record)
    write_pages()


def write_pages() -> None:
    """Write the page and the chart of the newest record."""
    PAGE.write_text(current_page(), encoding="utf-8")
    CHART.write_text(current_chart(), encoding="utf-8")


def current_page() -> str:
    """Return docs/benchmarks.md with the newest run in it."""
    record = newest("benchmarks")
    at, machine = record["finished_at"], record["machine"]
    lines = (
        (line["title"], line["payload"], f"{line['rate']['median']:,.0f}", _latencies(line), f"{line['ratio']:.2f}",
         line["beside"], line["required"], _result(line))
        for line in record["lines"]
    )  # fmt: skip
    part = (
        f"{at[:10]} {at[11:16]} UTC, arguments `{record['arguments']}`: {machine['cores']} cores, {machine['CPU']},"
        f" {machine['memory']}, Python {machine['Python']}, PostgreSQL {machine['PostgreSQL']}."
        f" [Record](records/{record['file']}).\n\n"
        f"{table(_PAGE_LINES, lines)}\n{table(_READINGS, map(_reading, record['readings']))}"
    )
    return with_part(PAGE.read_text(encoding="utf-8"), part)


def current_chart() -> str:
    """Return a chart of the newest run: each rate as a part of its limit's, with what is required, as SVG."""
    lines = newest("benchmarks")["lines"]
    width, height = _LABEL_PIXELS + _BAR_PIXELS + 180, _ROW_PIXELS * (len(lines) + 2)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LABEL_PIXELS}" y="20" fill="#333">rate as a part of the limit measured beside it</text>',
        *(element for number, line in enumerate(lines, 1) for element in _bar(line, number * _ROW_PIXELS)),
        f'<text x="{_LABEL_PIXELS}" y="{height - 13}" fill="#c33">red: what is required</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(line: dict[str, Any], y: int) -> Iterator[str]:
    ratio, rate = line["ratio"], line["rate"]["median"]
    length, right = _BAR_PIXELS * min(ratio, 1.0), _LABEL_PIXELS + _BAR_PIXELS + 8
    yield f'<text x="{_LABEL_PIXELS - 8}" y="{y + 17}" text-anchor="end">{line["title"]} ({line["payload"]})</text>'
    yield f'<rect x="{_LABEL_PIXELS}" y="{y + 3}" width="{_BAR_PIXELS}" height="20" fill="#eee"/>'
    yield f'<rect x="{_LABEL_PIXELS}" y="{y + 3}" width="{length:.0f}" height="20" fill="#2a7"/>'
    yield f'<text x="{right}" y="{y + 17}">{rate:,.0f}/s ({ratio:.2f})</text>'
    if line["ratio_min"] is not None:
        x = _LABEL_PIXELS + _BAR_PIXELS * line["ratio_min"]
        yield f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{y}" y2="{y + 26}" stroke="#c33" stroke-width="2"/>'


def _range(rates: dict[str, float]) -> str:
    return f"{rates['median']:,.0f} ({rates['lowest']:,.0f} to {rates['highest']:,.0f})"


def _latencies(line: dict[str, Any]) -> str:
    return "" if line["p50_ms"] is None else f"{line['p50_ms']:.1f} / {line['p99_ms']:.1f}"


def _result(line: dict[str, Any]) -> str:
    return "; ".join(line["missed"]) or "reached"


def _reading(each: dict[str, Any]) -> tuple[str, ...]:
    most = "not judged" if each["most"] is None else f"{each['most']:g}"
    return each["title"], f"{each['value']:.2f} {each['unit']}", most, "missed" if each["missed"] else "reached"


def _machine() -> dict[str, str]:
    """Return what the figures depend on."""
    described = Path("/proc/cpuinfo").read_text().splitlines()
    models = (text.partition(":")[2].strip() for text in described if "model name" in text)
    return {
        "cores": str(psutil.cpu_count()),
        "CPU": next(models, platform.machine()),
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


if __name__ == "__main__":
    write_pages()
