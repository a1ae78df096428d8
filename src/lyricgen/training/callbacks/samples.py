"""Draw samples in training, and measure their overlap with the splits of the corpus."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.data.batch import combine_seed
from lyricgen.data.splits import Split
from lyricgen.errors import UserError, escape_text
from lyricgen.evaluation.memorisation import (
    LOGGED_DISTINCT,
    LOGGED_IN_HELD_OUT,
    LOGGED_LINES,
    LOGGED_LONGEST,
    LOGGED_NGRAMS,
    SharedNgrams,
    distinct_ngrams,
    held_out_names,
    measure_overlap,
    share_in,
)
from lyricgen.generation.filling import encode_gaps, fill_texts
from lyricgen.generation.texts import generate_texts
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.record_files import RecordError, Sample, read_json_lines
from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer, is_epoch_end
from lyricgen.training.loggers.logger import RunLogger
from lyricgen.training.observer_options import SamplesOptions

log = logging.getLogger(__name__)

GREEDY = "greedy"
SAMPLES_SHOWN = 3  # samples on the terminal at a time
SHOWN_EVERY = 5  # epochs between samples on the terminal
NOTEBOOK_PREFIXES = ("分开", "不分开")
LONGEST_LINE = 30  # characters, at most, of the first line that becomes a text with gaps
MOST_COMPARED = 10_000_000  # characters, at most, of a training split to compare samples with


def one_line(text: str) -> str:
    """Join the lines of a text into one printable line."""
    return escape_text(text.strip().replace("\n", " / "))


class Copying:
    """Overlap of samples with the splits of the corpus.

    samples/copied_fraction: share of whole lines (models of documents: of whole documents) that
        occur in the training split
    samples/copied_ngrams_N: share of n-grams of N characters that occur in the training split
    samples/longest_copied: characters of the longest passage that occurs in the training split
    samples/in_held_out: the same for the held-out splits (models of lines or documents)
    samples/distinct_2: distinct-2 (Li et al. 2016; models of lines or documents)

    A figure is left out if there is nothing to compare. The first three need a training split of at
    most `MOST_COMPARED` characters. N-grams and passages do not include prefixes.
    `length` is the greatest number of new characters of a sample.
    """

    def __init__(self, model: TrainedModel, splits: dict[str, Split], length: int) -> None:
        self.model = model
        self.length = length
        # whole lines end with the newline, or with the space if the corpus has no newline
        self._line_end = model.end or ("\n" if "\n" in model.vocabulary.characters else " ")
        self._lines: frozenset[str] | None = None
        self._shared: SharedNgrams | None = None
        self._held_out: frozenset[str] = frozenset()
        vocabulary, ids = model.vocabulary, splits["train"].ids
        if len(ids) > MOST_COMPARED:
            log.info(
                "%s and the like: left out, the training split is too long for it", LOGGED_LINES
            )
        else:
            self._lines = frozenset(self._split(splits["train"].text(vocabulary)))
            self._shared = SharedNgrams(splits["train"].sound_ids.numpy(), len(vocabulary) + 1)
        if model.end is not None:
            self._held_out = held_out_names(splits, vocabulary, model.end)

    def figures(self, drawn: Sequence[tuple[str, str]]) -> dict[str, float]:
        """Compute the figures of samples, which are pairs of a prefix and the whole text."""
        figures = {}
        lines = [line for prefix, text in drawn for line in self._whole_lines(prefix, text)]
        if self._lines is not None and lines:
            figures[LOGGED_LINES] = share_in(lines, self._lines)
        vocabulary = self.model.vocabulary
        texts = [vocabulary.encode(text[len(prefix) :]).numpy() for prefix, text in drawn]
        if self._shared is not None and any(map(len, texts)):
            common = measure_overlap(self._shared, texts, list(LOGGED_NGRAMS))
            figures |= {LOGGED_NGRAMS[n]: share for n, share in common.ngrams.items()}
            figures[LOGGED_LONGEST] = float(common.longest)
        if lines and self._held_out:
            figures[LOGGED_IN_HELD_OUT] = share_in(lines, self._held_out)
        if self.model.end is not None and (distinct := distinct_ngrams(texts, 2)) is not None:
            figures[LOGGED_DISTINCT] = distinct
        return figures

    def _whole_lines(self, prefix: str, text: str) -> list[str]:
        if self.model.end is not None:
            whole = len(text) - len(prefix) < self.length
            return [text] if whole and text else []
        # without the last line, which ends at the length of the sample
        return self._split(text[: text.rfind(self._line_end) + 1])

    def _split(self, text: str) -> list[str]:
        return [line for line in text.split(self._line_end) if line]


class Samples(Observer):
    """Draws greedy and random samples after the chosen epochs and steps.

    If epochs are chosen, samples are drawn before training, too. The loggers and samples.jsonl get
    all samples; the terminal shows a few of them. Samples have their own random generators, so they
    do not change the training. Samples of a model that fills gaps have no figures, since most of
    their text is given.

    Args:
        state: state of the run; `state.metrics` gets the figures of `Copying`.
        model: the model in training.
        path: path of samples.jsonl; samples are appended.
        options: number of samples, and when and how to draw them.
        opening: first characters of the corpus, for `choose_prefixes`.
        seed: seed of the random samples, if the options have no seed.
        loggers: loggers that get the samples.
    """

    def __init__(
        self,
        state: RunState,
        model: TrainedModel,
        path: Path,
        options: SamplesOptions,
        opening: str,
        seed: int,
        loggers: Sequence[RunLogger] = (),
    ) -> None:
        self._state = state
        self.model = model
        self.path = path
        self.options = options
        self.prefixes = choose_prefixes(options.prefixes, model, opening)
        self.seed = seed if options.seed is None else options.seed
        self._loggers = loggers
        self._copying: Copying | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and not self.model.fills_gaps:
            splits = trainer.datamodule.splits  # type: ignore[attr-defined]
            self._copying = Copying(self.model, splits, self.options.length)
        if trainer.global_step == 0 and self.options.every_n_epochs:  # else the run is resumed
            self._sample(trainer, epoch=0)

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        drawn_later = is_epoch_end(trainer) and self._is_due(trainer)
        if trainer.global_step in self.options.steps and not drawn_later:
            self._sample(trainer, trainer.current_epoch + 1, f"step {trainer.global_step}")

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        if self._is_due(trainer):
            self._sample(trainer, trainer.current_epoch + 1)

    def of_best(self, best: Mapping[str, float]) -> list[str]:
        """Draw samples with the model's present weights, and return a few random samples.

        `best` is the row of metrics.csv for these weights. If samples.jsonl has no samples of the
        row's step, samples.jsonl and the loggers get the new samples.
        """
        step = int(best["step"])
        drawn = self.draw(step, int(best["epoch"]))
        if not self.samples_at(step):
            self._write(drawn, int(self._state.rows[-1]["step"]))
        return [sample.text for sample in self._choose_shown(drawn)]

    def draw(self, step: int, epoch: int) -> list[Sample]:
        """Draw a greedy sample for each prefix, then `options.count` random samples for each."""
        chosen, drawn = self.options, []
        seed = combine_seed(self.seed, step) if chosen.generator == "torch" else self.seed
        for strategy, temperature, count in (
            (GREEDY, 0.0, 1),
            (f"temperature {chosen.temperature:g}", chosen.temperature, chosen.count),
        ):
            generate = fill_texts
            if not self.model.fills_gaps:
                generate = partial(generate_texts, length=chosen.length, generator=chosen.generator)
            texts = generate(
                self.model, self.prefixes, count=count, temperature=temperature, seed=seed
            )
            prefixes = [prefix for prefix in self.prefixes for _ in range(count)]
            drawn += [
                Sample(step, epoch, prefix, strategy, seed, text)
                for prefix, text in zip(prefixes, texts, strict=True)
            ]
        return drawn

    def figures(self, samples: list[Sample]) -> dict[str, float]:
        """Compute the figures of `Copying`, without greedy samples; {} if the model fills gaps."""
        if self._copying is None:
            return {}
        return self._copying.figures(
            [(sample.prefix, sample.text) for sample in samples if sample.strategy != GREEDY]
        )

    def _choose_shown(self, samples: list[Sample]) -> list[Sample]:
        """Choose at most `SAMPLES_SHOWN` random samples, from each prefix in turn."""
        random = [sample for sample in samples if sample.strategy != GREEDY]
        count = self.options.count
        return [sample for i in range(count) for sample in random[i::count]][:SAMPLES_SHOWN]

    def samples_at(self, step: int) -> list[Sample]:
        """Read the samples of a step from samples.jsonl.

        The result is [] if the file is missing or damaged; a warning tells of damage.
        """
        if not self.path.exists():
            return []
        try:
            return [sample for sample in read_json_lines(self.path, Sample) if sample.step == step]
        except RecordError as error:
            log.warning("%s is left out: %s", self.path, error)
            return []

    def _write(self, samples: list[Sample], step: int) -> None:
        """Append samples to samples.jsonl, and log them at the newest step, `step`.

        TensorBoard keeps one text a step, and drops later texts if a step goes back. So samples of
        an earlier step are written together with the samples of `step`.
        """
        earlier = self.samples_at(step) if samples[0].step < step else []
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(
                json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples
            )
        for logger in self._loggers:
            logger.log_samples([*earlier, *samples], step)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether samples are drawn at the end of this epoch."""
        every = self.options.every_n_epochs
        return bool(every) and (trainer.current_epoch + 1) % every == 0

    def _sample(self, trainer: pl.Trainer, epoch: int, when: str | None = None) -> None:
        if not trainer.is_global_zero:
            return
        samples = self.draw(trainer.global_step, epoch)
        figures = self.figures(samples)
        if epoch:
            self._state.metrics |= figures
        elif figures:  # before the first epoch, whose metrics come at its end
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=0)
        self._write(samples, trainer.global_step)
        # the terminal shows the first samples of each SHOWN_EVERY epochs
        first_of_few = epoch // SHOWN_EVERY > (epoch - self.options.every_n_epochs) // SHOWN_EVERY
        if when or first_of_few:
            heading = f"samples after {when or f'epoch {epoch}'}" if epoch else "untrained"
            shown = "\n  ".join(one_line(sample.text) for sample in self._choose_shown(samples))
            log.info("%s (temperature %g):\n  %s", heading, self.options.temperature, shown)


def choose_prefixes(prefixes: list[str] | None, model: TrainedModel, opening: str) -> list[str]:
    """Choose the prefixes of the samples: `prefixes`, if there are any, or some for the model.

    `opening` is the beginning of the text. A model that fills gaps gets the first line of
    `opening`, cut to `LONGEST_LINE` characters and with gaps. Another model of lines or documents
    gets the empty prefix. Another model of running text gets 分开 and 不分开, each if the
    vocabulary has the characters. If it gets neither, it gets the first two characters of
    `opening`, without white space before them.

    Raises:
        UserError: a given prefix has an unknown character, a newline for a model of lines, or no
            gap for a model that fills gaps.
    """
    if prefixes:
        encode = partial(encode_gaps, model) if model.fills_gaps else model.encode_prefix
        for text in prefixes:
            try:
                encode(text)
            except UserError as error:
                raise UserError(f"callbacks.samples.prefixes: {error}") from error
        return [model.normalise(text) for text in prefixes]
    if model.fills_gaps:
        document = opening.partition(model.end or "\n")[0]
        line = document.partition("\n")[0][:LONGEST_LINE]
        missing = [model.gap if i % 3 == 2 else character for i, character in enumerate(line)]
        return ["".join(missing) if model.gap in missing else model.gap + line[1:]]
    if model.end is not None:
        return [""]
    known = set(model.vocabulary.characters)
    spelled = [prefix for prefix in NOTEBOOK_PREFIXES if set(prefix) <= known]
    return spelled or [opening.lstrip()[:2]]
