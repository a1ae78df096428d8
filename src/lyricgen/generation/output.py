"""Generated texts on standard output: plain, as JSON, and side by side.

A file or a pipe gets the texts unaltered. On a terminal, characters that steer it are escaped.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lyricgen.console import on_terminal, put_generated, show_generated, show_json
from lyricgen.errors import printable
from lyricgen.files import finite
from lyricgen.generation.texts import Generated
from lyricgen.models.trained_model import TrainedModel
from lyricgen.settings import PLUMBING, Settings, belongs_to, flatten, known_to_model, typed_value

CUT = " […]"  # marks a text that was cut off


MOST = 4  # settings in a heading


def print_texts(texts: Sequence[str]) -> None:
    """Print them at once, with an empty line between them where one has several lines."""
    between = "\n\n" if any("\n" in text for text in texts) else "\n"
    show_generated(f"{between.join(texts)}\n")


def marked(text: str, ended: bool | None) -> str:
    """A text; on a terminal with a mark if it was cut off before its end."""
    return text + CUT if ended is False and on_terminal() else text


def with_score(one: Generated) -> str:
    """A text of a beam search after its score."""
    between = "\n" if "\n" in one.text else "  "
    return f"{one.score:.3f}{between}{marked(one.text, one.ended)}"


def print_json(
    texts: Sequence[Sequence[Generated]], checkpoints: Sequence[Path] | None = None
) -> None:
    """Print an object a line: what `Generated` has, null for what is not finite.

    Args:
        texts: of each model.
        checkpoints: named in the objects; None where there is one model.
    """
    lines = []
    for number, of_model in enumerate(texts):
        source = {} if checkpoints is None else {"checkpoint": str(checkpoints[number])}
        for one in of_model:
            known = {name: value for name, value in asdict(one).items() if value is not None}
            line = json.dumps(finite({**source, **known}), ensure_ascii=False, allow_nan=False)
            lines.append(line)
    show_json("\n".join(lines))


def print_columns(headings: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
    """Print a column for each model, and a row for each of their texts."""
    table = Table(show_lines=True)
    for heading in headings:
        table.add_column(Text(printable(heading)), overflow="fold", ratio=1)
    for row in zip_longest(*texts, fillvalue=""):
        table.add_row(*map(Text, row))
    put_generated(table)


class Stream:
    """Prints one text while it is written, and the end of its line at the end."""

    def __init__(self, prefix: str) -> None:
        self.begun = prefix
        self.shown = False

    def __call__(self, character: str) -> None:
        """Print one more character."""
        show_generated(self.begun + character)
        self.begun, self.shown = "", True

    def mark(self, ended: bool | None) -> None:
        """Print the mark of a text that was cut off."""
        if mark := marked("", ended):
            self(mark)

    def end(self) -> None:
        """Print the end of the line, if there is one."""
        if self.shown:
            self("\n")


def headings(paths: Sequence[Path], models: Sequence[TrainedModel]) -> list[str]:
    """Give each model a heading of its own."""
    settings = [known_to_model(flatten(model.options)) for model in models]
    names = _differing(settings)[:MOST]
    found = [
        ", ".join(f"{name}={typed_value(one[name])}" for name in names if name in one)
        for one in settings
    ]
    places = _differing_parts(paths)
    for further in (places, [str(number) for number in range(1, len(paths) + 1)]):
        found = [
            ", ".join(part for part in (one, more) if part)
            if found.count(one) > 1 or not one
            else one
            for one, more in zip(found, further, strict=True)
        ]
    return found


def _differing(settings: Sequence[Settings]) -> list[str]:
    """Settings in which models differ, unless their group differs as a whole."""
    differing: list[str] = []
    keys = dict.fromkeys(name for one in settings for name in one)
    for name in sorted(keys, key=lambda name: name.count(".")):
        values = {one[name] for one in settings if name in one}
        if len(values) > 1 and not belongs_to(name, (*PLUMBING, *differing)):
            differing.append(name)
    return differing


def _differing_parts(paths: Sequence[Path]) -> list[str]:
    """Parts in which paths differ."""
    parts = [path.parts for path in paths]
    length = min(map(len, parts))
    same = [len({one[i] for one in parts}) == 1 for i in range(length)]
    ends = [len({one[-1 - i] for one in parts}) == 1 for i in range(length)]
    first = same.index(False) if False in same else length
    last = ends.index(False) if False in ends else length
    return ["/".join(one[first : max(first, len(one) - last)]) for one in parts]
