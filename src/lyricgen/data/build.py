"""Building of a run's corpus and splits from options, and notices about unusual texts."""

import csv
import json
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from lyricgen.data.batch import TrainingSampler
from lyricgen.data.cache import (
    MAX_BYTES,
    LargeText,
    cache_directory,
    encode_large,
    fetch_published,
    find_encoded,
    is_large,
)
from lyricgen.data.corpus import EncodedCorpus, encode
from lyricgen.data.options import BUNDLED, PUBLISHED, DataOptions, check_kind
from lyricgen.data.preparation import prepare
from lyricgen.data.reading import DEFAULT_MAX_BYTES, read_text, text_pieces
from lyricgen.data.samplers import ConsecutiveSampler, RandomSampler
from lyricgen.data.splits import Layout, Split, make_splits
from lyricgen.errors import UserError
from lyricgen.runs.newest import starting_directories

log = logging.getLogger(__name__)

# Samplers of running text by their names in `sampler=`. Each is called with the number of
# characters, the batch size, the steps of a window, and its options by name.
SAMPLERS: dict[str, Callable[..., TrainingSampler]] = {
    "random": RandomSampler,
    "consecutive": ConsecutiveSampler,
}

_LINES = 200  # most lines by which a format is recognised
_MOST = 0.8  # share of these lines that must have the format
_TIME = re.compile(r"\s*\[\d+:\d\d(?:[.:]\d+)?\]|\s*\[[a-z]{2,8}:[^\]]*\]\s*$")
_FROM_TO = re.compile(r"(?:\d+:)?\d\d:\d\d[,.]\d+ *--> *(?:\d+:)?\d\d:\d\d")
_BEGINS_JSON = re.compile(
    r'\s*(?:\{\s*"[^"]*"\s*:|\[\s*(?:\{\s*"|\[\s*["\d-]|"[^"]*"\s*,|-?[\d.]+\s*,))'
)
_SEPARATORS = {",": "CSV", ";": "CSV", "\t": "TSV", "|": "a table"}
OPENING = 50_000  # most characters by which a format is recognised


def corpus_path(kind: str, path: str | os.PathLike[str] | None = None) -> Path:
    """Find the file of a corpus; fetch a published file that is not in the cache.

    Args:
        kind: One of `KINDS`.
        path: The user's file for the kind ``text``; None or "" for all other kinds.

    Returns:
        The path of the file. A user's file may be missing.

    Raises:
        UserError: `kind` is unknown, `path` is missing or does not go with the kind, or a published
            file cannot be fetched, cannot be read or has another checksum.
    """
    if check_kind(kind) == "text":
        if not path:
            raise UserError("data=text needs data.path=FILE")
        return Path(path)
    if path:
        raise UserError(
            f"data={kind} has its own file and takes no data.path ({os.fspath(path)!r}); "
            "leave data.path out, or choose data=text"
        )
    if kind in BUNDLED:
        return Path(str(files("lyricgen.data") / "corpora" / BUNDLED[kind]))
    return fetch_published(PUBLISHED[kind])


def recognise_format(opening: str) -> str | None:
    """Recognise the format of a text, such as JSON, CSV or subtitles.

    Args:
        opening: the first characters of the text; the last line may be incomplete.

    Returns:
        The name of the format; None if no format is recognised.
    """
    lines = [line for line in opening.splitlines() if line.strip()]
    lines = (lines[:-1] or lines)[:_LINES]
    timed = sum(bool(_FROM_TO.match(line)) for line in lines)
    if timed and timed >= 0.15 * len(lines):
        return "subtitles with timestamps (SRT or VTT)"
    stamped = sum(bool(_TIME.match(line)) for line in lines)
    if re.search(r"^\s*\[\d+:\d\d", opening, re.MULTILINE) and stamped > _MOST * len(lines):
        return "lyrics with timestamps (LRC)"
    if len(lines) > 1 and all(map(_is_json, lines)):
        return "JSON lines"
    if _BEGINS_JSON.match(opening):
        return "JSON"
    if re.match(r"\s*<\?xml\s", opening):
        return "XML"
    return next((name for mark, name in _SEPARATORS.items() if _is_table(lines, mark)), None)


def _is_json(line: str) -> bool:
    if not line.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_table(lines: Sequence[str], separator: str) -> bool:
    """Whether lines are rows of a table with a given separator.

    There must be at least three rows, most of them with the same number of fields, two or more. In
    prose a space follows a comma, so most fields after the first of their row must neither be empty
    nor begin with a space.
    """
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


def private_use_notice(corpus: EncodedCorpus, encoding: str) -> str | None:
    """Describe a text's private-use characters, a sign of a wrong encoding; None if it has none."""
    private = [
        (character, int(count))
        for character, count in zip(corpus.vocabulary.characters, corpus.counts, strict=True)
        if count and unicodedata.category(character) == "Co"
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
    """Describe the repeated lines of a list; None for running text or if no line is repeated."""
    lines = corpus.lines if corpus.unit == "line" else []
    repeated = len(lines) - len(set(lines))
    if not repeated:
        return None
    return (
        f"{repeated:,} of {len(lines):,} lines repeat another: data.distinct=true keeps each once"
    )


def build_corpus(options: DataOptions) -> EncodedCorpus:
    """Read and encode the text that options name; a large running text is mapped from the cache.

    Raises:
        UserError: the options are wrong or contradict each other; the text cannot be fetched, read
            or kept in the cache; or it has nothing to learn from.
    """
    path = corpus_path(options.kind, options.path)
    name = options.kind if options.path is None else options.path
    if options.unit == "text" and is_large(path):
        names = {"encoding", "control_characters", "newline", "lowercase", "max_chars"}
        chosen = options.model_dump(include=names)
        large = LargeText(path, **chosen, max_bytes=options.max_bytes or MAX_BYTES)
        return encode_large(large, name)
    max_bytes = options.max_bytes or DEFAULT_MAX_BYTES
    text = read_text(path, options.encoding, max_bytes, options.control_characters)
    corpus = prepare(
        text,
        name=name,
        unit=options.unit,
        newline=options.newline,
        lowercase=options.lowercase,
        distinct_lines=options.distinct,
        max_chars=options.max_chars,
    )
    return encode(corpus)


def find_corpus(options: DataOptions, digest: str | None, checkpoint: Path | None) -> EncodedCorpus:
    """Find the text that a model was trained on, even if the model or the text has moved.

    A bundled or published text is read without a check of its digest. A user's file is looked for
    at its path from the current directory. If the path is relative, it is also tried from the
    directory where the run was started, and from each directory around the checkpoint. Last, the
    cache is searched for the digest.

    Args:
        options: the data options of the training.
        digest: the digest of the text; None accepts any text.
        checkpoint: the file of the model; None if unknown.

    Returns:
        The text with this digest. If there is none, the text at the path from the current
        directory.

    Raises:
        UserError: no text can be read; the message says why.
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
    directories = [] if checkpoint is None or absolute else starting_directories(checkpoint)
    for path in (directory / options.path for directory in directories):
        if not os.path.isfile(path):  # noqa: PTH113  which raises nothing
            continue
        with suppress(UserError):  # another file of the same name
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
    looked = [f"from {str(directory)!r}" for directory in directories]
    looked += [] if digest is None else ["in the cache"]
    also = f"; also looked for it {', '.join(looked)}" if looked else ""
    raise UserError(f"{problem}{also}")


def log_notices(options: DataOptions, corpus: EncodedCorpus) -> None:
    """Log notices about a text: private-use characters, repeated lines, another format.

    The format is checked only for a user's own file that can be read.
    """
    found = [private_use_notice(corpus, options.encoding)]
    if options.kind == "text":
        path = corpus_path(options.kind, options.path)
        pieces = text_pieces(
            path, options.encoding, MAX_BYTES, control_characters=options.control_characters
        )
        with suppress(UserError):  # a resumed run may have found its text elsewhere
            format_ = recognise_format(next(pieces, "")[:OPENING])
            if format_ is not None:
                found.append(
                    f"looks like {format_}: the model learns its punctuation, names and numbers, "
                    "too; for the text alone, save that as plain text"
                )
    for notice in found:
        if notice is not None:
            log.warning("%s %s", corpus.name, notice)
    repeated = repeated_lines_notice(corpus)
    if repeated is not None:
        log.info("%s: %s", corpus.name, repeated)


def build_splits(options: DataOptions, corpus: EncodedCorpus, layout: Layout) -> dict[str, Split]:
    """Split a corpus by the options of `data=`; `make_splits` explains the errors."""
    names = {"val_fraction", "test_fraction", "split_seed", "max_held_out"}
    return make_splits(corpus, layout=layout, **options.model_dump(include=names))
