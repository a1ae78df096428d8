"""A comparison as a table: what stands in which column, and what has to be said below it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lyricgen.console import rounded
from lyricgen.errors import printable
from lyricgen.reporting.comparison import Comparison, reason_without_figure
from lyricgen.reporting.records import ABSENT, shown, told_apart
from lyricgen.stacking import fits

LONGEST = 20  # rows on a terminal
# Columns that a narrow terminal can do without, the first ones first.
_SPARE = ("best epoch", "pairs", "wall time", "characters/s", "parameters", "test", "")
_SPARE_AT_LAST = ("p", "− best", "n")


class Column(NamedTuple):
    """Column of a table.

    Attributes:
        heading: above it.
        texts: its cells.
        values: by which the page sorts them; None where the text says it.
        words: it holds no numbers, and its texts may be wrapped.
    """

    heading: str
    texts: list[str]
    values: list[Any]
    words: bool = False


def columns_of(comparison: Comparison, most: int | None = None) -> list[Column]:
    """The columns that are not empty, first the settings; of the first `most` rows."""
    rows, cells = comparison.rows[:most], comparison.cells[:most]
    by_test = comparison.metric == f"test/{comparison.prefix}perplexity"  # it stands there already
    settings = [
        Column(key, [printable(shown(value)) for value in values], list(values), words=True)
        for key, *values in zip(comparison.keys, *(cell.settings for cell in cells), strict=True)
    ]
    verdicts = rows["verdict"].where(rows["n"].eq(0) | (rows.index > 0), "best")
    pairs = _column("pairs", rows["pairs"], str)
    shown_pairs = [text if n > 1 else "" for text, n in zip(pairs.texts, rows["n"], strict=True)]
    figures = [
        _column("n", rows["n"], str),
        _column("− best", rows["difference"], "{:+,.2f}".format),
        _column("p", rows["p"], p_value),
        pairs._replace(texts=shown_pairs),
        Column("", list(verdicts), [None] * len(rows)),
        _column("test", rows["test_perplexity"], rounded, rows["test_deviation"]),
        _column("parameters", rows["parameters"], "{:,.0f}".format),
        _column("characters/s", rows["chars_per_second"], "{:,.0f}".format),
        _column("wall time", rows["wall_seconds"], duration),
        _column("best epoch", rows["best_epoch"], "{:,.0f}".format),
        Column("incomplete", list(rows["incomplete"]), [len(cell.others) for cell in cells]),
    ]
    return [
        *settings,
        _column(title_of(comparison.metric), rows["mean"], rounded, rows["deviation"]),
        *(
            column._replace(words=column.heading in ("", "incomplete"))
            for column in figures
            if any(column.texts) and not (by_test and column.heading == "test")
        ),
    ]


def _column(
    heading: str,
    values: "pd.Series[Any]",
    form: Callable[[Any], str],
    deviations: "pd.Series[Any] | None" = None,
) -> Column:
    """A column of numbers, each with its deviation if there are some; empty where none stands."""
    plain = [None if pd.isna(value) else value for value in values]
    texts = ["" if value is None else form(value) for value in plain]
    if deviations is not None:
        spreads = ["" if pd.isna(one) else f" ± {form(one)}" for one in deviations]
        texts = [text + spread for text, spread in zip(texts, spreads, strict=True)]
    return Column(heading, texts, plain)


def notes(comparison: Comparison) -> list[str]:
    """Notes that explain a table."""
    told = []
    rows = comparison.rows
    if rows["deviation"].notna().any():
        told.append(
            f"mean ± sample standard deviation of n runs, over {' and '.join(comparison.over)}"
        )
    if comparison.mixed:
        told.append(f"also averaged over, since it varies: {' and '.join(comparison.mixed)}")
    if rows["p"].notna().any():
        pairs = " and ".join((*comparison.over, *comparison.mixed))
        told.append(f"p: paired t-test against the best, by {pairs}, each row by itself")
    scored = [run for cell in comparison.cells for run in cell.scored.values()]
    if any(run.summary.corpus_digest is None for run in scored):
        told.append("runs of an earlier version, without the digest of their text: it may differ")
    if comparison.repeated:
        told.append(f"{comparison.repeated} left out: a later run has the same settings")
    return told


def failures(comparison: Comparison) -> list[str]:
    """The runs without a figure, a line each; of those that a search has pruned their number."""
    lines = []
    pruned = sum(run.summary.status == "pruned" for run in comparison.records)
    for cell in comparison.cells:
        for run in cell.others:
            if run.summary.status == "pruned":
                continue
            also = [f"{key} {shown(run.settings.get(key, ABSENT))}" for key in comparison.over]
            where = ", ".join([comparison.label(cell), *also])
            why = f": {run.summary.reason}" if run.summary.reason else ""
            lines.append(printable(f"{reason_without_figure(run)}: {where}{why}"))
    return [*lines, f"pruned: {pruned:,}"] if pruned else lines


def title_of(metric: str) -> str:
    """A figure's name in words."""
    return metric.replace("/", " ").replace("pseudo_", "pseudo-").replace("_", " ")


def p_value(p: float) -> str:
    """Format a p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes}:{left:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def terminal_table(comparison: Comparison, console: Console) -> Table:
    """The best rows in the first layout that the terminal has room for.

    Settings that all rows share stand above it.
    """
    columns = columns_of(comparison, LONGEST)
    settings, figures = columns[: len(comparison.keys)], columns[len(comparison.keys) :]
    places = range(len(settings) if len(comparison.cells) > 1 else 0)
    common = {n for n in places if len({cell.settings[n] for cell in comparison.cells}) == 1}
    shared = [f"{settings[n].heading} {settings[n].texts[0]}" for n in sorted(common)]
    settings = [column for place, column in enumerate(settings) if place not in common]
    for layout in _layouts(settings, figures):
        table = _table(layout)
        if fits(table, console):
            break
    table.title = escape("\n".join([printable(comparison.name), ", ".join(shared)]).rstrip())
    if len(comparison.cells) > LONGEST:
        table.caption = f"{len(comparison.cells) - LONGEST:,} more rows in the report"
    return table


def _layouts(settings: Sequence[Column], figures: Sequence[Column]) -> Iterator[list[Column]]:
    """Ever narrower tables: fewer columns, shorter settings, then the settings in one column."""
    short = [column.heading.rpartition(".")[2] for column in settings]
    taken = [*short, *(column.heading for column in figures)]
    brief = [
        column._replace(
            heading=name if taken.count(name) == 1 else column.heading,
            texts=told_apart(column.texts),
        )
        for name, column in zip(short, settings, strict=True)
    ]
    for spare in (None, *_SPARE):
        figures = [column for column in figures if column.heading != spare]
        yield [*settings, *figures]
        yield [*brief, *figures]
    named = [[f"{column.heading} {text}" for text in column.texts] for column in brief]
    stacked = ["\n".join(lines) for lines in zip(*named, strict=True)]
    for spare in (None, *_SPARE_AT_LAST):
        figures = [column for column in figures if column.heading != spare]
        yield [Column("settings", stacked, [], words=True), *figures]


def _table(columns: Sequence[Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", collapse_padding=True, pad_edge=False)
    for column in columns:
        justify: Any = "left" if column.words else "right"
        table.add_column(
            escape(column.heading), justify=justify, overflow="fold", no_wrap=not column.words
        )
    for texts in zip(*(column.texts for column in columns), strict=True):
        table.add_row(*map(escape, texts))
    return table


def to_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """All rows with all their figures, by the names that docs/report.md explains."""
    frames = []
    for comparison in comparisons:
        rows = comparison.rows.drop(columns="test_deviation")
        settings = [cell.settings for cell in comparison.cells]
        before = pd.DataFrame({"text": comparison.name, "metric": comparison.metric}, rows.index)
        before["rank"] = pd.Series(range(1, len(rows) + 1), dtype="Int64").where(rows["n"] > 0)
        chosen = pd.DataFrame(settings, rows.index, list(comparison.keys), dtype=object)
        frame = pd.concat([before, chosen, rows], axis=1).astype(object)
        # a record may have a setting that is called as a figure
        frames.append(frame.loc[:, ~frame.columns.duplicated(keep="last")])
    return pd.concat(frames, ignore_index=True)


def plain(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows as plain values, for JSON."""
    frame = to_frame([comparison])
    rows: Any = frame.where(frame.notna(), None).to_dict("records")
    return list(rows)
