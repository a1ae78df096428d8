"""Tables of figures fit every terminal: no number and no word is broken."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from lyricgen.console import put
from lyricgen.errors import escape_line
from lyricgen.evaluation.tables import escape_name, new_table
from lyricgen.stacking import split_table

INTERVAL = "1,234.56 (1,111.11…1,355.55)"


def split_figures() -> Table:
    table = new_table("lstm 1x256 on dino (a_run)", numbers=("train", "val", "test"))
    table.add_row("characters", "12,345", "1,234", "1,235")
    table.add_row("perplexity", INTERVAL, INTERVAL.replace("6", "7"), INTERVAL.replace("6", "8"))
    return table


def comparison() -> Table:
    table = new_table("test", numbers=("perplexity", "loss − that of lstm 1x256"))
    table.add_column("")
    table.add_row("mixture with lstm 1x256", "12.34 (11.11…13.55)", "+0.12 (+0.11…+0.13)", "worse")
    table.add_row(
        "Kneser-Ney 5-gram", "22.34 (11.11…13.55)", "+0.12 (+0.11…+0.13)", "not told apart"
    )
    return table


def curve() -> Table:
    labels = [f"lstm 1x256 (name_{number})" for number in range(7)]
    table = new_table(numbers=("position in the window", "characters", *labels))
    table.title, table.caption = "perplexity on test", "of windows"
    table.add_row("1", "123,456", *(f"{number},234.56" for number in range(1, 8)))
    return table


@pytest.mark.parametrize("width", [*range(45, 90, 3), 80, 120, 300])
@pytest.mark.parametrize("build", [split_figures, comparison, curve])
def test_no_cell_is_broken_at_any_width(build: object, width: int) -> None:
    assert callable(build)
    table = build()
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None)
    for part in split_table(table, console):
        put(part, console)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    names, *figures = build().columns
    for column in figures:
        for cell in column.cells:
            assert any(str(cell) in line for line in lines), cell
        for word in str(column.header).split():
            assert any(word in line for line in lines), word
    for name in names.cells:
        for word in str(name).split():
            assert any(word in line.split() for line in lines), word
    for text in (table.title, table.caption):
        assert text is None or sum(str(text) in line for line in lines) == 1


def test_a_table_that_fits_is_unchanged() -> None:
    table = comparison()
    assert split_table(table, Console(width=120)) == [table]
    assert len(split_table(split_figures(), Console(width=80))) == 2


def test_a_name_is_no_markup() -> None:
    for name in ("run [/b]", "[link=http://x]run[/link]", "a\x1b[2J"):
        table = new_table(escape_line(name), numbers=("val",))
        table.add_row(escape_name(name), "1")
        stream = io.StringIO()
        put(table, Console(file=stream, width=80, force_terminal=True, color_system=None))
        assert stream.getvalue().count(escape_line(name)) == 2
