"""The report on stored records in each form, compared with stored outputs.

Texts must be equal, and figures up to the last printed digit. Plots are left out.
"""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from lyricgen import report as command
from lyricgen.reporting.comparison import compare
from lyricgen.reporting.missing_jobs import with_missing_jobs
from lyricgen.reporting.page import importances
from lyricgen.reporting.records import read
from lyricgen.reporting.tables import terminal_table
from tests.conftest import ROOT, run_main
from tests.helpers.reports import Page, search, stored_records

GOLDEN = ROOT / "tests/golden/report"


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return stored_records(Path("outputs"))


def check(found: str, name: str) -> None:
    """Compare with a stored output: words exactly, numbers up to their last digit."""
    number = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
    stored = (GOLDEN / name).read_text("utf-8")
    assert number.sub("#", found) == number.sub("#", stored)
    for one, other in zip(number.findall(found), number.findall(stored), strict=True):
        digits = len(re.sub(r"e.*|\D", "", other).lstrip("0"))
        value, expected = (float(each.replace(",", "")) for each in (one, other))
        assert value == pytest.approx(expected, rel=max(1e-9, 1.01 * 10.0 ** (1 - digits)))


def page_in_lines(html: str) -> str:
    """Return the elements and texts of a page without its layout and plots."""
    html = re.sub(r"<svg.*?</svg>", "<svg></svg>", html, flags=re.S)
    page = Page(re.sub(r"(<[^>]+>)", r"\1 ", html))  # separates the texts of two elements
    rows = [[" ".join(text.split()) for text in row] for row in page.rows]
    return "\n".join([*map(repr, page.tags), *map(repr, rows), *page.text.split(), ""])


def test_files_of_the_report_equal_the_stored_ones(
    outputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = run_main(command.main, capfd, outputs, "--out", "out")
    assert shown.status == 0, shown.err
    check(shown.out, "shown.txt")
    check(page_in_lines(Path("out/report.html").read_text("utf-8")), "report.html.txt")
    check(Path("out/report.md").read_text("utf-8"), "report.md")
    check(Path("out/report.csv").read_text("utf-8"), "report.csv")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("by_cell.json", ["--by", "cell", "--where", "cell=lstm,gru"]),
        ("over_layers.json", ["--over", "seed,layers", "--where", "data=dino"]),
        ("metric.json", ["--metric", "test/perplexity", "--where", "objective=fill"]),
        ("speed.json", ["--metric", "chars_per_second", "--where", "data=dino"]),
    ],
)
def test_rows_in_json_equal_the_stored_ones(
    outputs: Path, capfd: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    found = run_main(command.main, capfd, outputs, "--out", "out", "--json", *arguments)
    assert found.status == 0, found.err
    check(found.out, name)


def test_tables_on_terminals_equal_the_stored_ones(outputs: Path) -> None:
    comparisons = compare(with_missing_jobs(read([outputs])), (), ("seed",), None)
    for width in (40, 60, 80, 120):
        console = Console(width=width, record=True, file=io.StringIO())
        for comparison in comparisons:
            console.print(terminal_table(comparison, console))
        check(console.export_text(), f"terminal_{width}.txt")


def test_the_importance_of_settings_equals_the_stored_one(tmp_path: Path) -> None:
    [comparison] = compare(
        with_missing_jobs(read([search(tmp_path / "search", 40)])), (), ("seed",), None
    )
    check(json.dumps(importances(comparison), indent=1), "importance.json")
