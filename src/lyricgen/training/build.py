"""Build the data module, the model and the LightningModule of a run from its options."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from lyricgen.data.batch import Sampler, TrainingSampler
from lyricgen.data.build import SAMPLERS, build_splits
from lyricgen.data.corpus import EncodedCorpus
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.recall import Recollection
from lyricgen.data.samplers import FOLLOWING, LineSampler, StreamSampler
from lyricgen.data.splits import Layout, Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.card import card
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.hybrid_building import build_hybrid, find_network
from lyricgen.models.memory_model import MemoryModel, add_memory, without_memory
from lyricgen.models.model import Model
from lyricgen.models.network import CharacterNetwork, recurrent
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.optimizers import build_optimizer, build_scheduler
from lyricgen.models.options import (
    NetworkOptions,
    NgramArchitecture,
    RecurrentArchitecture,
    RecurrentOptions,
)
from lyricgen.models.regularization import build_noise
from lyricgen.models.trained_model import TrainedModel, find_ngrams
from lyricgen.runs.state import RunState
from lyricgen.training.options import TrainOptions
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal

log = logging.getLogger(__name__)

# Most memory, by estimate, of a training batch of lines. Lines that would need more are cut up.
MAX_BATCH_BYTES = 2**31
CHARACTERS_SHOWN = 20  # first characters of a line in a message


def choose_layout(options: TrainOptions) -> Layout:
    """Choose the layout of the text: with sampler=lines by its unit, else "stream"."""
    if options.sampler.kind != "lines":
        return "stream"
    return "documents" if options.data.unit == "document" else "lines"


def build_datamodule(options: TrainOptions, corpus: EncodedCorpus) -> CharacterDataModule:
    """Split the corpus, and build the sampler and the data module.

    Raises:
        UserError: the fractions of the splits are wrong, a split is too short, or
            trainer.limit_train_batches leaves no batch.
    """
    splits = build_splits(options.data, corpus, choose_layout(options))
    sampler = _build_sampler(options, splits["train"], len(corpus.vocabulary))
    if options.trainer.epoch_batches(len(sampler)) == 0:
        raise UserError(
            f"trainer.limit_train_batches={options.trainer.limit_train_batches} leaves none of the "
            f"{len(sampler)} batches of an epoch: raise it"
        )
    following = FOLLOWING if options.objective == "fill" else 0
    return CharacterDataModule(corpus.vocabulary, splits, sampler, following)


def _build_sampler(options: TrainOptions, split: Split, vocabulary_size: int) -> Sampler:
    if not options.model.trains_in_steps:  # one batch of all characters
        return StreamSampler(len(split.ids), num_rows=1, num_steps=len(split.ids) - 1)
    data, settings = options.data, options.sampler.model_dump(exclude={"kind"})
    if settings.get("seed", 0) is None:
        settings["seed"] = options.seed
    if split.line_starts is None:
        sampler = SAMPLERS[options.sampler.kind]
        return sampler(len(split.ids), data.batch_size, data.num_steps, **settings)
    longest = longest_row(options, vocabulary_size)
    return LineSampler(
        split.line_starts, split.line_lengths, data.batch_size, longest=longest, **settings
    )


def longest_row(options: TrainOptions, vocabulary_size: int) -> int:
    """Find the most characters of a row of a training batch.

    Documents are cut into rows of at most data.num_steps characters. For lines the result is the
    estimated length, at least data.num_steps, that keeps a batch within 2 GiB.
    """
    if options.data.unit == "document":
        return options.data.num_steps
    stacks = options.layers * (2 if options.objective == "fill" else 1)
    numbers = 32 * options.hidden_size * stacks + 4 * vocabulary_size  # per character, measured
    most = MAX_BATCH_BYTES // (4 * numbers * options.data.batch_size)
    return max(options.data.num_steps, most)


def log_batches(options: TrainOptions, datamodule: CharacterDataModule) -> None:
    """Log a lowered batch size, lines that are cut up, and characters that an epoch leaves out."""
    sampler, split = datamodule.sampler, datamodule.splits["train"]
    if isinstance(sampler, LineSampler):
        _report_long_lines(options, sampler, split, datamodule.vocabulary)
    if not isinstance(sampler, TrainingSampler):
        return
    if sampler.batch_size < options.data.batch_size:
        log.info(
            "the training split is smaller than a batch: data.batch_size=%d is lowered to %d",
            options.data.batch_size,
            sampler.batch_size,
        )
    targets = len(split.ids) - (1 if split.line_starts is None else len(split.line_starts))
    read, reasons = sampler.num_read, []
    if read < targets:
        reasons.append("sampler.drop_last=true")
    steps = options.trainer.max_steps
    limits = {
        "limit_train_batches": options.trainer.epoch_batches(len(sampler)),
        "max_steps": None if steps is None else steps * options.trainer.accumulate_grad_batches,
    }
    for name, most in limits.items():
        if most is not None and most < len(sampler):
            reasons.append(f"trainer.{name}={getattr(options.trainer, name)}")
            batches = (sampler.windows(0, index) for index in range(most))
            read = min(read, sum(batch.num_characters for batch in batches))
    if reasons:
        log.info(
            "each epoch leaves out %s of the %s characters to predict in the training split: %s",
            f"{targets - read:,}",
            f"{targets:,}",
            ", ".join(reasons),
        )


def _report_long_lines(
    options: TrainOptions, sampler: LineSampler, split: Split, vocabulary: Vocabulary
) -> None:
    cut_up = int((sampler.pieces > 1).sum())
    if not cut_up or split.line_starts is None:
        return
    if options.data.unit == "document":
        log.info(
            "%s of %s documents are longer than data.num_steps=%d and trained in pieces, each from "
            "state zero; they are scored as a whole",
            *(f"{cut_up:,}", f"{len(sampler.pieces):,}", options.data.num_steps),
        )
        return
    longest = int(split.line_lengths.argmax())
    first = int(split.line_starts[longest]) + 1
    log.warning(
        "%s cut into pieces of up to %s characters, since a batch with whole ones would take too "
        "much memory; the longest has %s characters and begins with %r",
        "1 line is" if cut_up == 1 else f"{cut_up:,} lines are",
        f"{int(sampler.row_lengths.max()):,}",
        f"{int(split.line_lengths[longest]) - 1:,}",
        vocabulary.decode(split.ids[first : first + CHARACTERS_SHOWN]),
    )


def build_model(
    options: TrainOptions, datamodule: CharacterDataModule, older: TrainedModel | None = None
) -> CharacterNetwork | HybridModel | MemoryModel | NgramLanguageModel:
    """Build the model, and initialise its weights if it has a network.

    torch's global generator draws the weights. With model.init=numpy_normal_0.01, NumPy draws the
    matrices, seeded with options.seed. A hybrid model counts its n-grams, and joins them with those
    of an older model. Characters that the text lacks get no part of label smoothing.
    """
    chosen, splits, vocabulary = options.model, datamodule.splits, datamodule.vocabulary
    train, size, present = splits["train"], len(vocabulary), datamodule.present
    text: dict[str, Any] = {
        "vocabulary_size": size,
        "start_symbol": choose_layout(options) != "stream",
    }
    if chosen.kind == "ngram":
        return NgramLanguageModel(NgramArchitecture(**chosen.model_dump(), **text))
    of_network = chosen.model_dump(include=set(NetworkOptions.model_fields))
    architecture = RecurrentArchitecture(
        kind="recurrent",
        **text,
        objective=options.objective,
        layers=options.layers,
        hidden_size=options.hidden_size,
        cell=options.cell,
        depth=options.depth,
        model=RecurrentOptions(kind="recurrent", **of_network),
    )
    model: CharacterNetwork | HybridModel | MemoryModel
    if chosen.kind == "hybrid":
        ngrams = None if older is None else find_ngrams(older, vocabulary, present)
        model = build_hybrid(chosen, architecture, splits, vocabulary, ngrams)
    else:
        model = recurrent(architecture)
    if options.memory.kind == "cache":
        model = add_memory(model, options.memory, vocabulary, reads_hidden=True)
    if options.trainer.precision == "64-true":
        # Lightning would do it too late: it would convert a checkpoint's weights to float32 first
        model.double()
    network = find_network(model)
    network.initialise(options.seed)
    if chosen.output_bias == "zero":
        network.output.bias.detach().zero_()
    elif chosen.output_bias == "unigram":
        network.set_output_bias(train.character_counts(size))
    if chosen.noise:
        network.noise = build_noise(chosen, train.sound_ids, train.character_counts(size))
    without_memory(model).smoothed = None if bool(present.all()) else present.float()
    return model


def find_recollections(model: Model, splits: Mapping[str, Split]) -> dict[str, Recollection]:
    """Find what a model with a memory recalls of each split; nothing for other models.

    Raises:
        UserError: the mapped ids of a split are damaged and cannot be restored.
    """
    found = {
        name: model.recollect_training() if name == "train" else model.recollect(split)
        for name, split in splits.items()
    }
    return {name: one for name, one in found.items() if one is not None}


def trained_model(
    options: TrainOptions, datamodule: CharacterDataModule, model: Model
) -> TrainedModel:
    """Join a model with its vocabulary, its options and the layout of its text."""
    train = datamodule.splits["train"]
    return TrainedModel(
        model,
        datamodule.vocabulary,
        choose_layout(options),
        options.data.lowercase,
        options.model_dump(mode="json"),
        longest_line=None if train.line_starts is None else int(train.line_lengths.max()) - 1,
    )


def build_module(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    model: Model,
    state: RunState,
    total: NatsTotal,
) -> RecurrentModule:
    """Build the LightningModule of a model, with its loss, optimizer and schedule.

    The module adds up the nats of the training split in `total`.
    """
    return RecurrentModule(
        model,
        optimizer=partial(
            build_optimizer,
            options.optimizer,
            fused="mixed" not in options.trainer.precision,
            hidden_matrices=find_network(model).hidden_matrices(),
        ),
        schedule=partial(
            build_scheduler,
            options.scheduler,
            monitor=choose_monitor(datamodule),
            epochs=options.trainer.max_epochs,
            steps_per_epoch=options.trainer.epoch_steps(len(datamodule.sampler)),
            max_steps=options.trainer.max_steps,
        ),
        label_smoothing=options.loss.label_smoothing,
        reduction=options.loss.reduction,
        card=card(trained_model(options, datamodule, model)),
        state=state,
        total=total,
        seed=options.seed,
        batches=options.trainer.accumulate_grad_batches,
    )


def choose_monitor(datamodule: CharacterDataModule) -> str:
    """Return the name of the loss that decides which epoch is best."""
    return "val/loss" if "val" in datamodule.splits else "train/loss"


def describe(corpus: EncodedCorpus, datamodule: CharacterDataModule, model: Model) -> str:
    """Describe the text and the model in one line."""
    size = len(datamodule.vocabulary)
    sizes = ", ".join(
        f"{name} {int(split.character_counts(size).sum()):,}"
        for name, split in datamodule.splits.items()
    )
    parameters = model.num_parameters  # n-grams have none yet
    learnt = f", {parameters:,} parameters" if parameters else ""
    rare = len(datamodule.vocabulary.rare)
    merged = f" ({rare:,} more are rare)" if rare else ""
    return (
        f"{corpus.name}: {len(corpus):,} characters, {size:,} distinct{merged} "
        f"({sizes}); {model.description}{learnt}"
    )
