"""Table of a comparison: its columns, the notes below it, and its layout on a terminal."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lyricgen.console import format_figure
from lyricgen.errors import escape_line
from lyricgen.reporting.comparison import Comparison, reason_without_figure
from lyricgen.reporting.records import format_value, shorten
from lyricgen.runs.summary import PREFIXES
from lyricgen.stacking import fits

LONGEST = 20  # largest number of rows on a terminal
_WORD = 30  # largest number of characters of a word in the narrowest layouts
# Columns that a narrow terminal omits, in this order.
_SPARE = ("best epoch", "pairs", "wall time", "characters/s", "parameters", "test", "")
_SPARE_AT_LAST = ("p", "− best", "n")


class Column(NamedTuple):
    """Column of a table.

    Attributes:
        heading: title of the column.
        texts: texts of the fields.
        values: sort keys of the fields on the page; None sorts a field by its text.
        words: whether the fields are words, which may be wrapped, instead of numbers.
    """

    heading: str
    texts: list[str]
    values: list[Any]
    words: bool = False


def list_columns(comparison: Comparison, most: int | None = None) -> list[Column]:
    """Make the non-empty columns of the best `most` rows, settings first; None takes all rows."""
    rows, groups = comparison.rows[:most], comparison.groups[:most]
    unscored = [len(group.unscored) for group in groups] + [0] * len(comparison.ensembles)
    rows = pd.concat([rows, _ensemble_rows(comparison)], ignore_index=True)
    of_groups = [group.settings for group in groups]
    found = [*of_groups, *(one.settings for one in comparison.ensembles)]
    settings = [
        Column(
            key, [escape_line(format_value(value)) for value in values], list(values), words=True
        )
        for key, *values in zip(comparison.keys, *found, strict=True)
    ]
    best = rows["n"].gt(0) & (rows.index == 0)
    pairs = _column("pairs", rows["pairs"].where(rows["n"] > 1), str)
    ranks_by_test = comparison.metric == comparison.test_metric
    figures = [
        _column("n", rows["n"], str),
        _column("− best", rows["difference"], "{:+,.2f}".format),
        _column("p", rows["p"], lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}"),
        pairs._replace(values=_column("", rows["pairs"], str).values),
        Column("", list(rows["verdict"].mask(best, "best")), [None] * len(rows), words=True),
        _column("test", rows["test_perplexity"], format_figure, rows["test_deviation"]),
        _column("parameters", rows["parameters"], "{:,.0f}".format),
        _column("characters/s", rows["chars_per_second"], "{:,.0f}".format),
        _column("wall time", rows["wall_seconds"], duration),
        _column("best epoch", rows["best_epoch"], "{:,.0f}".format),
        Column("incomplete", list(rows["incomplete"]), unscored, words=True),
    ]
    return [
        *settings,
        _column(make_title(comparison.metric), rows["mean"], format_figure, rows["deviation"]),
        *(
            one
            for one in figures
            if any(one.texts) and not (ranks_by_test and one.heading == "test")
        ),
    ]


def _ensemble_rows(comparison: Comparison) -> pd.DataFrame:
    """Make rows of the ensembles, with the columns of `Comparison.rows`."""
    rows = [
        {
            "n": one.jobs,
            "mean": one.figures[comparison.metric],
            "test_perplexity": one.figures.get(comparison.test_metric),
            "verdict": f"{one.combination} ensemble",
            "incomplete": "",
            "reasons": "",
        }
        for one in comparison.ensembles
    ]
    return pd.DataFrame(rows, columns=comparison.rows.columns).astype(comparison.rows.dtypes)


def _column(
    heading: str,
    values: "pd.Series[Any]",
    form: Callable[[Any], str],
    deviations: "pd.Series[Any] | None" = None,
) -> Column:
    """Make a column of numbers, with their deviations if given; missing numbers stay empty.

    `form` formats a number.
    """
    texts = ["" if pd.isna(value) else form(value) for value in values]
    if deviations is not None:
        spreads = ["" if pd.isna(one) else f" ± {form(one)}" for one in deviations]
        texts = [text + spread for text, spread in zip(texts, spreads, strict=True)]
    return Column(heading, texts, [None if pd.isna(value) else value for value in values])


def notes(comparison: Comparison) -> list[str]:
    """Write the notes that explain a table."""
    lines = []
    rows, over = comparison.rows, " and ".join(comparison.over)
    if comparison.prefix == "memory_":
        said = [run.summary.memory for run in comparison.records if run.summary.memory]
        lines += [f"with memory: {each}" for each in said[:1]]  # all runs have the same text
    if comparison.ensembles:
        lines.append("ensemble: the n jobs of a sweep as one model, fitted on the val split")
    if rows["deviation"].notna().any():
        lines.append(f"mean ± sample standard deviation of n runs, over {over}")
    if comparison.mixed:
        lines.append(f"also averaged over, since it varies: {' and '.join(comparison.mixed)}")
    if rows["p"].notna().any():
        pairs = " and ".join((*comparison.over, *comparison.mixed))
        lines.append(f"p: paired t-test against the best, by {pairs}, each row by itself")
    scored = [run for group in comparison.groups for run in group.scored.values()]
    if any(run.summary.corpus_digest is None for run in scored):
        lines.append("runs of an earlier version, without the digest of their text: it may differ")
    if comparison.repeated:
        lines.append(f"{comparison.repeated} left out: another run has the same settings")
    return lines


def failures(comparison: Comparison) -> list[str]:
    """Describe each run without a figure in a line; only count the pruned runs."""
    lines = []
    pruned = sum(run.summary.status == "pruned" for run in comparison.records)
    for group in comparison.groups:
        for run in group.unscored:
            if run.summary.status == "pruned":
                continue
            over = [f"{key} {format_value(run.value(key))}" for key in comparison.over]
            where = ", ".join([comparison.label(group), *over])
            why = f": {run.summary.reason}" if run.summary.reason else ""
            lines.append(escape_line(f"{reason_without_figure(run)}: {where}{why}"))
    return [*lines, f"pruned: {pruned:,}"] if pruned else lines


def make_title(metric: str) -> str:
    """Write the name of a figure in words."""
    for prefix in PREFIXES:
        metric = metric.replace(prefix, prefix.replace("_", "-"))
    return metric.replace("/", " ").replace("_", " ")


def duration(seconds: float) -> str:
    """Format a time as seconds, as minutes and seconds, or as hours and minutes."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes}:{left:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def terminal_table(comparison: Comparison, console: Console) -> Table:
    """Make a table of the best `LONGEST` rows, in the widest layout that fits the terminal.

    If no layout fits, the table has the narrowest. Settings that all rows share stand above it.
    """
    columns, count = list_columns(comparison, LONGEST), len(comparison.groups)
    settings, figures = columns[: len(comparison.keys)], columns[len(comparison.keys) :]
    values = zip(*(group.settings for group in comparison.groups), strict=True)
    same = [count > 1 and len(set(each)) == 1 for each in values]
    named = list(zip(settings, same, strict=True))
    shared = [f"{column.heading} {column.texts[0]}" for column, common in named if common]
    for layout in _layouts([column for column, common in named if not common], figures):
        table = _table(layout)
        if fits(table, console):
            break
    table.title = escape("\n".join([escape_line(comparison.name), ", ".join(shared)]).rstrip())
    if count > LONGEST:
        table.caption = f"{count - LONGEST:,} more rows in the report"
    return table


def _layouts(settings: Sequence[Column], figures: Sequence[Column]) -> Iterator[list[Column]]:
    """Yield narrower and narrower layouts.

    They leave out columns and shorten settings; the last layouts join all settings in one column.
    """
    short = [column.heading.rpartition(".")[2] for column in settings]
    taken = [*short, *(column.heading for column in figures)]
    brief = [
        column._replace(
            heading=name if taken.count(name) == 1 else column.heading, texts=shorten(column.texts)
        )
        for name, column in zip(short, settings, strict=True)
    ]
    for spare in (None, *_SPARE):
        figures = [column for column in figures if column.heading != spare]
        yield [*settings, *figures]
        yield [*brief, *figures]
    lines = [[f"{column.heading} {_clip(text)}" for text in column.texts] for column in brief]
    stacked = ["\n".join(each) for each in zip(*lines, strict=True)]
    for spare in (None, *_SPARE_AT_LAST):
        figures = [column for column in figures if column.heading != spare]
        yield [Column("settings", stacked, [], words=True), *figures]


def _clip(text: str) -> str:
    """Shorten long words, such as paths, by removing their beginnings."""
    return re.sub(rf"\S{{{_WORD + 1},}}", lambda word: f"…{word[0][1 - _WORD :]}", text)


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
    """Join the rows of all comparisons in one table; docs/report.md explains the columns."""
    frames = []
    for comparison in comparisons:
        rows = pd.concat([comparison.rows, _ensemble_rows(comparison)], ignore_index=True)
        rows = rows.drop(columns="test_deviation")
        before = pd.DataFrame({"text": comparison.name, "metric": comparison.metric}, rows.index)
        ranks = pd.Series(range(1, len(rows) + 1), dtype="Int64")
        before["rank"] = ranks.where(ranks <= len(comparison.ranked))
        settings = [group.settings for group in comparison.groups]
        settings += [one.settings for one in comparison.ensembles]
        chosen = pd.DataFrame(settings, rows.index, list(comparison.keys), dtype=object)
        frame = pd.concat([before, chosen, rows], axis=1).astype(object)
        # a setting may have the name of a figure
        frames.append(frame.loc[:, ~frame.columns.duplicated(keep="last")])
    return pd.concat(frames, ignore_index=True)


def plain(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the rows as plain values, for JSON."""
    frame = to_frame([comparison])
    rows: Any = frame.where(frame.notna(), None).to_dict("records")
    return list(rows)
