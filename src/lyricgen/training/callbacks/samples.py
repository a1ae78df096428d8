"""Texts drawn while the network learns."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.errors import printable_text
from lyricgen.generation.filling import fill_texts
from lyricgen.generation.options import Generator
from lyricgen.generation.texts import generate_texts
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.record_files import RecordError, read_json_lines
from lyricgen.training.callbacks.copying import Copying
from lyricgen.training.callbacks.record import record

log = logging.getLogger(__name__)
GREEDY = "greedy"
SHOWN = 3  # texts on the terminal at a time
SHOWN_EVERY = 5  # epochs, there


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


class Samples(pl.Callback):
    """Draws texts as training goes on, greedy and at random.

    That is from the untrained network and after every N epochs, and after single steps.

    They go to TensorBoard's text tab, to samples.jsonl and, about every fifth epoch, a few to the
    terminal. Drawing has random generators of its own, so training does not depend on it.
    `copying.Copying` has the figures on them; there are none of filled gaps, since most of those
    texts was given.

    Args:
        model: the network in training and its characters.
        path: of samples.jsonl, to which is added.
        every_n_epochs: N; 0 for none of these.
        steps: optimizer steps after which texts are drawn as well.
        prefixes: what the texts begin with.
        count: texts for each prefix at the temperature; greedy gives one.
        length: new characters at most.
        temperature: of the random ones.
        seed: of the random ones; each drawing has its own, from this and the step, where the
            numbers are torch's.
        generator: of the random numbers, see `draws.draw_uniforms`.
    """

    def __init__(
        self,
        model: TrainedModel,
        path: Path,
        *,
        every_n_epochs: int,
        steps: list[int],
        prefixes: list[str],
        count: int,
        length: int,
        temperature: float,
        seed: int,
        generator: Generator,
    ) -> None:
        self.model = model
        self.path = path
        self.every_n_epochs = every_n_epochs
        self.steps = frozenset(steps)
        self.prefixes = prefixes
        self.count = count
        self.length = length
        self.temperature = temperature
        self.seed = seed
        self.generator: Generator = generator
        self._copying: Copying | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show what the untrained network writes."""
        del pl_module
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        wanted = trainer.is_global_zero and not self.model.fills_gaps
        if isinstance(datamodule, CharacterDataModule) and wanted:
            self._copying = Copying(self.model, datamodule.parts, self.length)
        if trainer.global_step == 0 and self.every_n_epochs:  # else the run is resumed
            self._sample(trainer, epoch=0)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Sample after single steps."""
        if trainer.global_step in self.steps and not (trainer.is_last_batch and self._due(trainer)):
            self._sample(trainer, trainer.current_epoch + 1, f"step {trainer.global_step}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sample every N epochs."""
        del pl_module
        if self._due(trainer) and trainer.is_last_batch:  # not where training ends within the epoch
            self._sample(trainer, trainer.current_epoch + 1)

    def of(self, step: int) -> list[Sample]:
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
        random = [sample for sample in samples if sample.strategy != GREEDY]
        return [sample for i in range(self.count) for sample in random[i :: self.count]][:SHOWN]

    def draw(self, step: int, epoch: int) -> list[Sample]:
        """Greedy texts, then random ones, for each prefix."""
        seed = self.seed * 1_000_003 + step if self.generator == "torch" else self.seed
        drawn = []
        for strategy, temperature, count in (
            (GREEDY, 0.0, 1),
            (f"temperature {self.temperature:g}", self.temperature, self.count),
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
            length=self.length,
            temperature=temperature,
            seed=seed,
            generator=self.generator,
        )

    def figures(self, samples: list[Sample]) -> dict[str, float]:
        """Overlap of the random texts with the parts of the corpus, as far as it is known."""
        if self._copying is None:
            return {}
        return self._copying.figures(
            [(one.prefix, one.text) for one in samples if one.strategy != GREEDY]
        )

    def write(self, trainer: pl.Trainer, samples: list[Sample], step: int) -> None:
        """Add texts to samples.jsonl and to TensorBoard.

        Args:
            trainer: whose loggers to write to.
            samples: of one step, which may have been earlier.
            step: that training has reached.
        """
        shown = samples
        if samples[0].step < step:
            # TensorBoard forgets what comes after a step that goes back, and has one text a step
            shown = [*self.of(step), *samples]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(
                json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples
            )
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("samples", as_markdown(shown), step)

    def _due(self, trainer: pl.Trainer) -> bool:
        """Whether texts are drawn at the end of this epoch."""
        return bool(self.every_n_epochs) and (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _sample(self, trainer: pl.Trainer, epoch: int, when: str | None = None) -> None:
        if not trainer.is_global_zero:
            return
        samples = self.draw(trainer.global_step, epoch)
        figures = self.figures(samples)
        if epoch:
            record(trainer, figures)
        elif figures:  # before the first epoch, whose metrics come at its end
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=0)
        self.write(trainer, samples, trainer.global_step)
        if when or self._is_shown(epoch):
            heading = f"samples after {when or f'epoch {epoch}'}" if epoch else "untrained"
            texts = "\n  ".join(one_line(sample.text) for sample in self.few(samples))
            log.info("%s (temperature %g):\n  %s", heading, self.temperature, texts)

    def _is_shown(self, epoch: int) -> bool:
        """Whether the terminal shows the texts of an epoch: the first ones of every few."""
        before = epoch - self.every_n_epochs
        return epoch // SHOWN_EVERY > before // SHOWN_EVERY
