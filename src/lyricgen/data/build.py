"""A text from its options: read, encoded, split; and notices about what it seems to be."""

import csv
import json
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from lyricgen.data.cache import MAX_BYTES, LargeText, encode_large, find_encoded, is_large
from lyricgen.data.corpus import EncodedCorpus, encode, prepare
from lyricgen.data.options import DataOptions
from lyricgen.data.reading import DEFAULT_MAX_BYTES, read_text, text_pieces
from lyricgen.data.samplers import ConsecutiveSampler, RandomSampler, TrainingSampler
from lyricgen.data.sources import cache_directory, corpus_path
from lyricgen.data.splits import Layout, Split, make_splits
from lyricgen.errors import UserError
from lyricgen.runs.listing import places_of

log = logging.getLogger(__name__)

# The samplers of running text, by the names that `sampler=` has for them: built from N, B, T and
# their options, whose names are those of the arguments.
SAMPLERS: dict[str, Callable[..., TrainingSampler]] = {
    "random": RandomSampler,
    "consecutive": ConsecutiveSampler,
}

_LINES = 200  # that are looked at, at most
_MOST = 0.8  # share of the lines that have to be of the format
_TIME = re.compile(r"\s*\[\d+:\d\d(?:[.:]\d+)?\]|\s*\[[a-z]{2,8}:[^\]]*\]\s*$")
_FROM_TO = re.compile(r"(?:\d+:)?\d\d:\d\d[,.]\d+ *--> *(?:\d+:)?\d\d:\d\d")
_BEGINS_JSON = re.compile(
    r'\s*(?:\{\s*"[^"]*"\s*:|\[\s*(?:\{\s*"|\[\s*["\d-]|"[^"]*"\s*,|-?[\d.]+\s*,))'
)
_SEPARATORS = {",": "CSV", ";": "CSV", "\t": "TSV", "|": "a table"}
OPENING = 50_000  # characters that tell what a text is


def format_of(opening: str) -> str | None:
    """Name the format of a text that is not plain prose or verse.

    Args:
        opening: how it begins, as it stands in the file; the last line may be cut.

    Returns:
        What to call it; None for a plain text.
    """
    lines = [line for line in opening.splitlines() if line.strip()]
    lines = (lines[:-1] or lines)[:_LINES]
    timed = sum(bool(_FROM_TO.match(line)) for line in lines)
    if timed and timed >= 0.15 * len(lines):
        return "subtitles with timestamps (SRT or VTT)"
    if re.search(r"^\s*\[\d+:\d\d", opening, re.MULTILINE) and _most(_TIME, lines):
        return "lyrics with timestamps (LRC)"
    if len(lines) > 1 and all(map(_is_json, lines)):
        return "JSON lines"
    if _BEGINS_JSON.match(opening):
        return "JSON"
    if re.match(r"\s*<\?xml\s", opening):
        return "XML"
    return next((name for mark, name in _SEPARATORS.items() if _is_table(lines, mark)), None)


def _most(pattern: re.Pattern[str], lines: Sequence[str]) -> bool:
    return sum(bool(pattern.match(line)) for line in lines) > _MOST * len(lines)


def _is_json(line: str) -> bool:
    if not line.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_table(lines: Sequence[str], separator: str) -> bool:
    """Whether most lines have the same number of fields, as in no prose with its spaces."""
    try:
        rows = list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return False
    if len(rows) < 3:
        return False
    [(columns, often)] = Counter(map(len, rows)).most_common(1)
    fields = [field for row in rows if len(row) == columns for field in row[1:]]
    loose = sum(not field or field[0] == " " for field in fields)
    return columns > 1 and often > _MOST * len(rows) and 2 * loose < len(fields)


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


def build_corpus(options: DataOptions) -> EncodedCorpus:
    """Read the text and encode it.

    Raises:
        UserError: it cannot be read, or is none to learn from.
    """
    path = corpus_path(options.kind, options.path)
    name = options.kind if options.path is None else options.path
    if options.unit == "text" and is_large(path):
        large = LargeText(
            path,
            encoding=options.encoding,
            control_characters=options.control_characters,
            newline=options.newline,
            lowercase=options.lowercase,
            max_chars=options.max_chars,
            max_bytes=options.max_bytes or MAX_BYTES,
        )
        return encode_large(large, name)
    return encode(
        prepare(
            read_text(
                path,
                options.encoding,
                options.max_bytes or DEFAULT_MAX_BYTES,
                options.control_characters,
            ),
            name=name,
            unit=options.unit,
            newline=options.newline,
            lowercase=options.lowercase,
            distinct_lines=options.distinct,
            max_chars=options.max_chars,
        )
    )


def find_corpus(options: DataOptions, digest: str | None, checkpoint: Path | None) -> EncodedCorpus:
    """Read the text that a model was trained on, wherever the model and its text lie by now.

    A relative path is tried from here, from where the run was started, and from each directory
    around the checkpoint. Last, the cache is searched for the digest.

    Args:
        options: of the training.
        digest: of the text; None if not known.
        checkpoint: the file of the model; None if not known.

    Returns:
        The text; another one only where the path names it and the right one is nowhere.

    Raises:
        UserError: the text is nowhere, or cannot be read.
    """
    if options.path is None:
        return build_corpus(options)
    here, problem = None, ""
    try:
        here = build_corpus(options)
        if digest in (None, here.digest):
            return here
    except UserError as error:
        problem = str(error)
    absolute = checkpoint is None or Path(options.path).is_absolute()
    places = [] if checkpoint is None or absolute else places_of(checkpoint)
    for path in (place / options.path for place in places):
        if not os.path.isfile(path):  # noqa: PTH113  which raises nothing
            continue
        with suppress(UserError):  # a file that only has the same name
            found = build_corpus(options.model_copy(update={"path": str(path)}))
            if digest in (None, found.digest):
                log.info("%s: read from %s", options.path, path)
                return found
    cached = None if digest is None else find_encoded(digest, options.path)
    if cached is not None:
        log.info("%s: read from the cache in %s", options.path, cache_directory())
        return cached
    if here is not None:
        return here
    looked = [f"from {str(place)!r}" for place in places]
    looked += [] if digest is None else ["in the cache"]
    also = f"; also looked for it {', '.join(looked)}" if looked else ""
    raise UserError(f"{problem}{also}")


def report_text(options: DataOptions, corpus: EncodedCorpus) -> None:
    """Log the notices about a text."""
    found = [private_use_notice(corpus, options.encoding)]
    if options.kind == "text":
        path = corpus_path(options.kind, options.path)
        pieces = text_pieces(
            path, options.encoding, MAX_BYTES, control_characters=options.control_characters
        )
        with suppress(UserError):  # a resumed run may have found its text elsewhere
            found.append(format_notice(next(pieces, "")[:OPENING]))
    for notice in found:
        if notice is not None:
            log.warning("%s %s", corpus.name, notice)
    repeated = repeated_lines_notice(corpus)
    if repeated is not None:
        log.info("%s: %s", corpus.name, repeated)


def build_splits(options: DataOptions, corpus: EncodedCorpus, layout: Layout) -> dict[str, Split]:
    """Split the text.

    Raises:
        UserError: a split would be too short.
    """
    return make_splits(
        corpus,
        layout=layout,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        split_seed=options.split_seed,
        max_held_out=options.max_held_out,
    )
