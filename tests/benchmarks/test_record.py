"""The page and the chart show the newest record, and a record names what is missed."""

from collections.abc import Sequence

import pytest

from benchmarks.measuring import Line, Sample, only_ratio
from benchmarks.record import CHART, PAGE, current_chart, current_page, missed, record_of
from benchmarks.standing import Reading


async def never(*_: object) -> Sample:
    raise NotImplementedError


def line(rate: float) -> Line:
    return Line(
        case="http", title="HTTP", size="850", measure=never, beside="bare endpoint", limit=never, ratio_min=0.25,
        rate_min=7_000, p99_ms_max=40, samples=[Sample(10, rate, 5.0, 50.0)], limits=[Sample(10, 10_000)],
    )  # fmt: skip


def missed_of(lines: Sequence[Line], readings: Sequence[Reading] = ()) -> list[str]:
    return missed(record_of(lines, readings, arguments="", facts={}, whole=False))


def test_the_page_and_the_chart_show_the_newest_record() -> None:
    assert current_page() == PAGE.read_text(encoding="utf-8"), "write it anew: make docs"
    assert current_chart() == CHART.read_text(encoding="utf-8"), "write it anew: make docs"


def test_a_record_tells_the_case_and_the_cpu_of_each_program() -> None:
    measured = line(5_000)
    measured.cost.cpu_seconds = {"api-gateway": 0.001}

    [found] = record_of([measured], [], arguments="", facts={}, whole=False)["lines"]

    assert (found["case"], found["cpu_us_per_event"]) == ("http", {"api-gateway": pytest.approx(100)})


def test_absolute_figures_and_ratios_are_judged_on_a_fast_machine() -> None:
    assert line(5_000).misses() == ["rate 5,000 < 7000", "p99_ms 50.0 > 40"]
    assert missed_of([line(5_000)], [Reading("at rest", 2.0, 1, "%", "")]) == ["HTTP", "at rest"]


def test_only_ratios_are_judged_on_a_slow_machine() -> None:
    assert missed_of([only_ratio(line(5_000))], [Reading("at rest", 2.0, None, "%", "")]) == []
    assert only_ratio(line(2_000)).misses() == ["ratio 0.20 < 0.25"]
