"""Texts drawn while the network learns."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.errors import UserError, printable_text
from lyricgen.generation.filling import encode_gaps, fill_texts
from lyricgen.generation.texts import generate_texts
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.record_files import RecordError, read_json_lines
from lyricgen.runs.state import RunState
from lyricgen.training.callbacks.copying import Copying
from lyricgen.training.lightning_hooks import Observer, ends_epoch
from lyricgen.training.loggers.event_file import EventLogger
from lyricgen.training.options import SamplesOptions

log = logging.getLogger(__name__)
GREEDY = "greedy"
SHOWN = 3  # texts on the terminal at a time
SHOWN_EVERY = 5  # epochs, there
NOTEBOOKS = ("分开", "不分开")  # prefixes
LONGEST_LINE = 30  # characters of the text's first line that a model fills the gaps of


@dataclass(frozen=True)
class Sample:
    """One generated text and how it came about."""

    step: int
    epoch: int
    prefix: str
    strategy: str
    seed: int
    text: str


def one_line(text: str) -> str:
    """A text as the terminal shows it."""
    return printable_text(text.strip().replace("\n", " / "))


def as_markdown(samples: list[Sample]) -> str:
    """Drawings as TensorBoard's Markdown: a heading for each strategy, the texts as they are.

    Only the empty lines that a text begins or ends with are not shown.
    """
    drawn: dict[str, list[str]] = {}
    for sample in samples:
        heading = f"**epoch {sample.epoch}, {sample.strategy}**"
        drawn.setdefault(heading, []).append(_indented(sample.text))
    parts = (
        part for heading, texts in drawn.items() for part in (heading, "\n\n---\n\n".join(texts))
    )
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    """Escape a text so that Markdown keeps its line breaks, stars and hashes."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


class Samples(Observer):
    """Draws texts as training goes on, greedy and at random.

    That is from the untrained network and after every N epochs, and after single steps.

    They go to TensorBoard's text tab, to samples.jsonl and, about every fifth epoch, a few to the
    terminal. Drawing has random generators of its own, so training does not depend on it.
    `copying.Copying` has the figures on them; there are none of filled gaps, since most of those
    texts was given.

    Args:
        state: of the run, whose metrics get the figures on the texts.
        model: the network in training and its characters.
        path: of samples.jsonl, to which is added.
        options: how many texts are drawn, when and how.
        opening: of the corpus, for the prefixes; see `choose_prefixes`.
        seed: of the random texts, where the options have none; each drawing has its own, from
            this and the step, where the numbers are torch's.
        logger: for TensorBoard, if any.
    """

    def __init__(
        self,
        state: RunState,
        model: TrainedModel,
        path: Path,
        options: SamplesOptions,
        opening: str,
        seed: int,
        logger: EventLogger | None = None,
    ) -> None:
        self._state = state
        self.model = model
        self.path = path
        self.options = options
        self.prefixes = choose_prefixes(options.prefixes, model, opening)
        self.seed = seed if options.seed is None else options.seed
        self._logger = logger
        self._copying: Copying | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        wanted = trainer.is_global_zero and not self.model.fills_gaps
        if isinstance(datamodule, CharacterDataModule) and wanted:
            self._copying = Copying(self.model, datamodule.splits, self.options.length)
        if trainer.global_step == 0 and self.options.every_n_epochs:  # else the run is resumed
            self._sample(trainer, epoch=0)

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        drawn_later = ends_epoch(trainer) and self._due(trainer)
        if trainer.global_step in self.options.steps and not drawn_later:
            self._sample(trainer, trainer.current_epoch + 1, f"step {trainer.global_step}")

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        if self._due(trainer):
            self._sample(trainer, trainer.current_epoch + 1)

    def of_best(self, best: Mapping[str, float]) -> list[str]:
        """A few texts of the best epoch's weights; samples.jsonl gets all if it has none of them.

        Args:
            best: that epoch's row of metrics.csv.
        """
        step = int(best["step"])
        drawn = self.draw(step, int(best["epoch"]))
        if not self.texts_at(step):
            self.write(drawn, int(self._state.rows[-1]["step"]))
        return [sample.text for sample in self.few(drawn)]

    def texts_at(self, step: int) -> list[Sample]:
        """The texts of a step, from samples.jsonl."""
        if not self.path.exists():
            return []
        try:
            return [one for one in read_json_lines(self.path, Sample) if one.step == step]
        except RecordError as error:
            log.warning("%s is left out: %s", self.path, error)
            return []

    def few(self, samples: list[Sample]) -> list[Sample]:
        """Some of the random texts, for each prefix in turn."""
        random, count = [one for one in samples if one.strategy != GREEDY], self.options.count
        return [sample for i in range(count) for sample in random[i::count]][:SHOWN]

    def draw(self, step: int, epoch: int) -> list[Sample]:
        """Greedy texts, then random ones, for each prefix."""
        chosen, drawn = self.options, []
        seed = self.seed * 1_000_003 + step if chosen.generator == "torch" else self.seed
        for strategy, temperature, count in (
            (GREEDY, 0.0, 1),
            (f"temperature {chosen.temperature:g}", chosen.temperature, chosen.count),
        ):
            texts = self._texts(count, temperature, seed)
            prefixes = [prefix for prefix in self.prefixes for _ in range(count)]
            drawn += [
                Sample(step, epoch, prefix, strategy, seed, text)
                for prefix, text in zip(prefixes, texts, strict=True)
            ]
        return drawn

    def _texts(self, count: int, temperature: float, seed: int) -> list[str]:
        if self.model.fills_gaps:
            return fill_texts(
                self.model, self.prefixes, count=count, temperature=temperature, seed=seed
            )
        return generate_texts(
            self.model,
            self.prefixes,
            count=count,
            length=self.options.length,
            temperature=temperature,
            seed=seed,
            generator=self.options.generator,
        )

    def figures(self, samples: list[Sample]) -> dict[str, float]:
        """Overlap of the random texts with the splits of the corpus, as far as it is known."""
        if self._copying is None:
            return {}
        return self._copying.figures(
            [(one.prefix, one.text) for one in samples if one.strategy != GREEDY]
        )

    def write(self, samples: list[Sample], step: int) -> None:
        """Add texts to samples.jsonl and to TensorBoard.

        Args:
            samples: of one step, which may have been earlier.
            step: that training has reached.
        """
        shown = samples
        if samples[0].step < step:
            # TensorBoard forgets what comes after a step that goes back, and has one text a step
            shown = [*self.texts_at(step), *samples]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(
                json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples
            )
        if self._logger is not None:
            self._logger.log_text("samples", as_markdown(shown), step)

    def _due(self, trainer: pl.Trainer) -> bool:
        """Whether texts are drawn at the end of this epoch."""
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
        self.write(samples, trainer.global_step)
        if when or self._is_shown(epoch):
            heading = f"samples after {when or f'epoch {epoch}'}" if epoch else "untrained"
            texts = "\n  ".join(one_line(sample.text) for sample in self.few(samples))
            log.info("%s (temperature %g):\n  %s", heading, self.options.temperature, texts)

    def _is_shown(self, epoch: int) -> bool:
        """Whether the terminal shows the texts of an epoch: the first ones of every few."""
        before = epoch - self.options.every_n_epochs
        return epoch // SHOWN_EVERY > before // SHOWN_EVERY


def choose_prefixes(wanted: list[str] | None, model: TrainedModel, opening: str) -> list[str]:
    """The prefixes to sample with: the user's, or ones that the model can spell.

    Without any of the user's: none for a model of lines; else 分开 and 不分开 where the
    vocabulary has them, else the opening of the text. A model that fills gaps gets the user's
    texts with gaps, or the first line of the text with every third character missing.

    Args:
        wanted: the user's own, or None.
        model: whose characters they must be.
        opening: how the corpus begins.

    Raises:
        UserError: one of the user's has an unknown character.
    """
    if model.fills_gaps:
        return _with_gaps(wanted, model, opening)
    if wanted:
        for prefix in wanted:
            _check(model.encode_prefix, prefix)
        return [model.normalised(prefix) for prefix in wanted]
    if model.layout == "lines":
        return [""]
    known = set(model.vocabulary.characters)
    spelled = [prefix for prefix in NOTEBOOKS if set(prefix) <= known]
    return spelled or [opening.lstrip()[:2]]


def _with_gaps(wanted: list[str] | None, model: TrainedModel, opening: str) -> list[str]:
    if wanted:
        for text in wanted:
            _check(partial(encode_gaps, model), text)
        return [model.normalised(text) for text in wanted]
    line = opening.partition("\n")[0][:LONGEST_LINE]
    missing = [model.gap if i % 3 == 2 else character for i, character in enumerate(line)]
    return ["".join(missing) if model.gap in missing else model.gap + line[1:]]


def _check(encode: Callable[[str], Any], text: str) -> None:
    try:
        encode(text)
    except UserError as error:
        raise UserError(f"callbacks.samples.prefixes: {error}") from error
