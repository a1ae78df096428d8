"""Output of generated texts: plain, as JSON, and side by side.

Files and pipes get the texts unaltered. On a terminal, characters that steer it are escaped.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile, zip_longest
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lyricgen.console import on_terminal, show_generated, show_json
from lyricgen.errors import escape_line
from lyricgen.files import keep_finite
from lyricgen.generation.texts import GeneratedText
from lyricgen.models.trained_model import TrainedModel
from lyricgen.settings import (
    Settings,
    belongs_to,
    flatten,
    is_plumbing,
    known_to_model,
    override_text,
)
from lyricgen.stacking import put_generated

CUT = " […]"  # marks a text that was cut off
MOST_SETTINGS = 4  # most settings in a heading


def print_texts(texts: Sequence[str]) -> None:
    """Print texts, with an empty line between them if any of them has several lines."""
    between = "\n\n" if any("\n" in text for text in texts) else "\n"
    show_generated(f"{between.join(texts)}\n")


def mark_cut(text: str, ended: bool | None) -> str:
    """Mark a text that was cut off before its end, on a terminal only."""
    return text + CUT if ended is False and on_terminal() else text


def with_score(one: GeneratedText) -> str:
    """Format a text of a beam search: its score, then the text, marked by `mark_cut`."""
    between = "\n" if "\n" in one.text else "  "
    return f"{one.score:.3f}{between}{mark_cut(one.text, one.ended)}"


def print_json(
    texts: Sequence[Sequence[GeneratedText]], checkpoints: Sequence[Path] | None = None
) -> None:
    """Print each text as a JSON object on one line, with the fields of `GeneratedText`.

    A field that is None is left out, and infinity becomes null.

    Args:
        texts: a list of texts for each model.
        checkpoints: the file of each model, to be named in the objects; None to name no file.
    """
    lines = []
    for number, of_model in enumerate(texts):
        source = {} if checkpoints is None else {"checkpoint": str(checkpoints[number])}
        for one in of_model:
            known = {name: value for name, value in asdict(one).items() if value is not None}
            line = json.dumps(keep_finite({**source, **known}), ensure_ascii=False, allow_nan=False)
            lines.append(line)
    show_json("\n".join(lines))


def print_columns(headings: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
    """Print the texts of each model in a column of its own, side by side."""
    table = Table(show_lines=True)
    for heading in headings:
        table.add_column(Text(escape_line(heading)), overflow="fold", ratio=1)
    for row in zip_longest(*texts, fillvalue=""):
        table.add_row(*map(Text, row))
    put_generated(table)


class Stream:
    """Printer of one text while it is written.

    Args:
        prefix: printed before the first character.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._printed = False

    def __call__(self, character: str) -> None:
        """Print one more character."""
        show_generated(self._prefix + character)
        self._prefix, self._printed = "", True

    def mark(self, ended: bool | None) -> None:
        """Print the mark of a text that was cut off, on a terminal only."""
        if mark := mark_cut("", ended):
            self(mark)

    def end(self) -> None:
        """Print the newline, if anything was printed."""
        if self._printed:
            self("\n")


def headings(paths: Sequence[Path], models: Sequence[TrainedModel]) -> list[str]:
    """Name models by the settings in which they differ, at most `MOST_SETTINGS` of them.

    Equal or empty names also get the parts in which the paths differ. Names that are still equal or
    empty get numbers.
    """
    settings = [known_to_model(flatten(model.options)) for model in models]
    names = _find_differing(settings)[:MOST_SETTINGS]
    found = [
        ", ".join(f"{name}={override_text(one[name])}" for name in names if name in one)
        for one in settings
    ]
    for further in (_differing_parts(paths), [str(number + 1) for number in range(len(paths))]):
        found = [
            ", ".join(filter(None, (one, more))) if found.count(one) > 1 or not one else one
            for one, more in zip(found, further, strict=True)
        ]
    return found


def _find_differing(settings: Sequence[Settings]) -> list[str]:
    """Find the settings in which models differ, without those that are plumbing.

    If the kind of a group differs, the other settings of the group are left out.
    """
    differing: list[str] = []
    keys = dict.fromkeys(name for one in settings for name in one)
    for name in sorted(keys, key=lambda name: name.count(".")):
        values = {one[name] for one in settings if name in one}
        if len(values) > 1 and not (is_plumbing(name) or belongs_to(name, differing)):
            differing.append(name)
    return differing


def _differing_parts(paths: Sequence[Path]) -> list[str]:
    """Remove the parts that all paths share at their beginning or at their end."""

    def count_common(parts: Sequence[Sequence[str]]) -> int:
        return sum(1 for _ in takewhile(lambda same: len({*same}) == 1, zip(*parts, strict=False)))

    parts = [path.parts for path in paths]
    first, last = count_common(parts), count_common([one[::-1] for one in parts])
    return ["/".join(one[first : max(first, len(one) - last)]) for one in parts]
