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

CUT = " […]"  # marks a text that was cut off


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
