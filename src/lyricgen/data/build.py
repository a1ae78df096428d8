"""Building of a run's corpus and splits from options, and notices about unusual texts."""

import logging
import os
import re
import unicodedata
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from lyricgen.data.batch import TrainingSampler
from lyricgen.data.cache import LargeText, encode_large, find_encoded
from lyricgen.data.cached_files import MAX_BYTES, cache_directory
from lyricgen.data.corpus import EncodedCorpus, encode
from lyricgen.data.formats import OPENING, TIMED, recognise_format, suggest_field
from lyricgen.data.options import ENDS, DataOptions, Unit
from lyricgen.data.preparation import prepare
from lyricgen.data.samplers import ConsecutiveSampler, RandomSampler
from lyricgen.data.sources import find_running_text, read_opening, read_parts, settle_field
from lyricgen.data.splits import Layout, Split, make_splits
from lyricgen.data.units import Division, describe_unit, settle_division
from lyricgen.errors import UserError
from lyricgen.files import is_there
from lyricgen.runs.newest import starting_directories

log = logging.getLogger(__name__)

# Samplers of running text by their names in `sampler=`. Each is called with the number of
# characters, the batch size, the steps of a window, and its options by name.
SAMPLERS: dict[str, Callable[..., TrainingSampler]] = {
    "random": RandomSampler,
    "consecutive": ConsecutiveSampler,
}


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
    """Describe repeated lines or documents; None for running text or if none is repeated."""
    lines = corpus.lines if corpus.unit in ENDS else []
    repeated = len(lines) - len(set(lines))
    if not repeated:
        return None
    return (
        f"{repeated:,} of {len(lines):,} {corpus.unit}s repeat another: data.distinct=true keeps "
        "each once"
    )


def format_notice(options: DataOptions, corpus: EncodedCorpus) -> str | None:
    """Describe the format of a text by its first characters; None for plain text."""
    opening = corpus.decode_opening(OPENING).replace(ENDS["document"], "\n")
    kind = recognise_format(opening)
    if kind is None or (kind in TIMED and options.timestamps == "drop"):
        return None
    field = suggest_field(opening, kind)
    if kind in TIMED:
        how = "type data.timestamps=drop"
    else:
        how = f"type data.{field.option}={field.name}" if field else "save that as plain text"
    return (
        f"looks like {kind}: the model learns its punctuation, names and numbers, too; for the "
        f"text alone, {how}"
    )


def build_corpus(options: DataOptions) -> EncodedCorpus:
    """Read and encode the text that options name; a large running text is mapped from the cache.

    Raises:
        UserError: the options are wrong or contradict each other; the text cannot be fetched, read
            or kept in the cache; or it has nothing to learn from.
    """
    options = settle_field(options)
    path = find_running_text(options)
    if path is not None:
        names = {"encoding", "control_characters", "newline", "lowercase", "min_count", "max_chars"}
        chosen = options.model_dump(include=names)
        large = LargeText(path, **chosen, max_bytes=options.max_bytes or MAX_BYTES)
        return encode_large(large, options.name)
    parts = read_parts(options)
    settled = settle_division(options, parts)
    unit: Unit = settled.unit  # type: ignore[assignment]  # settled
    if unit == "line" and options.field is not None:
        parts = [re.sub(r"\r\n?|\n", " ", part.strip()) for part in parts]
    corpus = prepare(
        parts,
        name=options.name,
        unit=unit,
        division=Division(settled.separator, settled.verse is True),
        newline=options.newline,
        lowercase=options.lowercase,
        distinct_lines=options.distinct,
        max_chars=options.max_chars,
    )
    return encode(corpus, options.min_count)


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
        _check_named(options, checkpoint)
        return build_corpus(options)
    here, problem = None, ""
    try:
        here = _build_recorded(options, digest)
        if digest in (None, here.digest):
            return here
    except UserError as error:
        problem = str(error)
    directories = _find_directories(options, checkpoint)
    for directory in directories:
        paths = [str(directory / path) for path in options.paths]
        if not all(map(is_there, paths)):
            continue
        with suppress(UserError):  # another file of the same name
            found = _build_recorded(options.model_copy(update={"path": paths}), digest)
            if digest in (None, found.digest):
                log.info("%s: read from %s", options.name, directory)
                return found
    cached = None if digest is None else find_encoded(digest, options.name)
    if cached is not None:
        log.info("%s: read from the cache in %s", options.name, cache_directory())
        return cached
    if here is not None:
        return here
    looked = [f"from {str(directory)!r}" for directory in directories]
    looked += [] if digest is None else ["in the cache"]
    also = f"; also looked for it {', '.join(looked)}" if looked else ""
    raise UserError(f"{problem}{also}")


def _build_recorded(options: DataOptions, digest: str | None) -> EncodedCorpus:
    """Build the corpus of a recorded run, which may have kept timestamps by an earlier version."""
    corpus = build_corpus(options)
    if digest in (None, corpus.digest) or options.timestamps == "keep":
        return corpus
    if recognise_format(read_opening(options)) not in TIMED:
        return corpus
    return build_corpus(options.model_copy(update={"timestamps": "keep"}))


def _find_directories(options: DataOptions, checkpoint: Path | None) -> list[Path]:
    """Find the directories in which the texts of a model may lie, besides the current one."""
    if checkpoint is None or all(Path(path).is_absolute() for path in options.paths):
        return []
    directories = starting_directories(checkpoint)
    if any(os.path.normpath(path).startswith(".") for path in options.paths):
        return directories[:1]  # any directory has a path like "."
    return directories


def _check_named(options: DataOptions, checkpoint: Path | None) -> None:
    """Raise a UserError if the file of a model leaves out the path of a user's text."""
    if options.kind == "text" and checkpoint is not None:
        raise UserError(
            f"{str(checkpoint)!r} does not say where the text lies: name the run or one of its "
            "checkpoints instead"
        )


def log_notices(
    options: DataOptions, corpus: EncodedCorpus, *, filled: Collection[str] = ()
) -> None:
    """Log notices about a text: unit and field that are `filled`, odd characters, repeats, format.

    The format is checked only for a user's own text.
    """
    if "data.unit" in filled:
        option, _, part = options.field or ("path", "", "file")
        whole = f", data.{option}=null the whole file" if f"data.{option}" in filled else ""
        described = describe_unit(corpus.name, corpus.unit, corpus.division, part)
        log.info("%s%s", described, whole)
    found = [private_use_notice(corpus, options.encoding)]
    if options.kind == "text" and options.field is None:
        found.append(format_notice(options, corpus))
    for notice in found:
        if notice is not None:
            log.warning("%s %s", corpus.name, notice)
    repeated = repeated_lines_notice(corpus)
    if repeated is not None:
        log.info("%s: %s", corpus.name, repeated)


def build_splits(options: DataOptions, corpus: EncodedCorpus, layout: Layout) -> dict[str, Split]:
    """Split a corpus by the options of `data=`; `make_splits` explains the errors."""
    names = {"val_fraction", "test_fraction", "split_seed", "max_held_out"}
    try:
        return make_splits(corpus, layout=layout, **options.model_dump(include=names))
    except UserError as error:
        raise UserError(f"{corpus.name}: {error}") from error
