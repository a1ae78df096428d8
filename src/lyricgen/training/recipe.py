"""Settings that suit a text: `recipe=auto` fills them in where they say `auto`."""

from dataclasses import dataclass
from typing import Any

from lyricgen.console import show
from lyricgen.data.corpus import EncodedCorpus
from lyricgen.settings import flatten, override_text, plain_settings, replace_auto
from lyricgen.training.hardware import choose_kernel
from lyricgen.training.options import Effort, TrainOptions, parse


@dataclass(frozen=True)
class Text:
    """Facts about a text that decide its recipe.

    Attributes:
        characters: number of training characters.
        symbols: number of distinct characters.
        lines: whether it is a list of lines.
    """

    characters: int
    symbols: int
    lines: bool


def recipe(text: Text, layers: int, effort: Effort, *, on_gpu: bool) -> dict[str, Any]:
    """Choose the settings for a text, as a nested dictionary."""
    return plain_settings()


def fill_auto(values: dict[str, Any], corpus: EncodedCorpus) -> TrainOptions:
    """Fill in the settings that say `auto`; with recipe=none they get their plain values.

    Args:
        values: the whole configuration, in plain values.
        corpus: the text of the run.
    """
    options = parse(values)
    if options.recipe == "auto":
        held_out = options.data.val_fraction + options.data.test_fraction
        text = Text(
            int(len(corpus) * (1 - held_out)),
            len(corpus.vocabulary),
            lines=options.data.unit == "line",
        )
        filled = recipe(text, options.layers, options.effort, on_gpu=False)
        options = parse(replace_auto(values, filled))
    return choose_kernel(options)


def show_filled(options: TrainOptions, names: list[str]) -> None:
    """Print the settings that said `auto`, with their values."""
    if names:
        flat = flatten(options.model_dump(mode="json"))
        show("auto: " + " ".join(f"{name}={override_text(flat[name])}" for name in names))
