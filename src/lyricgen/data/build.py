"""From options to the text, encoded and split."""

import logging
import os
from contextlib import suppress
from pathlib import Path

from lyricgen.data.cache import encode_large, find_encoded
from lyricgen.data.corpus import prepare
from lyricgen.data.encoding import EncodedCorpus, encode
from lyricgen.data.large_text import MAX_BYTES, LargeText, is_large
from lyricgen.data.notices import format_notice, private_use_notice, repeated_lines_notice
from lyricgen.data.options import DataOptions
from lyricgen.data.parts import Layout, Part, make_parts
from lyricgen.data.reading import DEFAULT_MAX_BYTES, read_text, text_pieces
from lyricgen.data.sources import cache_directory, corpus_path
from lyricgen.errors import UserError
from lyricgen.runs.listing import places_of

log = logging.getLogger(__name__)

OPENING = 50_000  # characters that tell what a text is


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


def build_parts(options: DataOptions, corpus: EncodedCorpus, layout: Layout) -> dict[str, Part]:
    """Split the text.

    Raises:
        UserError: a part would be too short.
    """
    return make_parts(
        corpus,
        layout=layout,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        split_seed=options.split_seed,
        max_held_out=options.max_held_out,
    )
