"""From options to objects: the one module that knows both."""

from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.profilers import (
    AdvancedProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)

from lyricgen.callbacks.baseline import Baseline
from lyricgen.callbacks.perplexity import EpochLog, Perplexity, Throughput
from lyricgen.callbacks.progress import ProgressReport
from lyricgen.callbacks.samples import Samples, choose_prefixes
from lyricgen.checkpoint_io import AtomicCheckpointIO
from lyricgen.config import DataOptions, TrainOptions
from lyricgen.data.corpus import Corpus, prepare
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.parts import Layout, Part, make_parts
from lyricgen.data.reading import read_text
from lyricgen.data.samplers import (
    ConsecutiveSampler,
    LineSampler,
    RandomSampler,
    Sampler,
)
from lyricgen.data.sources import corpus_path
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.model.checkpoint import TrainedModel, card
from lyricgen.model.language_model import Architecture, LanguageModel
from lyricgen.model.module import LanguageModelModule
from lyricgen.model.optimization import build_optimizer, build_scheduler
from lyricgen.runs import Run


def build_corpus(options: DataOptions) -> Corpus:
    """Read the text.

    Raises:
        UserError: it cannot be read, or is none to learn from.
    """
    path = corpus_path(options.kind, options.path)
    return prepare(
        read_text(path, options.encoding, options.max_bytes),
        name=options.kind if options.path is None else options.path,
        unit=options.unit,
        newline=options.newline,
        lowercase=options.lowercase,
        max_chars=options.max_chars,
    )


def layout_of(options: TrainOptions) -> Layout:
    """How the text is laid out: as lines with start symbols for the sampler that serves lines."""
    return "lines" if options.sampler.kind == "lines" else "stream"


def build_datamodule(options: TrainOptions, corpus: Corpus) -> CharacterDataModule:
    """Encode, split, and choose the sampler.

    Raises:
        UserError: a part of the corpus is too short.
    """
    vocabulary = Vocabulary.of(corpus.text)
    parts = make_parts(
        corpus,
        vocabulary,
        layout=layout_of(options),
        val_fraction=options.data.val_fraction,
        test_fraction=options.data.test_fraction,
        split_seed=options.data.split_seed,
    )
    return CharacterDataModule(vocabulary, parts, build_sampler(options, parts["train"]))


def build_sampler(options: TrainOptions, part: Part) -> Sampler:
    """The sampler of the training part.

    Raises:
        UserError: the part is too short for one batch.
    """
    chosen, data = options.sampler, options.data
    if chosen.kind == "lines":
        if part.line_starts is None:
            raise ValueError("the lines sampler needs the layout of lines")
        return LineSampler(part.line_starts, part.line_lengths, data.batch_size, seed=options.seed)
    if chosen.kind == "random":
        return RandomSampler(
            len(part.ids),
            data.batch_size,
            data.num_steps,
            seed=options.seed,
            random_offset=chosen.random_offset,
        )
    return ConsecutiveSampler(
        len(part.ids), data.batch_size, data.num_steps, drop_last=chosen.drop_last
    )


def build_network(options: TrainOptions, datamodule: CharacterDataModule) -> LanguageModel:
    """The network with its initial weights, drawn from the global generator."""
    vocabulary = datamodule.vocabulary
    network = LanguageModel(
        Architecture(
            vocabulary_size=len(vocabulary),
            start_symbol=layout_of(options) == "lines",
            layers=options.layers,
            hidden_size=options.hidden_size,
            cell=options.cell,
            depth=options.depth,
            model=options.model,
        )
    )
    if options.model.output_bias == "unigram":
        ids = datamodule.parts["train"].ids
        counts = torch.bincount(ids[ids < len(vocabulary)], minlength=len(vocabulary))
        network.set_output_bias(counts)
    return network


def trained_model(
    options: TrainOptions, datamodule: CharacterDataModule, network: LanguageModel
) -> TrainedModel:
    """The network together with the characters it speaks."""
    return TrainedModel(network, datamodule.vocabulary, layout_of(options), options.data.lowercase)


def build_module(
    options: TrainOptions, datamodule: CharacterDataModule, network: LanguageModel
) -> LanguageModelModule:
    """The network with its loss, optimizer and schedule."""
    return LanguageModelModule(
        network,
        optimizer=partial(
            build_optimizer, options.optimizer, fused="mixed" not in options.trainer.precision
        ),
        schedule=partial(
            build_scheduler,
            options.scheduler,
            monitor=monitored(datamodule),
            epochs=options.trainer.max_epochs,
            validated_every=options.trainer.check_val_every_n_epoch,
            steps_per_epoch=min(
                len(datamodule.sampler),
                options.trainer.limit_train_batches or len(datamodule.sampler),
            ),
        ),
        label_smoothing=options.loss.label_smoothing,
        card=card(trained_model(options, datamodule, network), options.model_dump(mode="json")),
    )


def monitored(datamodule: CharacterDataModule) -> str:
    """The loss that says which epoch is best: held-out where there is such a part."""
    return "val/loss" if "val" in datamodule.parts else "train/loss"


def build_trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    network: LanguageModel,
    corpus: Corpus,
    run: Run,
) -> pl.Trainer:
    """Lightning's Trainer with lyricgen's callbacks, in the order in which they depend."""
    torch.set_float32_matmul_precision(options.trainer.float32_matmul_precision)
    chosen = options.trainer
    loggers: list[Logger] = []
    if options.logger.tensorboard:
        loggers.append(
            TensorBoardLogger(run.directory, name="", version="", default_hp_metric=False)
        )
    callbacks = build_callbacks(options, datamodule, network, corpus, run)
    try:
        trainer = _trainer(options, datamodule, run, loggers, callbacks)
    except Exception as error:  # Lightning tells wrong arguments by many kinds of error
        raise UserError(
            f"trainer: {error}: look at trainer.accelerator={chosen.accelerator}, "
            f"trainer.devices={chosen.devices} and trainer.strategy={chosen.strategy}"
        ) from error
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.devices={chosen.devices}: a run trains on one device: choose "
            "trainer.devices=1, and sweep with -m for several runs"
        )
    return trainer


def _trainer(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    run: Run,
    loggers: list[Logger],
    callbacks: list[pl.Callback],
) -> pl.Trainer:
    chosen = options.trainer
    return pl.Trainer(
        max_epochs=chosen.max_epochs,
        accelerator=chosen.accelerator,
        devices=chosen.devices,
        strategy=chosen.strategy,
        precision=chosen.precision,
        gradient_clip_val=chosen.gradient_clip_val,
        gradient_clip_algorithm=chosen.gradient_clip_algorithm,
        limit_train_batches=chosen.limit_train_batches,
        limit_val_batches=None if "val" in datamodule.parts else 0,
        check_val_every_n_epoch=chosen.check_val_every_n_epoch,
        deterministic=chosen.deterministic,
        profiler=build_profiler(chosen.profiler, run),
        logger=loggers,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=run.directory,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=options.callbacks.checkpoint.enabled,
        enable_autolog_hparams=False,
    )


def build_profiler(kind: str | None, run: Run) -> Profiler | None:
    """One of Lightning's profilers, which writes to the run's directory."""
    kinds: dict[str, type[Profiler]] = {
        "simple": SimpleProfiler,
        "advanced": AdvancedProfiler,
        "pytorch": PyTorchProfiler,
    }
    return None if kind is None else kinds[kind](dirpath=run.directory, filename="profile")


def build_callbacks(
    options: TrainOptions,
    datamodule: CharacterDataModule,
    network: LanguageModel,
    corpus: Corpus,
    run: Run,
) -> list[pl.Callback]:
    """Figures first, then what adds to them, then what reads them."""
    chosen = options.callbacks
    newest = LambdaCallback(on_train_start=lambda *_: run.become_newest())
    callbacks: list[pl.Callback] = [newest, Perplexity(), Throughput()]
    if chosen.baseline.enabled:
        callbacks.append(Baseline(chosen.baseline.max_order))
    if chosen.samples.every_n_epochs:
        model = trained_model(options, datamodule, network)
        callbacks.append(
            Samples(
                model,
                run.directory / "samples.jsonl",
                every_n_epochs=chosen.samples.every_n_epochs,
                prefixes=choose_prefixes(chosen.samples.prefixes, model, corpus.text),
                count=chosen.samples.count,
                length=chosen.samples.length,
                temperature=chosen.samples.temperature,
                seed=options.seed,
            )
        )
    if chosen.early_stopping.enabled:
        callbacks.append(
            EarlyStopping(
                monitored(datamodule),
                patience=chosen.early_stopping.patience,
                min_delta=chosen.early_stopping.min_delta,
                check_on_train_epoch_end=monitored(datamodule) == "train/loss",
            )
        )
    callbacks.append(EpochLog(run.directory / "metrics.csv" if options.logger.csv else None))
    if chosen.progress.enabled:
        callbacks.append(ProgressReport())
    if chosen.checkpoint.enabled:
        by_loss = monitored(datamodule)
        saved = partial(ModelCheckpoint, run.checkpoints, enable_version_counter=False)
        callbacks.append(
            saved(filename="best", monitor=by_loss, save_on_train_epoch_end=by_loss == "train/loss")
        )
        callbacks.append(saved(filename="last", save_on_train_epoch_end=True))
    return callbacks


def describe(
    options: TrainOptions, corpus: Corpus, datamodule: CharacterDataModule, network: LanguageModel
) -> str:
    """One line on what is about to be trained on what."""
    sizes = ", ".join(f"{part} {len(s.ids):,}" for part, s in datamodule.parts.items())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return (
        f"{corpus.name}: {len(corpus.text):,} characters, {len(datamodule.vocabulary):,} distinct "
        f"({sizes}); {options.cell.kind} {options.layers}x{options.hidden_size}, "
        f"{parameters:,} parameters"
    )
