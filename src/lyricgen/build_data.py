"""From options to the corpus in batches."""

from lyricgen.config import DataOptions, TrainOptions
from lyricgen.data.cache import encode_large
from lyricgen.data.corpus import prepare
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.encoding import EncodedCorpus, encode
from lyricgen.data.evaluation import FOLLOWING, StreamSampler
from lyricgen.data.large_text import MAX_BYTES, LargeText, is_large
from lyricgen.data.parts import Layout, Part, make_parts
from lyricgen.data.reading import DEFAULT_MAX_BYTES, read_text
from lyricgen.data.samplers import (
    ConsecutiveSampler,
    LineSampler,
    RandomSampler,
    Sampler,
)
from lyricgen.data.sources import corpus_path
from lyricgen.model.ngram_language_model import NgramOptions


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
            newline=options.newline,
            lowercase=options.lowercase,
            max_chars=options.max_chars,
            max_bytes=options.max_bytes or MAX_BYTES,
        )
        return encode_large(large, name)
    return encode(
        prepare(
            read_text(path, options.encoding, options.max_bytes or DEFAULT_MAX_BYTES),
            name=name,
            unit=options.unit,
            newline=options.newline,
            lowercase=options.lowercase,
            distinct_lines=options.distinct,
            max_chars=options.max_chars,
        )
    )


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
    sampler = build_sampler(options, parts["train"])
    following = FOLLOWING if options.objective == "fill" else 0
    return CharacterDataModule(corpus.vocabulary, parts, sampler, following)


def build_sampler(options: TrainOptions, part: Part) -> Sampler:
    """The sampler of the training part.

    Raises:
        UserError: the part is too short for one batch.
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
    )
