"""Notices about a text, for the log, before it is trained on."""

import unicodedata

from lyricgen.data.encoding import EncodedCorpus
from lyricgen.data.file_formats import format_of


def format_notice(opening: str) -> str | None:
    """Notice that a text is no prose; None for prose.

    Args:
        opening: how its file begins.
    """
    kind = format_of(opening)
    if kind is None:
        return None
    return (
        f"looks like {kind}: the model learns its punctuation, names and numbers, too; for the "
        "text alone, save that as plain text"
    )


def private_use_notice(corpus: EncodedCorpus, encoding: str) -> str | None:
    """Notice private-use characters, which a wrong encoding gives; None without any."""
    private = [
        (character, int(count))
        for character, count in zip(corpus.vocabulary.characters, corpus.counts, strict=True)
        if unicodedata.category(character) == "Co"
    ]
    if not private:
        return None
    number = sum(count for _, count in private)
    first = ", ".join(f"U+{ord(character):04X}" for character, _ in private[:5])
    return (
        f"has {number:,} private-use characters ({first}{', …' if len(private) > 5 else ''}), "
        f"which have no meaning of their own: data.encoding={encoding} may be the wrong one"
    )


def repeated_lines_notice(corpus: EncodedCorpus) -> str | None:
    """Say how many lines of a list repeat; None where none does."""
    lines = corpus.lines if corpus.unit == "line" else []
    repeated = len(lines) - len(set(lines))
    if not repeated:
        return None
    return (
        f"{repeated:,} of {len(lines):,} lines repeat another: data.distinct=true keeps each once"
    )
