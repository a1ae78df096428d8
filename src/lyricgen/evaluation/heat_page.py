"""HTML page that colours each character of a text by its surprisal.

Shapes: N characters of the text, C known characters, K alternatives, V vocabulary size; B texts, T
time steps and M scored characters of a batch.
"""

import base64
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from lyricgen.console import format_figure
from lyricgen.data.batch import IGNORED, Batch
from lyricgen.data.splits import LAYOUT_ENDS, Layout, Split
from lyricgen.data.vocabulary import code_points
from lyricgen.errors import UserError, escape_line
from lyricgen.evaluation.intervals import Floats, Integers
from lyricgen.evaluation.own_text import OwnText, TextArgument, Unknown, own_text
from lyricgen.evaluation.scores import CheckpointWithText
from lyricgen.evaluation.style import DARK, LIGHT, choose_level, levels
from lyricgen.models.cells.cell import State
from lyricgen.models.memory_model import is_memory
from lyricgen.models.metrics import perplexity
from lyricgen.models.model import at_least_float32
from lyricgen.models.scoring import check_finite, read_split
from lyricgen.models.trained_model import TrainedModel

MOST_ALTERNATIVES = 5  # largest number of alternatives
# Signs for invisible characters.
SIGNS = {"\n": "↵", " ": "␣", "\t": "⇥", "\u3000": "␣␣", "\x03": "␃"}


class Alternatives(NamedTuple):
    """Surprisal and rank of each character, and the most probable characters in its place.

    Where the model predicts nothing, ranks and ids are 0, and the other figures are nan.
    """

    nats: Floats  # (C,) nats of the text's character
    ranks: Integers  # (C,) rank of the text's character, 1 for the most probable
    ids: Integers  # (C, K) alternatives, the most probable first
    probabilities: Floats  # (C, K) probabilities of the alternatives
    parts: dict[str, Floats]  # (C,) weight of each part of a mixed model, by its name


def beginning_of_text(
    model: TrainedModel, argument: TextArgument, unknown: Unknown, most: int
) -> tuple[OwnText, str]:
    """Prepare up to `most` characters of the user's text, and describe the source in one line.

    `own_text` explains the errors.
    """
    total = len(argument.text)
    beginning, source = _cut(argument.text, most, model.layout, argument.name, total)
    return own_text(beginning, argument.name, model, unknown), source


def beginning_of_split(
    evaluated: CheckpointWithText, split: str | None, most: int
) -> tuple[OwnText, str]:
    """Prepare up to `most` characters of a split, and describe the source in one line.

    If `split` is None, the test split is used, or the validation split if there is no test split.

    Raises:
        UserError: the text has no such split, its ids are damaged and cannot be restored, or
            `own_text` refuses the characters.
    """
    splits, model = evaluated.splits, evaluated.model
    name = split or next((one for one in ("test", "val") if one in splits), None)
    if name is None:
        raise UserError(
            "the model's text has no held-out split to show: give --text FILE or --split train"
        )
    evaluated.check_split(name)
    # twice the characters, since each may follow the start symbol of a line
    head = replace(splits[name], ids=splits[name].ids[: 2 * most])
    total = int(splits[name].character_counts(len(model.vocabulary)).sum())
    source = f"the {name} split of {evaluated.corpus.name}"
    text = head.text(model.vocabulary)
    beginning, source = _cut(text, most, model.layout, source, total)
    return own_text(beginning, f"the {name} split", model, prepared=True), source


def _cut(text: str, most: int, layout: Layout, name: str, total: int) -> tuple[str, str]:
    """Cut a text to at most `most` characters, and describe the source in one line.

    A model of lines or documents gets only whole ones, unless the first alone is too long. `name`
    names the source, which has `total` characters.
    """
    if len(text) > most:
        end = text.rfind(LAYOUT_ENDS[layout], 0, most) + 1 if layout in LAYOUT_ENDS else most
        text = text[: end or most]
    part = "" if len(text) >= total else f"the first {len(text):,} of "
    return text, f"{name}, {part}{total:,} characters"


def alternatives(model: TrainedModel, split: Split, what: str) -> Alternatives:
    """Find alternatives to each character; `scores.split_nats` explains arguments and errors."""
    size, count = len(model.vocabulary), len(split.ids)
    most = min(MOST_ALTERNATIVES, size)
    found = Alternatives(
        np.full(count, np.nan),
        np.zeros(count, np.int64),
        np.zeros((count, most), np.int64),
        np.full((count, most), np.nan),
        {},
    )

    def read(batch: Batch, state: State | None) -> tuple[tuple[Tensor, dict[str, Tensor]], State]:
        logits, parts, state = model.network.predict_parts(batch, state)
        return (logits, parts), state

    for batch, (logits, parts) in read_split(model, split, what, read):
        counted = batch.targets != IGNORED  # (B, T)
        positions = (batch.starts[:, None] + torch.arange(1, 1 + counted.shape[1]))[counted]
        certain = at_least_float32(logits[counted]).log_softmax(dim=-1)  # (M, V)
        if model.vocabulary.rare_id is not None:  # which stands for many
            certain[:, model.vocabulary.rare_id] -= model.vocabulary.charge
        own = certain.gather(1, batch.targets[counted][:, None])  # (M, 1)
        top = certain.topk(most)
        check_finite(own, what)
        found.nats[positions] = -own[:, 0].double()
        found.ranks[positions] = 1 + (certain > own).sum(dim=1)
        found.ids[positions] = top.indices
        found.probabilities[positions] = top.values.exp()
        for name, weights in parts.items():
            found.parts.setdefault(name, np.full(count, np.nan))[positions] = weights[counted]
    if split.line_starts is None:
        return found
    kept = (split.ids < size).numpy()
    nats, ranks, ids, probabilities, shares = found
    of_kept = {name: weights[kept] for name, weights in shares.items()}
    return Alternatives(nats[kept], ranks[kept], ids[kept], probabilities[kept], of_kept)


def heat_page(model: TrainedModel, text: OwnText, checkpoint: str, source: str) -> str:
    """Write the HTML page of a text; the page loads no other file.

    `checkpoint` and `source` describe the model and the text on the page.

    Raises:
        UserError: the model gives a character the probability 0 or nan, or remembers more than the
            line where lines are read one by one.
    """
    network, lines = model.network, model.end is not None
    if lines and is_memory(network) and network.architecture.recall.scope == "split":
        unit = model.layout.removesuffix("s")
        raise UserError(
            f"--heat reads each {unit} by itself, and this memory reaches back to other {unit}s: "
            f"use --memory-scope {unit}, or train with memory.scope={unit}"
        )
    found = alternatives(model, text.split, f"scoring {text.name}")
    bits = text.spread(found.nats / math.log(2))  # (N,)
    guess = math.log2(model.vocabulary.num_distinct)
    most = max(4, math.ceil(1.5 * guess))
    ticks, marks = _scale(float(np.nanmean(bits)), guess, most)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("heat.html").render(
        name=escape_line(text.name),
        pseudo=model.fills_gaps,
        model=escape_line(f"{model.network.description} · {checkpoint}"),
        source=escape_line(source),
        reach=text.describe_reach(network),
        facts=_facts(model, text, found.nats),
        light=levels(LIGHT),
        dark=levels(DARK),
        ticks=ticks,
        marks=marks,
        percent=lambda share: f"{100 * share:.3f}%",
        chinese=re.search("[\u4e00-\u9fff]", text.text),
        cells=_cells(text, bits, most),
        data=_data(model, text, bits, found),
    )


def sign(character: str) -> str:
    """Return a visible form of a character.

    Common white space becomes a sign, and a combining mark gets a circle before it. Printable
    characters stay. All else becomes a code point.
    """
    if character in SIGNS:
        return SIGNS[character]
    if unicodedata.category(character).startswith("M"):
        return "◌" + character  # alone it would join the character before it
    if character.isprintable():
        return character
    return f"U+{ord(character):04X}"


def _facts(model: TrainedModel, text: OwnText, nats: Floats) -> dict[str, str]:
    scored = ~np.isnan(nats)
    total = float(nats[scored].sum())
    count, sizes = int(scored.sum()), int(text.characters.sizes[scored].sum())
    prefix = model.network.metric_prefix.replace("_", "-")
    facts = {
        f"{prefix}perplexity": format_figure(perplexity(total / count)),
        f"{prefix}bits per character": f"{total / math.log(2) / count:.3f}",
        f"{prefix}bits per byte": f"{total / math.log(2) / sizes:.3f}",
        "characters scored": f"{count:,}",
    }
    return facts | ({"left out": f"{len(text.left_out):,}"} if text.left_out else {})


def _scale(mean: float, guess: float, most: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the places, 0 to 1, of ticks and marks on a scale from 0 to `most` bits.

    The marks show `mean` and, unless the two would overlap, `guess`, the bits of a uniform guess.
    """
    step = 1 if most < 10 else 2
    ticks = {str(bits): bits / most for bits in range(step, most - step // 2, step)}
    marks = {f"mean {mean:.1f}": min(1, mean / most)}
    if abs(mean - guess) >= most / 6:  # else the marks would overlap
        marks[f"uniform {guess:.1f}"] = min(1, guess / most)
    return {"0 bits": 0.0, **ticks, f"{most}+": 1.0}, marks


def _cells(text: OwnText, bits: Floats, most: int) -> Iterator[tuple[str, str, str]]:
    """Yield the HTML element, classes and text of each character.

    `most` is the end of the colour scale in bits. The style sheet adds the sign of a newline.
    """
    for character, value, known in zip(text.text, bits.tolist(), text.known, strict=True):
        element = "i" if known else "s"
        classes = "r" if math.isnan(value) else f"c{choose_level(value, most)}"
        label = character if character in " \t\u3000" else sign(character)
        if character == "\n":
            classes, label = f"{classes} n", ""
        elif len(label) > 2 and label.startswith("U+"):
            classes += " u"
        yield element, classes, label


def _data(model: TrainedModel, text: OwnText, bits: Floats, found: Alternatives) -> dict[str, Any]:
    """Return the figures of each character in the form that the page's script reads."""
    own = code_points(text.text)  # (N,)
    codes = text.spread(code_points(model.vocabulary.characters)[found.ids], own[0])  # (N, K)
    weights = np.array([text.spread(one, 0) for one in found.parts.values()]).T  # (N, parts)
    distinct, indices = np.unique(np.append(own, codes), return_inverse=True)
    return {
        "size": len(model.vocabulary),
        "most": codes.shape[1],
        "labels": [sign(chr(code)) for code in distinct],
        "own": _encode_base64(indices[: len(own)], "<u4"),
        "bits": _encode_base64(bits, "<f4"),
        "ranks": _encode_base64(text.spread(found.ranks, 0), "<u4"),
        "ids": _encode_base64(indices[len(own) :], "<u4"),
        "probabilities": _encode_base64(text.spread(found.probabilities, 0), "<f4"),
        "parts": list(found.parts),
        "weights": _encode_base64(weights, "<f4"),
    }


def _encode_base64(values: npt.NDArray[np.generic], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode("ascii")
