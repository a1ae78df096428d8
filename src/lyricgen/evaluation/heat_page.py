"""A page that colours every character of a text by its surprisal, in one file that needs no other.

N characters of the text, K alternatives, V vocabulary.
"""

import base64
import json
import math
import re
import unicodedata
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lyricgen.console import rounded
from lyricgen.data.batch import IGNORED
from lyricgen.data.parts import Part
from lyricgen.data.vocabulary import code_points
from lyricgen.errors import printable
from lyricgen.evaluation.bootstrap import Floats
from lyricgen.evaluation.comparison import prefix_of
from lyricgen.evaluation.heat_colours import DARK, LEVELS, LIGHT, level_of, levels
from lyricgen.evaluation.own_text import OwnText
from lyricgen.evaluation.scores import Integers, check_finite, read_part
from lyricgen.models.metrics import perplexity
from lyricgen.models.scoring import exact, predict
from lyricgen.models.trained_model import TrainedModel

MOST = 5  # alternatives


TEMPLATE = Path(__file__).with_name("heat.html")
# what stands for what leaves no mark
SIGNS = {"\n": "↵", " ": "␣", "\t": "⇥", "\u3000": "␣␣"}


class Alternatives(NamedTuple):
    """Each character among those that could have stood there; 0, and nan, where none is predicted.

    Attributes:
        nats: (C,) of the character that stands there.
        ranks: (C,) of that one, 1 for the most probable.
        ids: (C, K) the most probable characters, from the most probable on.
        probabilities: (C, K) of these.
    """

    nats: Floats
    ranks: Integers
    ids: Integers
    probabilities: Floats


def alternatives(model: TrainedModel, part: Part, what: str) -> Alternatives:
    """Read a part once; arguments as for `scores.part_nats`."""
    size, count = len(model.vocabulary), len(part.ids)
    most = min(MOST, size)
    found = Alternatives(
        np.full(count, np.nan),
        np.zeros(count, np.int64),
        np.zeros((count, most), np.int64),
        np.full((count, most), np.nan),
    )
    for batch, logits in read_part(model, part, what, partial(predict, model.network)):
        counted = batch.targets != IGNORED  # (B, T)
        positions = (batch.starts[:, None] + torch.arange(1, 1 + counted.shape[1]))[counted]
        certain = exact(logits[counted]).log_softmax(dim=-1)  # (M, V)
        own = certain.gather(1, batch.targets[counted][:, None])  # (M, 1)
        top = certain.topk(most)
        check_finite(own, what)
        found.nats[positions] = -own[:, 0].double()
        found.ranks[positions] = 1 + (certain > own).sum(dim=1)
        found.ids[positions] = top.indices
        found.probabilities[positions] = top.values.exp()
    if part.line_starts is None:
        return found
    characters = (part.ids < size).numpy()
    return Alternatives(*(values[characters] for values in found))


def heat_page(model: TrainedModel, text: OwnText, checkpoint: str, source: str) -> str:
    """Colour a text.

    Args:
        model: that reads it.
        text: to colour.
        checkpoint: where the model comes from.
        source: where the text comes from.

    Returns:
        HTML with style, script and figures in it, which loads nothing.
    """
    found = alternatives(model, text.part, f"scoring {text.name}")
    bits = text.spread(found.nats / math.log(2))  # (N,)
    # a guess at random, and half as much again
    most = max(4, math.ceil(1.5 * math.log2(len(model.vocabulary))))
    filled = {
        "title": f"Surprisal of {escape(printable(text.name))}",
        "heading": "Pseudo-surprisal" if model.fills_gaps else "Surprisal",
        "model": escape(printable(f"{model.network.description} · {checkpoint}")),
        "source": escape(printable(source)),
        "facts": _facts(model, text, found.nats),
        "colours": _colours(),
        "legend": _legend(bits, most, len(model.vocabulary)),
        "language": ' lang="zh-Hans"' if re.search("[\u4e00-\u9fff]", text.text) else "",
        "text": _coloured(text, bits, most),
        "explained": _explained(model.fills_gaps),
        "data": _data(model, text, bits, found),
    }
    template = TEMPLATE.read_text("utf-8")
    # in one go, so that nothing in the text is taken for a place to fill
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], template)


def sign(character: str) -> str:
    """Visible form of a character: a mark for white space, a number for a control character."""
    if character in SIGNS:
        return SIGNS[character]
    if unicodedata.category(character).startswith("M"):
        return "◌" + character  # it would join the character before it
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return f"U+{ord(character):04X}"


def _facts(model: TrainedModel, text: OwnText, nats: Floats) -> str:
    scored = ~np.isnan(nats)
    total = float(nats[scored].sum())
    count, sizes = int(scored.sum()), int(text.characters.sizes[scored].sum())
    prefix = prefix_of(model).replace("_", "-")
    facts = {
        f"{prefix}perplexity": rounded(perplexity(total / count)),
        f"{prefix}bits per character": f"{total / math.log(2) / count:.3f}",
        f"{prefix}bits per byte": f"{total / math.log(2) / sizes:.3f}",
        "characters scored": f"{count:,}",
    }
    if text.left_out:
        facts["left out"] = f"{len(text.left_out):,}"
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())


def _explained(fills_gaps: bool) -> str:
    seen = "those before it"
    if fills_gaps:
        seen = "those on both sides of it (no model that reads from left to right compares)"
    return (
        "The surprisal of a character is −log₂ of the probability that the model gives it, knowing "
        f"{seen}: 0 bits for a certain one, one bit more each time that the probability halves."
    )


def _colours() -> str:
    light, dark = (
        "\n".join(f".c{n}{{background:{one.ground};color:{one.ink}}}" for n, one in enumerate(each))
        for each in (levels(LIGHT), levels(DARK))
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def _legend(bits: Floats, most: int, size: int) -> str:
    width = 100 / LEVELS
    parts = [
        f'<b class="c{n}" style="left:{n * width:.3f}%;width:{width + 0.02:.3f}%"></b>'
        for n in range(LEVELS)
    ]
    step = 1 if most < 10 else 2
    ticks = [*range(0, most - step // 2, step), most]
    for tick in ticks:
        shown = "0 bits" if tick == 0 else f"{tick}+" if tick == most else str(tick)
        parts.append(f'<span style="left:{100 * tick / most:.3f}%">{shown}</span>')
    mean, guess = float(np.nanmean(bits)), math.log2(size)
    marks = {f"mean {mean:.1f}": mean, f"uniform {guess:.1f}": guess}
    if abs(mean - guess) < most / 6:  # they would stand on each other
        marks.popitem()
    for name, place in marks.items():
        parts.append(f'<em style="left:{100 * min(1, place / most):.3f}%">{name}</em>')
    return "".join(parts)


def _coloured(text: OwnText, bits: Floats, most: int) -> str:
    return "".join(
        _cell(character, None if math.isnan(value) else level_of(value, most), known)
        for character, value, known in zip(
            text.text, bits.tolist(), text.known.tolist(), strict=True
        )
    )


def _cell(character: str, level: int | None, known: bool) -> str:
    classes = ["r" if level is None else f"c{level}"]
    if character == "\n":
        shown, after = "", "\n"
        classes.append("n")
    else:
        plain = character in " \t\u3000"
        shown, after = escape(character if plain else sign(character)), ""
        if not plain and len(shown) > 2 and shown.startswith("U+"):
            classes.append("u")
    name = "i" if known else "s"
    return f'<{name} class="{" ".join(classes)}">{shown}</{name}>{after}'


def _data(model: TrainedModel, text: OwnText, bits: Floats, found: Alternatives) -> str:
    """The figures behind the colours, as the page's script reads them."""
    known = text.known
    used = np.unique(np.append(text.characters.ids, found.ids))  # (U,)
    codes = code_points(text.text)
    left_out, which = np.unique(codes[~known], return_inverse=True)
    labels = [sign(model.vocabulary.characters[one]) for one in used] + [
        sign(chr(one)) for one in left_out
    ]
    own = np.empty(len(known), np.int64)  # (N,) places in the labels, as ids (N, K) are
    own[known] = np.searchsorted(used, text.characters.ids)
    own[~known] = len(used) + which
    ranks = np.zeros(len(known), np.int64)
    ranks[known] = found.ranks
    ids, probabilities = (np.zeros((len(known), found.ids.shape[1])) for _ in range(2))
    ids[known] = np.searchsorted(used, found.ids)
    probabilities[known] = found.probabilities
    plain = {
        "size": len(model.vocabulary),
        "most": found.ids.shape[1],
        "labels": labels,
        "own": _packed(own, "<u4"),
        "bits": _packed(bits, "<f4"),
        "ranks": _packed(ranks, "<u4"),
        "ids": _packed(ids, "<u4"),
        "probabilities": _packed(probabilities, "<f4"),
    }
    # no "<": nothing in it may end the element that it stands in
    return json.dumps(plain).replace("<", "\\u003c")


def _packed(values: npt.NDArray[np.generic], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode("ascii")
