"""Figures as tables for a terminal and as plain values for JSON."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from lyricgen.console import rounded, show
from lyricgen.errors import printable
from lyricgen.evaluation.bootstrap import CONFIDENCE
from lyricgen.evaluation.curves import Curve, Curves
from lyricgen.evaluation.estimates import Row
from lyricgen.evaluation.figures import Figures
from lyricgen.evaluation.tables import how_drawn, named, new_table, plain_row, shown
from lyricgen.stacking import put_whole


def print_tables(figures: Figures, curves: Curves | None) -> None:
    """Show everything on the terminal."""
    for index in range(len(figures.evaluated)):
        put_whole(checkpoint_table(figures, index))
    lengths = {part: rows[0].block_length for part, rows in figures.parts.items()}
    show(how_drawn(lengths, figures.resamples))
    for part, rows in figures.parts.items():
        if any(row.series.kind != "uniform" for row in rows[1:]):
            put_whole(comparison_table(figures, part))
    if curves is not None:
        for curve in curves.curves:
            put_whole(curve_table(curves, curve, figures.evaluated[0].corpus.name))


def to_plain(figures: Figures, curves: Curves | None) -> dict[str, Any]:
    """Everything, by the names that docs/evaluation.md explains."""
    first, ngrams = figures.evaluated[0], figures.ngrams
    return {
        "checkpoints": [
            {
                "name": each.label,
                "path": str(each.path),
                "run": each.model.options.get("name", ""),
                "parameters": each.model.network.num_parameters,
            }
            for each in figures.evaluated
        ],
        "text": first.corpus.name,
        "vocabulary_size": len(first.corpus.vocabulary),
        "confidence": CONFIDENCE,
        "resamples": figures.resamples,
        "seed": figures.seed,
        "ngram_order": ngrams.best,
        "ngram_characters": ngrams.characters,
        "mixture_network_weights": figures.mixture_weights,
        "parts": {
            part: {
                "characters": len(figures.texts[part].ids),
                "lines": figures.texts[part].num_lines,
                "models": [plain_row(row, figures.prefix) for row in rows],
            }
            for part, rows in figures.parts.items()
        },
        "curves": curves and _plain_curves(curves),
    }


def _plain_curves(found: Curves) -> dict[str, Any]:
    each: dict[str, Any] = {curve.name: curve._asdict() for curve in found.curves}
    return {"part": found.part, "position_in": found.position_in, **each}


def checkpoint_table(figures: Figures, index: int) -> Table:
    """Figures of one checkpoint on each part."""
    rows = [of_part[index] for of_part in figures.parts.values()]
    heading = figures.evaluated[index].label_and_text
    table = new_table(printable(heading), numbers=tuple(figures.parts))
    table.add_row("characters", *(f"{row.characters:,}" for row in rows))
    table.add_row("loss", *(shown(row.loss, 3) for row in rows))
    table.add_row(_perplexity(figures), *(shown(row.perplexity, 2) for row in rows))
    table.add_row("bits/char", *(shown(row.bits_per_char, 3) for row in rows))
    table.add_row("bits/byte", *(shown(row.bits_per_byte, 3) for row in rows))
    return table


def comparison_table(figures: Figures, part: str) -> Table:
    """All models on the same characters, and how their loss differs from the first one's."""
    first, *others = figures.parts[part]
    name = printable(first.series.name)
    text = printable(figures.evaluated[0].corpus.name)
    table = new_table(f"{part} of {text}", numbers=(_perplexity(figures), f"loss − that of {name}"))
    table.add_column("")
    table.add_row(named(first.series.name), shown(first.perplexity, 2))
    for row in others:
        difference = "" if row.difference is None else shown(row.difference, 3, "+")
        table.add_row(named(row.series.name), shown(row.perplexity, 2), difference, _verdict(row))
    return table


def curve_table(found: Curves, curve: Curve, text: str) -> Table:
    """A curve; of many places those whose numbers are powers of two, and the last."""
    headings = {
        "position": f"position in the {found.position_in}",
        "context": "characters before",
        "frequency": "times in training",
    }
    labels = tuple(printable(label) for label in curve.perplexities)
    table = new_table(numbers=(headings[curve.name], "characters", *labels))
    table.title = escape(printable(f"perplexity on {found.part} of {text}"))
    last = len(curve.places) - 1
    for index in curve.told:
        if curve.name == "position" and index != last and (index + 1) & index:
            continue
        values = (values[index] for values in curve.perplexities.values())
        texts = ("–" if value is None else rounded(value) for value in values)
        table.add_row(curve.places[index], f"{curve.characters[index]:,}", *texts)
    return table


def _perplexity(figures: Figures) -> str:
    return f"{figures.prefix}perplexity".replace("_", "-")


def _verdict(row: Row) -> str:
    if row.difference is None or row.differs is None:
        return ""
    if not row.differs:
        return "not told apart"
    return "worse" if row.difference.value > 0 else "better"
