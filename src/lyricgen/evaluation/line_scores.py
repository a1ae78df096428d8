"""Scores of the lines of a file: a table, CSV and JSON lines.

With several checkpoints a line has a row for each of them.
"""

import csv
import json
import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.markup import escape
from rich.table import Table

from lyricgen.console import format_figure
from lyricgen.errors import escape_line
from lyricgen.evaluation.scores import Checkpoint
from lyricgen.evaluation.tables import escape_name, new_table
from lyricgen.evaluation.text_scores import score_texts
from lyricgen.files import keep_finite
from lyricgen.models.memory_model import is_memory
from lyricgen.models.metrics import perplexity
from lyricgen.stacking import put_whole, table_console

NARROWEST, WIDEST = 12, 100  # columns of a terminal for the text of a line


class LineRow(NamedTuple):
    """Figures of a line by one checkpoint."""

    line: int  # number of the line in the file, from 1
    model: str
    nats: float
    perplexity: float  # nan if no character is predicted
    characters: int  # number of characters that the model predicts
    unknown: int  # number of characters that the model does not know
    text: str  # the line as it stands in the file


class LineScores(NamedTuple):
    """Figures of all lines by one checkpoint."""

    checkpoint: Checkpoint
    rows: list[LineRow]
    left_out: str  # unknown characters of all lines

    @property
    def prefix(self) -> str:
        """Prefix of the name of the perplexity, which tells models apart that do not compare."""
        return self.checkpoint.model.network.metric_prefix


def score_lines(checkpoints: Sequence[Checkpoint], lines: Sequence[str]) -> list[LineScores]:
    """Score each line by each checkpoint; `text_scores.score_texts` explains the errors."""
    found = []
    for each in checkpoints:
        scores = score_texts(each.model, lines, "line")
        figures = zip(
            *(scores.totals.tolist(), scores.characters.tolist(), scores.unknown.tolist(), lines),
            strict=True,
        )
        rows = [
            LineRow(
                *(number, each.label, nats),
                perplexity(nats / characters) if characters else math.nan,
                *(characters, unknown, line),
            )
            for number, (nats, characters, unknown, line) in enumerate(figures, 1)
        ]
        found.append(LineScores(each, rows, scores.left_out))
    return found


def lines_as_csv(found: Sequence[LineScores]) -> str:
    """Write the rows of all lines as CSV, with all digits."""
    stream = StringIO()
    rows = _plain_rows(found)
    names = list(dict.fromkeys(name for row in rows[: len(found)] for name in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def lines_as_json(found: Sequence[LineScores]) -> str:
    """Write the rows of all lines as JSON, an object on each line."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in _plain_rows(found))


def _plain_rows(found: Sequence[LineScores]) -> list[dict[str, Any]]:
    """List the rows, line by line; None for a perplexity that is not finite."""
    return [
        keep_finite(
            {
                f"{each.prefix}{name}" if name == "perplexity" else name: value
                for name, value in row._asdict().items()
            }
        )
        for of_line in zip(*(each.rows for each in found), strict=True)
        for each, row in zip(found, of_line, strict=True)
    ]


def print_lines(found: Sequence[LineScores], file: str | Path) -> None:
    """Print the rows as a table, where long lines are cut to the width of the terminal.

    Models whose figures do not compare, as those with a memory, get tables of their own.
    """
    for prefix in dict.fromkeys(each.prefix for each in found):
        of_prefix = [each for each in found if each.prefix == prefix]
        put_whole(_line_table(of_prefix, prefix, str(file)))


def _line_table(found: Sequence[LineScores], prefix: str, file: str) -> Table:
    """Build the table of models; the text of a line stands in the first of its rows."""
    several = len(found) > 1
    cells = [
        [
            str(row.line),
            *([escape_name(row.model)] if several else []),
            format_figure(row.nats, 3),
            "–" if math.isnan(row.perplexity) else format_figure(row.perplexity),
            f"{row.characters:,}",
            f"{row.unknown:,}",
        ]
        for of_line in zip(*(each.rows for each in found), strict=True)
        for row in of_line
    ]
    figures = ("nats", f"{prefix}perplexity".replace("_", "-"), "characters", "unknown")
    table = new_table("line", *["model"] * several, numbers=figures)
    table.add_column(escape(escape_line(file)), no_wrap=True)
    headings = [str(column.header) for column in table.columns[:-1]]
    taken = sum(max(map(cell_len, column)) + 3 for column in zip(headings, *cells, strict=True))
    width = max(NARROWEST, min(WIDEST, table_console().width - taken - 3))
    for index, row in enumerate(cells):
        line, further = divmod(index, len(found))
        text = "" if further else _shorten(escape_line(found[0].rows[line].text), width)
        table.add_row(*row, escape(text))
    table.caption = escape("\n".join(_notes(found)))
    return table


def _shorten(text: str, width: int) -> str:
    """Cut a text to the width of a terminal's column."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"


def _notes(found: Sequence[LineScores]) -> list[str]:
    notes = []
    for each in found:
        model, label = each.checkpoint.model, escape_line(each.checkpoint.label)
        if is_memory(model.network):
            reads_on = model.network.architecture.recall.scope == "split"
            where = "reads on from line to line" if reads_on else "begins anew at each line"
            notes.append(f"{label}: the memory {where}: compare only such figures")
        if each.left_out:
            notes.append(
                f"{label} does not know {len(each.left_out):,} characters, which are left out: "
                + model.vocabulary.list_unknown(each.left_out)
            )
    return notes
