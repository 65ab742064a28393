"""What was measured, for people and for programs: table, JSON, the dated page, the chart."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import Line, Sample
from benchmarks.standing import Reading

_LIBRARIES = (
    "uvicorn",
    "httptools",
    "uvloop",
    "grpcio",
    "protobuf",
    "msgspec",
    "asyncpg",
    "sqlalchemy",
    "aio-pika",
    "aiormq",
)
_BAR_PIXELS, _ROW_PIXELS, _LABEL_PIXELS = 420, 30, 300


def costs_us(line: Line) -> dict[str, float]:
    """Return the CPU microseconds that each program spent for an event, dearest first."""
    events = sum(sample.events for sample in line.samples)
    spent = {name: 1e6 * seconds / events for name, seconds in line.cost.cpu_seconds.items()}
    return {name: us for name, us in sorted(spent.items(), key=lambda item: -item[1]) if us >= 0.1}


def others_share(line: Line) -> float:
    """Return which part of the CPU that was spent meanwhile went to programs that were not measured."""
    return line.cost.others_seconds / line.cost.machine_seconds if line.cost.machine_seconds else 0.0


def show(console: Console, lines: Sequence[Line], readings: Sequence[Reading]) -> None:
    """Print the tables."""
    table = Table("case", "bytes", "events/s", "p50/p99 ms", "beside", "its events/s", "ratio", "required", "")
    for line in lines:
        missed = line.misses()
        table.add_row(
            line.title,
            line.size,
            _range(line.samples),
            _latencies(line.samples),
            line.beside,
            _range(line.limits),
            f"{line.ratio:.2f}",
            required(line),
            "[red]" + "; ".join(missed) if missed else "[green]reached",
        )
        for peer, samples in line.peer_samples.items():
            table.add_row("", "", "", "", peer, _range(samples), "", "", "")
    console.print(table)
    figures = Table("figure", "measured", "at most", "", "")
    for each in readings:
        verdict = "[red]missed" if each.missed else "[green]reached"
        figures.add_row(each.title, f"{each.value:.2f} {each.unit}", f"{each.most:g}", verdict, each.detail)
    console.print(figures)


def show_progress(console: Console, line: Line) -> None:
    """Print one line as soon as it is measured."""
    spent = ", ".join(f"{name} {us:.0f}" for name, us in costs_us(line).items())
    console.print(
        f"{line.title}, {line.size}: {_range(line.samples)}/s, {line.beside} {_range(line.limits)}/s,"
        f" ratio {line.ratio:.2f}\n"
        f"    CPU microseconds an event: {spent}; other programs {others_share(line):.0%} of the CPU;"
        f" resident MiB: {_resident(line)}"
    )


def required(line: Line) -> str:
    """Return what is asked of a line."""
    asked = (
        ("≥ {:.2f} of it", line.ratio_min),
        ("≥ {:,.0f}/s", line.rate_min),
        ("p50 ≤ {:g} ms", line.p50_ms_max),
        ("p99 ≤ {:g} ms", line.p99_ms_max),
    )
    return ", ".join(text.format(value) for text, value in asked if value is not None)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    model = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in text
        ),
        platform.machine(),
    )
    return {
        "cores": str(psutil.cpu_count()),
        "CPU": model,
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def write_json(
    path: Path, lines: Sequence[Line], readings: Sequence[Reading], arguments: str, servers: dict[str, str]
) -> None:
    """Write everything that was measured."""
    report = {
        "measured_at": datetime.now(UTC),
        "arguments": arguments,
        "machine": machine() | servers,
        "lines": [
            {
                "case": line.case,
                "title": line.title,
                "payload": line.size,
                "beside": line.beside,
                "samples": line.samples,
                "limits": line.limits,
                "peers": line.peer_samples,
                "rate": line.rate,
                "ratio": line.ratio,
                "required": required(line),
                "missed": line.misses(),
                "cpu_us_per_event": costs_us(line),
                "cpu_share_of_others": others_share(line),
                "resident_mib": line.cost.resident_mib,
            }
            for line in lines
        ],
        "readings": readings,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def append_page(
    page: Path, lines: Sequence[Line], readings: Sequence[Reading], arguments: str, servers: dict[str, str]
) -> None:
    """Append the dated results to the page."""
    facts = ", ".join(f"{name} {value}" for name, value in (machine() | servers).items())
    parts = [
        f"\n### {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n",
        f"{'`make bench`' if not arguments else f'`make bench` with `{arguments}`'}; {facts}.\n",
        "| case | payload | events/s: median (range) | p50 / p99 ms | beside | its events/s | ratio | required | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        parts.append(
            f"| {line.title} | {line.size} | {_range(line.samples)} | {_latencies(line.samples)} | {line.beside} |"
            f" {_range(line.limits)} | **{line.ratio:.2f}** | {required(line)} |"
            f" {'; '.join(line.misses()) or 'reached'} |"
        )
        parts += [f"| | | | | {peer} | {_range(samples)} | | | |" for peer, samples in line.peer_samples.items()]
    parts += ["", "| figure | measured | at most | | |", "|---|---|---|---|---|"]
    parts += [
        f"| {each.title} | {each.value:.2f} {each.unit} | {each.most:g} | {'missed' if each.missed else 'reached'} |"
        f" {each.detail} |"
        for each in readings
    ]
    parts += ["", "CPU microseconds an event, by program; the first is the bottleneck where it fills a core:\n"]
    for line in lines:
        spent = ", ".join(f"{name} {us:.1f}" for name, us in costs_us(line).items())
        parts.append(
            f"- {line.title}, {line.size}: {spent}. Programs that were not measured: {others_share(line):.0%}."
            f" Resident MiB at most: {_resident(line)}."
        )
    with page.open("a", encoding="utf-8") as file:
        file.write("\n".join(parts) + "\n")


def draw(path: Path, lines: Sequence[Line]) -> None:
    """Draw each case's rate as a part of its limit's, with what is required, as SVG."""
    height = _ROW_PIXELS * (len(lines) + 2)
    width = _LABEL_PIXELS + _BAR_PIXELS + 180
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="13">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LABEL_PIXELS}" y="20" fill="#333">rate as a part of the limit measured beside it</text>',
    ]
    for number, line in enumerate(lines, 1):
        y = number * _ROW_PIXELS
        length = _BAR_PIXELS * min(line.ratio, 1.0)
        parts += [
            f'<text x="{_LABEL_PIXELS - 8}" y="{y + 17}" text-anchor="end">{line.title} ({line.size})</text>',
            f'<rect x="{_LABEL_PIXELS}" y="{y + 3}" width="{_BAR_PIXELS}" height="20" fill="#eee"/>',
            f'<rect x="{_LABEL_PIXELS}" y="{y + 3}" width="{length:.0f}" height="20" fill="#2a7"/>',
            f'<text x="{_LABEL_PIXELS + _BAR_PIXELS + 8}" y="{y + 17}">{line.rate:,.0f}/s ({line.ratio:.2f})</text>',
        ]
        if line.ratio_min is not None:
            x = _LABEL_PIXELS + _BAR_PIXELS * line.ratio_min
            parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{y}" y2="{y + 26}" stroke="#c33" stroke-width="2"/>')
    y = _ROW_PIXELS * (len(lines) + 1) + 17
    parts += [
        f'<text x="{_LABEL_PIXELS}" y="{y}" fill="#c33">red: what is required</text>',
        "</svg>",
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _range(samples: Sequence[Sample]) -> str:
    rates = sorted(sample.rate for sample in samples)
    middle = rates[len(rates) // 2] if len(rates) % 2 else (rates[len(rates) // 2 - 1] + rates[len(rates) // 2]) / 2
    return f"{middle:,.0f}" if len(rates) == 1 else f"{middle:,.0f} ({rates[0]:,.0f} to {rates[-1]:,.0f})"


def _latencies(samples: Sequence[Sample]) -> str:
    found = sorted((sample.p50_ms, sample.p99_ms) for sample in samples if sample.p50_ms is not None)
    if not found:
        return ""
    middle, late = found[len(found) // 2]
    return f"{middle:.1f} / {late:.1f}"


def _resident(line: Line) -> str:
    return ", ".join(f"{name} {mib:.0f}" for name, mib in line.cost.resident_mib.items())
