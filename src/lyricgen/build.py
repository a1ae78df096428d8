"""From options to the corpus, the network and the module; `build_trainer` adds the Trainer."""

from functools import partial

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
from lyricgen.model.character_network import RecurrentArchitecture
from lyricgen.model.checkpoint import card
from lyricgen.model.fill_model import FillModel
from lyricgen.model.fill_module import FillModule
from lyricgen.model.models import Model, recurrent
from lyricgen.model.ngram_language_model import NgramArchitecture, NgramLanguageModel, NgramOptions
from lyricgen.model.ngram_module import NgramModule
from lyricgen.model.optimization import build_optimizer, build_scheduler
from lyricgen.model.recurrent_module import RecurrentModule
from lyricgen.model.scored_module import ScoredModule
from lyricgen.model.trained_model import TrainedModel


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


def build_network(options: TrainOptions, datamodule: CharacterDataModule) -> Model:
    """The network with its initial weights, drawn from the global generator."""
    vocabulary, start_symbol = datamodule.vocabulary, layout_of(options) == "lines"
    if isinstance(options.model, NgramOptions):
        return NgramLanguageModel(
            NgramArchitecture(
                **options.model.model_dump(),
                vocabulary_size=len(vocabulary),
                start_symbol=start_symbol,
            )
        )
    network = recurrent(
        RecurrentArchitecture(
            kind="recurrent",
            vocabulary_size=len(vocabulary),
            start_symbol=start_symbol,
            objective=options.objective,
            layers=options.layers,
            hidden_size=options.hidden_size,
            cell=options.cell,
            depth=options.depth,
            model=options.model,
        )
    )
    if options.trainer.precision == "64-true":
        # before Lightning does it, which first puts a checkpoint's weights in float32
        network.double()
    network.initialise(options.seed)
    if options.model.output_bias == "zero":
        network.output.bias.detach().zero_()
    elif options.model.output_bias == "unigram":
        network.set_output_bias(datamodule.parts["train"].character_counts(len(vocabulary)))
    return network


def trained_model(
    options: TrainOptions, datamodule: CharacterDataModule, network: Model
) -> TrainedModel:
    """The network together with the characters it speaks."""
    return TrainedModel(network, datamodule.vocabulary, layout_of(options), options.data.lowercase)


def build_module(
    options: TrainOptions, datamodule: CharacterDataModule, network: Model
) -> ScoredModule:
    """The network with its loss, optimizer and schedule; n-grams have none of these."""
    plain = card(trained_model(options, datamodule, network), options.model_dump(mode="json"))
    if isinstance(network, NgramLanguageModel):
        return NgramModule(network, plain)
    kind = FillModule if isinstance(network, FillModel) else RecurrentModule
    return kind(
        network,
        optimizer=partial(
            build_optimizer, options.optimizer, fused="mixed" not in options.trainer.precision
        ),
        schedule=partial(
            build_scheduler,
            options.scheduler,
            monitor=monitored(datamodule),
            epochs=options.trainer.max_epochs,
            steps_per_epoch=min(
                len(datamodule.sampler),
                options.trainer.limit_train_batches or len(datamodule.sampler),
            ),
            max_steps=options.trainer.max_steps,
        ),
        label_smoothing=options.loss.label_smoothing,
        reduction=options.loss.reduction,
        card=plain,
        seed=options.seed,
    )


def monitored(datamodule: CharacterDataModule) -> str:
    """The loss that says which epoch is best: held-out where there is such a part."""
    return "val/loss" if "val" in datamodule.parts else "train/loss"


def describe(
    corpus: EncodedCorpus,
    datamodule: CharacterDataModule,
    network: Model,
) -> str:
    """One line on what is about to be trained on what."""
    sizes = ", ".join(f"{part} {len(s.ids):,}" for part, s in datamodule.parts.items())
    learnt = (
        ""
        if isinstance(network, NgramLanguageModel)
        else f", {network.num_parameters:,} parameters"
    )
    return (
        f"{corpus.name}: {len(corpus):,} characters, {len(datamodule.vocabulary):,} distinct "
        f"({sizes}); {network.description}{learnt}"
    )
