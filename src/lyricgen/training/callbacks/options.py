"""Options of callbacks."""

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lyricgen.data.options import Seed
from lyricgen.generation.options import Generator
from lyricgen.options import Options


class CheckpointOptions(Options):
    """Options of `callbacks.checkpoint.`."""

    enabled: bool
    every_n_steps: PositiveInt | None
    every_n_epochs: PositiveInt
    keep_best: PositiveInt


class AverageOptions(Options):
    """Options of `callbacks.average.`."""

    enabled: bool
    decay: float = Field(ge=0, lt=1)


class EarlyStoppingOptions(Options):
    """Options of `callbacks.early_stopping.`."""

    enabled: bool
    patience: PositiveInt
    min_delta: NonNegativeFloat


class SamplesOptions(Options):
    """Options of `callbacks.samples.`."""

    every_n_epochs: NonNegativeInt
    steps: list[PositiveInt]
    prefixes: list[str] | None
    count: PositiveInt
    length: PositiveInt
    temperature: PositiveFloat
    generator: Generator
    seed: Seed | None


class SmoothedLossOptions(Options):
    """Options of `callbacks.smoothed_loss.`."""

    enabled: bool
    decay: float = Field(ge=0, lt=1)
    start: NonNegativeFloat | None


class BaselineOptions(Options):
    """Options of `callbacks.baseline.`."""

    enabled: bool
    max_order: int = Field(ge=1, le=9)
    max_chars: PositiveInt | None


class ProgressOptions(Options):
    """Options of `callbacks.progress.`."""

    enabled: bool


class CallbacksOptions(Options):
    """Options of `callbacks=`."""

    average: AverageOptions
    checkpoint: CheckpointOptions
    early_stopping: EarlyStoppingOptions
    samples: SamplesOptions
    smoothed_loss: SmoothedLossOptions
    baseline: BaselineOptions
    progress: ProgressOptions
