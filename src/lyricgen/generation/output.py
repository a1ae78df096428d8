"""Generated texts on standard output: plain, as JSON, and side by side.

Files and pipes get the texts unaltered. On a terminal, characters that steer it are escaped.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile, zip_longest
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lyricgen.console import on_terminal, put_generated, show_generated, show_json
from lyricgen.errors import printable
from lyricgen.files import finite
from lyricgen.generation.texts import Generated
from lyricgen.models.trained_model import TrainedModel
from lyricgen.settings import PLUMBING, Settings, belongs_to, flatten, known_to_model, override_text

CUT = " […]"  # marks a text that was cut off
MOST = 4  # settings in a heading


def print_texts(texts: Sequence[str]) -> None:
    """Print texts, with an empty line between them if any of them has several lines."""
    between = "\n\n" if any("\n" in text for text in texts) else "\n"
    show_generated(f"{between.join(texts)}\n")


def marked(text: str, ended: bool | None) -> str:
    """Add a mark to a text that was cut off before its end, on a terminal only."""
    return text + CUT if ended is False and on_terminal() else text


def with_score(one: Generated) -> str:
    """Write the score that a beam search gave a text, then the text, marked by `marked`."""
    between = "\n" if "\n" in one.text else "  "
    return f"{one.score:.3f}{between}{marked(one.text, one.ended)}"


def print_json(
    texts: Sequence[Sequence[Generated]], checkpoints: Sequence[Path] | None = None
) -> None:
    """Print each text as a JSON object on one line: the fields of `Generated` that are not None.

    Infinity becomes null.

    Args:
        texts: a list of texts for each model.
        checkpoints: the file of each model, which the objects name; None to name no file.
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
    """Print a column for each model; a row holds one text of each model."""
    table = Table(show_lines=True)
    for heading in headings:
        table.add_column(Text(printable(heading)), overflow="fold", ratio=1)
    for row in zip_longest(*texts, fillvalue=""):
        table.add_row(*map(Text, row))
    put_generated(table)


class Stream:
    """Prints one text while it is written, and a newline after it.

    Args:
        prefix: printed with the first character.
    """

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
        """Print the newline, if anything was printed."""
        if self.shown:
            self("\n")


def headings(paths: Sequence[Path], models: Sequence[TrainedModel]) -> list[str]:
    """Name models by the settings in which they differ, at most `MOST`.

    Equal or empty names get the differing parts of the paths, then numbers if they are still equal.
    """
    settings = [known_to_model(flatten(model.options)) for model in models]
    names = _differing(settings)[:MOST]
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


def _differing(settings: Sequence[Settings]) -> list[str]:
    """Settings in which models differ.

    If the kind of a group differs, its other settings are left out; so are those of `PLUMBING`.
    """
    differing: list[str] = []
    keys = dict.fromkeys(name for one in settings for name in one)
    for name in sorted(keys, key=lambda name: name.count(".")):
        values = {one[name] for one in settings if name in one}
        if len(values) > 1 and not belongs_to(name, (*PLUMBING, *differing)):
            differing.append(name)
    return differing


def _differing_parts(paths: Sequence[Path]) -> list[str]:
    """Paths without the parts that all of them begin or end with."""

    def count_common(parts: Sequence[Sequence[str]]) -> int:
        return sum(1 for _ in takewhile(lambda same: len({*same}) == 1, zip(*parts, strict=False)))

    parts = [path.parts for path in paths]
    first, last = count_common(parts), count_common([one[::-1] for one in parts])
    return ["/".join(one[first : max(first, len(one) - last)]) for one in parts]
