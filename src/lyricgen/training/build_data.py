"""From options to the corpus in batches."""

import logging
import os
from contextlib import suppress
from pathlib import Path

from lyricgen.data.cache import encode_large, find_encoded
from lyricgen.data.corpus import prepare
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.encoding import EncodedCorpus, encode
from lyricgen.data.evaluation import FOLLOWING, StreamSampler
from lyricgen.data.large_text import MAX_BYTES, LargeText, is_large
from lyricgen.data.notices import format_notice, private_use_notice, repeated_lines_notice
from lyricgen.data.parts import Layout, Part, make_parts
from lyricgen.data.reading import DEFAULT_MAX_BYTES, read_text, text_pieces
from lyricgen.data.samplers import (
    ConsecutiveSampler,
    LineSampler,
    RandomSampler,
    Sampler,
)
from lyricgen.data.sources import cache_directory, corpus_path
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.ngram.language_model import NgramOptions
from lyricgen.runs.listing import places_of
from lyricgen.training.options import DataOptions, TrainOptions

log = logging.getLogger(__name__)

# Of a training batch of lines, estimated; longer lines are cut into pieces.
MAX_BATCH_BYTES = 2**31
OPENING = 50_000  # characters that tell what a text is
SHOWN = 20  # characters of a line that is named by its beginning


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


def layout_of(options: TrainOptions) -> Layout:
    """How the text is laid out: as lines with start symbols for the sampler that serves lines."""
    return "lines" if options.sampler.kind == "lines" else "stream"


def build_datamodule(options: TrainOptions, corpus: EncodedCorpus) -> CharacterDataModule:
    """Split, and choose the sampler.

    Raises:
        UserError: a part of the corpus is too short.
    """
    parts = make_parts(
        corpus,
        layout=layout_of(options),
        val_fraction=options.data.val_fraction,
        test_fraction=options.data.test_fraction,
        split_seed=options.data.split_seed,
        max_held_out=options.data.max_held_out,
    )
    sampler = build_sampler(options, parts["train"], len(corpus.vocabulary))
    following = FOLLOWING if options.objective == "fill" else 0
    return CharacterDataModule(corpus.vocabulary, parts, sampler, following)


def build_sampler(options: TrainOptions, part: Part, vocabulary_size: int) -> Sampler:
    """The sampler of the training part.

    Raises:
        UserError: the part is too short for one window.
    """
    if isinstance(options.model, NgramOptions):  # one batch: all there is
        return StreamSampler(len(part.ids), num_rows=1, num_steps=len(part.ids) - 1)
    chosen, data = options.sampler, options.data
    if chosen.kind == "consecutive":
        return ConsecutiveSampler(
            len(part.ids),
            data.batch_size,
            data.num_steps,
            drop_last=chosen.drop_last,
            carry_state=chosen.carry_state,
        )
    seed = options.seed if chosen.seed is None else chosen.seed
    if chosen.kind == "random":
        return RandomSampler(
            len(part.ids),
            data.batch_size,
            data.num_steps,
            seed=seed,
            shuffle=chosen.shuffle,
            random_offset=chosen.random_offset,
            drop_last=chosen.drop_last,
        )
    if part.line_starts is None:
        raise ValueError("the lines sampler needs the layout of lines")
    return LineSampler(
        part.line_starts,
        part.line_lengths,
        data.batch_size,
        seed=seed,
        shuffle=chosen.shuffle,
        carry_state=chosen.carry_state,
        longest=longest_row(options, vocabulary_size),
    )


def longest_row(options: TrainOptions, vocabulary_size: int) -> int:
    """Characters of a line for which a training batch takes 2 GB at most, by estimate.

    A window of data.num_steps is taken as it is, as in running text.
    """
    stacks = options.layers * (2 if options.objective == "fill" else 1)
    numbers = 32 * options.hidden_size * stacks + 4 * vocabulary_size  # of a character, measured
    most = MAX_BATCH_BYTES // (4 * numbers * options.data.batch_size)
    return max(options.data.num_steps, most)


def report_batches(options: TrainOptions, datamodule: CharacterDataModule) -> None:
    """Log where training batches differ from what was asked for, or leave characters out."""
    sampler, part = datamodule.sampler, datamodule.parts["train"]
    if isinstance(sampler, LineSampler):
        _report_long_lines(sampler, part, datamodule.vocabulary)
    if not isinstance(sampler, RandomSampler | ConsecutiveSampler | LineSampler):
        return
    if sampler.batch_size < options.data.batch_size:
        log.info(
            "the training part is smaller than a batch: data.batch_size=%d is lowered to %d",
            options.data.batch_size,
            sampler.batch_size,
        )
    targets = len(part.ids) - (1 if part.line_starts is None else len(part.line_starts))
    read, reasons = sampler.num_read, []
    if read < targets:
        reasons.append("sampler.drop_last=true")
    limits = {
        "limit_train_batches": options.trainer.epoch_batches(len(sampler)),
        "max_steps": options.trainer.max_steps,
    }
    for name, most in limits.items():
        if most is not None and most < len(sampler):
            reasons.append(f"trainer.{name}={getattr(options.trainer, name)}")
            batches = (sampler.windows(0, index) for index in range(most))
            read = min(read, sum(batch.num_characters for batch in batches))
    if reasons:
        log.info(
            "each epoch leaves out %s of the %s characters to predict in the training part: %s",
            f"{targets - read:,}",
            f"{targets:,}",
            ", ".join(reasons),
        )


def _report_long_lines(sampler: LineSampler, part: Part, vocabulary: Vocabulary) -> None:
    cut_up = int((sampler.pieces > 1).sum())
    if not cut_up or part.line_starts is None:
        return
    longest = int(part.line_lengths.argmax())
    first = int(part.line_starts[longest]) + 1
    log.warning(
        "%s cut into pieces of up to %s characters, since a batch with whole ones would take too "
        "much memory; the longest has %s characters and begins with %r",
        "1 line is" if cut_up == 1 else f"{cut_up:,} lines are",
        f"{int(sampler.row_lengths.max()):,}",
        f"{int(part.line_lengths[longest]) - 1:,}",
        vocabulary.decode(part.ids[first : first + SHOWN]),
    )
