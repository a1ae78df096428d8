"""Figures as tables for a terminal, and as plain values for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from lyricgen.console import format_figure, show
from lyricgen.errors import escape_line
from lyricgen.evaluation.curves import Curve, Curves
from lyricgen.evaluation.ensembles import Ensemble
from lyricgen.evaluation.intervals import CONFIDENCE, Estimate, LossFigures, Row, RowWithMemory
from lyricgen.evaluation.own_text import TextArgument, TextFigures
from lyricgen.evaluation.scores import Scores
from lyricgen.runs.summary import describe_reach
from lyricgen.stacking import put_whole

WithMemory = Mapping[str, Sequence[RowWithMemory]]  # by split
FIGURES = {"loss": 3, "perplexity": 2, "bits_per_char": 3, "bits_per_byte": 3}  # decimals of each


def new_table(*headings: str, numbers: Sequence[str]) -> Table:
    """Make a table with columns for words (`headings`) and right-aligned columns (`numbers`)."""
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    for heading in headings:
        table.add_column(escape(heading))
    for heading in numbers:
        table.add_column(escape(heading), justify="right", overflow="fold")
    return table


def escape_name(name: str) -> str:
    """Escape a user's name, so that a table shows it without reading markup in it."""
    return escape(escape_line(name))


def format_estimate(estimate: Estimate, digits: int, sign: str = "") -> str:
    """Write a figure with its interval; omit an interval that is missing or vanishes by rounding.

    `console.format_figure` explains `digits` and `sign`.
    """
    value, *bounds = (
        "" if number is None else format_figure(number, digits, sign) for number in estimate
    )
    # a square bracket would be markup
    return value if set(bounds) <= {"", value} else f"{value} ({bounds[0]}…{bounds[1]})"


# Figures on the splits of a text


def print_scores(scores: Scores, curves: Curves | None, with_memory: WithMemory) -> None:
    """Print all figures on the splits of a text, and any curves.

    The models of `with_memory` get tables of their own.
    """
    first = scores.evaluated[0]
    for index in range(len(scores.evaluated)):
        put_whole(_checkpoint_table(scores, index))
    for each in (one for one in scores.evaluated if isinstance(one, Ensemble)):
        put_whole(_weight_table(each))
    lengths = {split: rows[0].block_length for split, rows in scores.splits.items()}
    show(_how_drawn(lengths, scores.resamples))
    for split, rows in scores.splits.items():
        if any(row.series.kind != "uniform" for row in rows[1:]):
            put_whole(_comparison_table(scores, split))
        if with_memory.get(split):
            name = f"{split} of {first.corpus.name}"
            put_whole(_memory_table(name, with_memory[split], scores.resamples))
    if curves is not None:
        for curve in curves.curves:
            put_whole(_curve_table(curves, curve, first.corpus.name))


def plain_scores(scores: Scores, curves: Curves | None, with_memory: WithMemory) -> dict[str, Any]:
    """Return all figures on the splits of a text, and any curves, as plain values for JSON."""
    first, ngrams = scores.evaluated[0], scores.ngrams
    return {
        "checkpoints": [
            {
                "name": each.label,
                "path": str(each.path),
                "run": each.model.options.get("name", ""),
                "parameters": each.model.network.num_parameters,
            }
            for each in scores.evaluated
            if not isinstance(each, Ensemble)
        ],
        "ensemble": next(
            (
                {"name": each.label, "combination": each.combination, "weights": each.weights}
                for each in scores.evaluated
                if isinstance(each, Ensemble)
            ),
            None,
        ),
        "text": first.corpus.name,
        "vocabulary_size": len(first.corpus.vocabulary),
        "confidence": CONFIDENCE,
        "resamples": scores.resamples,
        "seed": scores.seed,
        "ngram_order": ngrams.best,
        "ngram_characters": ngrams.characters,
        "mixture_network_weights": scores.mixture_weights,
        "parts": {
            split: {
                "characters": len(scores.texts[split].ids),
                "lines": scores.texts[split].num_lines,
                "models": [_plain_row(row, scores.prefix) for row in rows],
                "with_memory": [_plain_row_with_memory(row) for row in with_memory.get(split, ())],
            }
            for split, rows in scores.splits.items()
        },
        "curves": curves
        and {"part": curves.split, "position_in": curves.position_in}
        | {curve.name: curve._asdict() for curve in curves.curves},
    }


def _checkpoint_table(scores: Scores, index: int) -> Table:
    rows = [of_split[index] for of_split in scores.splits.values()]
    heading = scores.evaluated[index].label_and_text
    table = new_table(escape_line(heading), numbers=list(scores.splits))
    table.add_row("characters", *(f"{row.characters:,}" for row in rows))
    for name in FIGURES:
        table.add_row(_title(name, scores.prefix), *(_figure(row, name) for row in rows))
    return table


def _weight_table(ensemble: Ensemble) -> Table:
    table = new_table(escape_line(ensemble.label), numbers=("weight",))
    for label, weight in ensemble.weights.items():
        table.add_row(escape_name(label), f"{weight:.3f}")
    return table


def _comparison_table(scores: Scores, split: str) -> Table:
    """Build the table of all models on a split, each with its difference from the first."""
    first = scores.splits[split][0]
    text = escape_line(scores.evaluated[0].corpus.name)
    difference = f"loss − that of {escape_line(first.series.name)}"
    table = new_table(
        f"{split} of {text}", numbers=(_title("perplexity", scores.prefix), difference)
    )
    table.add_column("")
    for row in scores.splits[split]:
        more, verdict = "", ""
        if row.difference is not None:
            more = format_estimate(row.difference, 3, "+")
            verdict = "worse" if row.difference.value > 0 else "better"
        if not row.differs:
            verdict = "" if row.differs is None else "not told apart"
        table.add_row(escape_name(row.series.name), _figure(row, "perplexity"), more, verdict)
    return table


def _memory_table(split: str, rows: Sequence[RowWithMemory], resamples: int) -> Table:
    """Build the table of the models that learn as they read; `split` names split and text."""
    heading = f"{split}, with memory (these models learn as they read)"
    names = ("loss", "bits_per_char", "perplexity")
    table = new_table(escape_line(heading), numbers=[_title(name, "memory_") for name in names])
    for row in rows:
        table.add_row(escape_name(row.name), *(_figure(row, name) for name in names))
    lengths = {row.name: row.block_length for row in rows if row.kind != "compressor"}
    notes = [_how_drawn(lengths, resamples)] if lengths else []
    for row in rows:
        facts = [row.note]
        if row.scope is not None and row.reach is not None:
            facts.insert(0, describe_reach(row.scope, {split: row.reach}))
        notes.append(f"{row.name}: {'; '.join(facts)}")
    table.caption = "\n".join(map(escape_name, notes))
    return table


def _curve_table(found: Curves, curve: Curve, text: str) -> Table:
    """Build the table of a curve.

    A curve over positions shows only the powers of two and the last position.
    """
    headings = {
        "position": f"position in the {found.position_in}",
        "context": "characters before",
        "frequency": "times in training",
    }
    labels = map(escape_line, curve.perplexities)
    table = new_table(numbers=(headings[curve.name], "characters", *labels))
    table.title = escape(escape_line(f"perplexity on {found.split} of {text}"))
    last = len(curve.places) - 1
    for index in curve.scored:
        if curve.name == "position" and index != last and (index + 1) & index:
            continue
        values = (values[index] for values in curve.perplexities.values())
        texts = ("–" if value is None else format_figure(value) for value in values)
        table.add_row(curve.places[index], f"{curve.characters[index]:,}", *texts)
    return table


def _title(name: str, prefix: str) -> str:
    if name == "perplexity":
        return f"{prefix}perplexity".replace("_", "-")
    return name.replace("_per_", "/")


def _figure(row: LossFigures, name: str) -> str:
    return format_estimate(getattr(row, name), FIGURES[name])


def _how_drawn(lengths: Mapping[str, int | None], resamples: int) -> str:
    """Describe how the intervals were resampled; `lengths` holds the block lengths by name."""
    sizes = [f"{length} ({name})" for name, length in lengths.items() if length is not None]
    units = ["whole lines"] * (None in lengths.values())
    units += [f"blocks of characters, {', '.join(sizes)}"] * bool(sizes)
    return f"{CONFIDENCE:.0%} intervals: {resamples:,} resamples of {' and '.join(units)}"


def _plain_row(row: Row, prefix: str) -> dict[str, Any]:
    return {
        "name": row.series.name,
        "kind": row.series.kind,
        "characters": row.characters,
        "bytes": row.bytes,
        "block_length": row.block_length,
        **{prefix * (name != "loss") + name: getattr(row, name)._asdict() for name in FIGURES},
        "difference": row.difference and row.difference._asdict(),
        "differs": row.differs,
    }


def _plain_row_with_memory(row: RowWithMemory) -> dict[str, Any]:
    names = {"loss": "loss"} | {f"memory_{one}": one for one in ("bits_per_char", "perplexity")}
    return {
        "name": row.name,
        "kind": row.kind,
        "characters": row.characters,
        **{shown: getattr(row, name)._asdict() for shown, name in names.items()},
        "order": row.order,
        "scope": row.scope,
        "reach": row.reach,
        "block_length": row.block_length,
        "note": row.note,
    }


# Figures on the user's text


def print_text_figures(
    found: Sequence[TextFigures], argument: TextArgument, resamples: int
) -> None:
    """Print the figures on the user's text, and the characters that a model leaves out.

    Figures with different prefixes, as those with a memory, do not compare; they get tables of
    their own.
    """
    by_prefix: dict[str, list[TextFigures]] = {}
    for each in found:
        by_prefix.setdefault(each.checkpoint.model.network.metric_prefix, []).append(each)
    for prefix, figures in by_prefix.items():
        put_whole(_text_table(figures, argument, resamples, prefix))


def _text_table(
    found: Sequence[TextFigures], argument: TextArgument, resamples: int, prefix: str
) -> Table:
    headings = ["characters", *(_title(name, prefix) for name in FIGURES)]
    table = new_table(escape_line(argument.name), numbers=headings)
    notes = [_how_drawn({"text": found[0].row.block_length}, resamples)]
    for checkpoint, text, row in found:
        reach = text.describe_reach(checkpoint.model.network)
        if reach is not None:
            label = escape_line(checkpoint.label)
            notes.append(f"{label}: {reach}; figures without memory do not compare")
        figures = (_figure(row, name) for name in FIGURES)
        table.add_row(escape_name(checkpoint.label), f"{row.characters:,}", *figures)
        if text.left_out:
            notes.append(
                f"{escape_line(checkpoint.label)} does not know {len(text.left_out):,} characters, "
                "which are left out: " + checkpoint.model.vocabulary.list_unknown(text.left_out)
            )
    table.caption = escape("\n".join(notes))
    return table


def plain_text_figures(
    found: Sequence[TextFigures], argument: TextArgument, resamples: int, seed: int
) -> dict[str, Any]:
    """Return all figures on the user's text as plain values for JSON."""
    return {
        "text": None if argument.file is None else str(argument.file),
        "resamples": resamples,
        "seed": seed,
        "models": [
            {
                "path": str(checkpoint.path),
                "left_out": len(text.left_out),
                **_plain_row(row, checkpoint.model.network.metric_prefix),
                "note": text.describe_reach(checkpoint.model.network),
            }
            for checkpoint, text, row in found
        ],
    }
