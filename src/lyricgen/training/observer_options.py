"""Options of callbacks and loggers."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from lyricgen.data.options import Seed
from lyricgen.generation.options import Generator
from lyricgen.options import Options

MLFLOW_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


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


def _check_address(address: str | None) -> str | None:
    """Check the form of the address of an MLflow server or database."""
    if address is None:
        return None
    scheme, _, rest = address.partition("://")
    if scheme.partition("+")[0] not in MLFLOW_SCHEMES or not rest.strip("/"):
        raise ValueError(
            f"choose http://SERVER:PORT, sqlite:////FILE or null ({', '.join(MLFLOW_SCHEMES)})"
        )
    if scheme in ("http", "https"):
        try:
            found = urlsplit(address)
            known = bool(found.hostname) and found.port != 0
        except ValueError:  # the port is no number
            known = False
        if not known:
            raise ValueError("choose http://SERVER or http://SERVER:PORT")
    return address


class MlflowOptions(Options):
    """Options of `logger=mlflow`."""

    tracking_uri: Annotated[str | None, AfterValidator(_check_address)]
    experiment: str = Field(min_length=1)


class WandbOptions(Options):
    """Options of `logger=wandb`."""

    project: str = Field(min_length=1, max_length=128, pattern=r"^[^/\\\\#?%:]+$")
    entity: str | None
    mode: Literal["offline", "online"]


class LoggerOptions(Options):
    """Options of `logger=`; a logger that is not chosen has None."""

    csv: bool
    tensorboard: bool
    mlflow: MlflowOptions | None
    wandb: WandbOptions | None
