"""Figures as tables for a terminal and as plain values for JSON."""

from typing import Any

from rich import box
from rich.table import Table

from lyricgen.errors import printable
from lyricgen.evaluation.bootstrap import CONFIDENCE
from lyricgen.evaluation.figures import Estimate, Figures, Row


def plain(figures: Figures) -> dict[str, Any]:
    """Everything, by the names that docs/evaluation.md explains."""
    first, ngrams = figures.evaluated[0], figures.ngrams
    return {
        "checkpoints": [
            {
                "name": each.label,
                "path": str(each.path),
                "run": each.options.name,
                "parameters": each.model.network.num_parameters,
            }
            for each in figures.evaluated
        ],
        "text": first.corpus.name,
        "vocabulary_size": len(first.corpus.vocabulary),
        "confidence": CONFIDENCE,
        "resamples": figures.resamples,
        "seed": figures.seed,
        "ngram_order": ngrams and ngrams.best,
        "ngram_characters": ngrams and ngrams.characters,
        "mixture_network_weights": figures.mixture_weights,
        "parts": {
            part: {
                "characters": len(figures.texts[part].ids),
                "lines": figures.texts[part].num_lines,
                "models": [_plain_row(row, figures.prefix) for row in rows],
            }
            for part, rows in figures.parts.items()
        },
    }


def _plain_row(row: Row, prefix: str) -> dict[str, Any]:
    return {
        "name": row.series.name,
        "kind": row.series.kind,
        "characters": row.characters,
        "bytes": row.bytes,
        "block_length": row.block_length,
        "loss": row.loss._asdict(),
        f"{prefix}perplexity": row.perplexity._asdict(),
        f"{prefix}bits_per_char": row.bits_per_char._asdict(),
        f"{prefix}bits_per_byte": row.bits_per_byte._asdict(),
        "difference": row.difference and row.difference._asdict(),
        "differs": row.differs,
    }


def checkpoint_table(figures: Figures) -> Table:
    """What each checkpoint reaches on each part."""
    table = _table("", "part", numbers=("characters", "loss", _perplexity(figures), "bits/char"))
    table.add_column("bits/byte", justify="right")
    for index, evaluated in enumerate(figures.evaluated):
        for part, rows in figures.parts.items():
            row = rows[index]
            table.add_row(
                printable(evaluated.label) if part == next(iter(figures.parts)) else "",
                part,
                f"{row.characters:,}",
                _shown(row.loss, 3),
                _shown(row.perplexity, 2),
                _shown(row.bits_per_char, 3),
                _shown(row.bits_per_byte, 3),
            )
    table.caption = _how_drawn(figures)
    return table


def comparison_table(figures: Figures, part: str) -> Table:
    """All models on the same characters, and how their loss differs from the first one's."""
    first, *others = figures.parts[part]
    name = printable(first.series.name)
    table = _table(part, numbers=(_perplexity(figures), f"loss − that of {name}"))
    table.add_column("")
    table.add_row(name, _shown(first.perplexity, 2))
    for row in others:
        difference = "" if row.difference is None else _shown(row.difference, 3, "+")
        shown = printable(row.series.name)
        table.add_row(shown, _shown(row.perplexity, 2), difference, _verdict(row))
    return table


def _table(*headings: str, numbers: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    for heading in headings:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _perplexity(figures: Figures) -> str:
    return f"{figures.prefix}perplexity".replace("_", "-")


def _shown(estimate: Estimate, digits: int, sign: str = "") -> str:
    form = f"{sign},.{digits}f"
    value = format(estimate.value, form)
    if estimate.low is None or estimate.high is None:
        return value
    # a square bracket would be markup
    return f"{value} ({estimate.low:{form}}…{estimate.high:{form}})"


def _verdict(row: Row) -> str:
    if row.difference is None or row.differs is None:
        return ""
    if not row.differs:
        return "not told apart"
    return "worse" if row.difference.value > 0 else "better"


def _how_drawn(figures: Figures) -> str:
    units = {
        part: "lines" if rows[0].block_length is None else f"blocks of {rows[0].block_length}"
        for part, rows in figures.parts.items()
    }
    each = ", ".join(f"{part} {unit}" for part, unit in units.items())
    return f"{100 * CONFIDENCE:.0f} % intervals from {figures.resamples:,} resamples: {each}"
