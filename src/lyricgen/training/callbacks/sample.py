"""A text drawn while the network learns, and how the terminal and TensorBoard show it."""

from dataclasses import dataclass

from lyricgen.errors import printable_text


@dataclass(frozen=True)
class Sample:
    """One generated text and how it came about."""

    step: int
    epoch: int
    prefix: str
    strategy: str
    seed: int
    text: str


def one_line(text: str) -> str:
    """A text as the terminal shows it."""
    return printable_text(text.strip().replace("\n", " / "))


def as_markdown(samples: list[Sample]) -> str:
    """Drawings as TensorBoard's Markdown: a heading for each strategy, the texts as they are.

    Only the empty lines that a text begins or ends with are not shown.
    """
    drawn: dict[str, list[str]] = {}
    for sample in samples:
        heading = f"**epoch {sample.epoch}, {sample.strategy}**"
        drawn.setdefault(heading, []).append(_indented(sample.text))
    parts = (
        part for heading, texts in drawn.items() for part in (heading, "\n\n---\n\n".join(texts))
    )
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    """Escape a text so that Markdown keeps its line breaks, stars and hashes."""
    return "\n".join(f"    {line}" for line in text.split("\n"))
