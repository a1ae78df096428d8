"""Figures of checkpoints on a text of the user's own."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from lyricgen.errors import printable
from lyricgen.evaluation.bootstrap import resampled_totals
from lyricgen.evaluation.comparison import check_same_objective, labels_of, prefix_of
from lyricgen.evaluation.estimates import Row, Series, row
from lyricgen.evaluation.own_text import TextArgument, Unknown, own_text
from lyricgen.evaluation.tables import how_drawn, named, new_table, plain_row, shown
from lyricgen.models.files.checkpoint import load
from lyricgen.runs.listing import checkpoint_in


class TextFigures(NamedTuple):
    """Figures of one checkpoint.

    Attributes:
        path: of the file.
        left_out: characters of the text that it does not know.
        listed: the first of them, as a message names them.
        prefix: of the names of its perplexity and bits.
        row: its figures.
    """

    path: Path
    left_out: str
    listed: str
    prefix: str
    row: Row


def score_text(
    paths: Sequence[Path], argument: TextArgument, unknown: Unknown, resamples: int, seed: int
) -> list[TextFigures]:
    """Score a text with each checkpoint; the text that it was trained on need not be there.

    Args:
        paths: checkpoints or directories of runs, at least one.
        argument: the text.
        unknown: what to do with characters that a checkpoint does not know.
        resamples: texts that are drawn for each interval.
        seed: of the draws.

    Raises:
        UserError: a checkpoint cannot be loaded or cannot read the text, or some predict from one
            side and some from both.
    """
    files = [checkpoint_in(path) for path in paths]
    models = [load(file) for file in files]
    check_same_objective(files, models)
    draw = partial(resampled_totals, resamples=resamples, seed=seed)
    names = [str(model.options.get("name", "")) for model in models]
    found = []
    for label, file, model in zip(labels_of(files, models, names), files, models, strict=True):
        text = own_text(argument.text, argument.name, model, unknown)
        series = Series(label, "checkpoint", text.nats(model, label))
        listed = model.vocabulary.list_unknown(text.left_out)
        figures = row(series, series, text.characters, draw)
        found.append(TextFigures(file, text.left_out, listed, prefix_of(model), figures))
    return found


def to_plain(
    found: Sequence[TextFigures], argument: TextArgument, resamples: int, seed: int
) -> dict[str, Any]:
    """Everything, by the names that docs/evaluation.md explains."""
    return {
        "text": None if argument.file is None else str(argument.file),
        "resamples": resamples,
        "seed": seed,
        "models": [
            {
                "path": str(each.path),
                "left_out": len(each.left_out),
                **plain_row(each.row, each.prefix),
            }
            for each in found
        ],
    }


def text_table(found: Sequence[TextFigures], argument: TextArgument, resamples: int) -> Table:
    """The figures, and what was left out."""
    perplexity = f"{found[0].prefix}perplexity".replace("_", "-")
    headings = ("characters", "loss", perplexity, "bits/char", "bits/byte")
    table = new_table(printable(argument.name), numbers=headings)
    for each in found:
        figures = each.row
        table.add_row(
            named(figures.series.name),
            f"{figures.characters:,}",
            shown(figures.loss, 3),
            shown(figures.perplexity, 2),
            shown(figures.bits_per_char, 3),
            shown(figures.bits_per_byte, 3),
        )
    notes = [how_drawn({"text": found[0].row.block_length}, resamples)]
    notes += [
        f"{printable(each.row.series.name)} does not know {len(each.left_out):,} characters, "
        f"which are left out: {each.listed}"
        for each in found
        if each.left_out
    ]
    table.caption = escape("\n".join(notes))
    return table
