"""Options of a training run, and checks of settings that depend on each other.

conf/ has the defaults. Further options are in `observer_options`, `data.options` and
`models.options`.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from lyricgen.data.options import DataOptions, SamplerOptions, Seed
from lyricgen.models.options import (
    CellOptions,
    DepthOptions,
    Layers,
    MemoryOptions,
    ModelOptions,
    Objective,
    OptimizerOptions,
    SchedulerOptions,
    Size,
)
from lyricgen.options import Options, validate
from lyricgen.settings import flatten, list_auto, plain_settings, replace_auto, restore_auto
from lyricgen.training.observer_options import CallbacksOptions, LoggerOptions

Reduction = Literal["mean", "sum"]
Effort = Literal["normal", "high"]


class LossOptions(Options):
    """Options of `loss.`."""

    label_smoothing: float = Field(ge=0, lt=1)
    reduction: Reduction


PrecisionName = Literal["32-true", "64-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true"]
# Lightning's short names
_SHORT_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


def _full_precision(value: Any) -> Any:
    """Replace Lightning's short name of a precision by the full name."""
    short = isinstance(value, int | str) and not isinstance(value, bool)
    return _SHORT_PRECISIONS.get(str(value), value) if short else value


def _count_or_fraction(value: int | float) -> int | float:
    if value <= 0 or (isinstance(value, float) and value > 1):
        raise ValueError("choose a number of batches, or a fraction of them up to 1.0")
    return value


BatchCount = Annotated[int | float, AfterValidator(_count_or_fraction)]


def _read_duration(value: Any) -> Any:
    """Turn Lightning's DD:HH:MM:SS into seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", value)
    if match is None:
        raise ValueError("write DD:HH:MM:SS, such as 00:01:30:00, or a number of seconds")
    days, hours, minutes, seconds = map(int, match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


class TrainerOptions(Options):
    """Options of `trainer=`; most are arguments of Lightning's Trainer."""

    max_epochs: PositiveInt
    max_steps: PositiveInt | None
    max_time: Annotated[PositiveFloat, BeforeValidator(_read_duration)] | None  # seconds
    accelerator: str
    devices: int | str | list[int]
    strategy: str
    precision: Annotated[PrecisionName, BeforeValidator(_full_precision)]
    accumulate_grad_batches: PositiveInt
    gradient_clip_val: NonNegativeFloat | None
    gradient_clip_algorithm: Literal["norm", "value"]
    limit_train_batches: BatchCount | None
    check_val_every_n_epoch: PositiveInt
    val_check_interval: BatchCount | None
    deterministic: bool
    benchmark: bool
    detect_anomaly: bool
    profiler: Literal["simple", "advanced", "pytorch"] | None
    float32_matmul_precision: Literal["highest", "high", "medium"]

    @property
    def has_half_weights(self) -> bool:
        """Whether the weights have 16 bits."""
        return self.precision in ("16-true", "bf16-true")

    def epoch_batches(self, available: int) -> int:
        """Count the batches of an epoch, at most `available`; the result may be 0."""
        limit = self.limit_train_batches
        if limit is None:
            return available
        return int(available * limit) if isinstance(limit, float) else min(limit, available)

    def epoch_steps(self, available: int) -> int:
        """Count the steps of an epoch of at most `available` batches; the last may be smaller."""
        return -(-self.epoch_batches(available) // self.accumulate_grad_batches)

    def validation_interval(self, available: int) -> int | float | None:
        """Turn `val_check_interval`, of steps, into Lightning's interval, of batches."""
        batches, interval = self.accumulate_grad_batches, self.val_check_interval
        if batches == 1 or interval is None:
            return interval
        steps = self.epoch_steps(available)
        every = max(1, int(steps * interval)) if isinstance(interval, float) else interval
        return min(every * batches, self.epoch_batches(available))

    @model_validator(mode="after")
    def _check_benchmark(self) -> Self:
        if self.benchmark and self.deterministic:
            raise ValueError(
                "trainer.benchmark=true lets cuDNN choose other kernels in each run: leave it or "
                "trainer.deterministic=true out"
            )
        return self


class TrainOptions(Options):
    """The whole configuration of a training run."""

    seed: Seed
    recipe: Literal["auto", "none"]
    effort: Effort
    layers: Layers
    hidden_size: Size
    name: str = Field(min_length=1)
    init_from: str | None = Field(min_length=1)
    resume: str | None
    find_lr: bool
    objective: Objective
    cell: CellOptions
    depth: DepthOptions
    model: ModelOptions
    memory: MemoryOptions
    loss: LossOptions
    sampler: SamplerOptions
    data: DataOptions
    optimizer: OptimizerOptions
    scheduler: SchedulerOptions
    trainer: TrainerOptions
    callbacks: CallbacksOptions
    logger: LoggerOptions

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if self.objective not in self.model.objectives:
            raise ValueError(
                "objective=fill predicts a character from both sides, which "
                f"model={self.model.kind} cannot: choose model=recurrent or recipe=none, or "
                "objective=next"
            )
        if self.objective == "fill" and self.callbacks.samples.generator != "torch":
            raise ValueError(
                f"callbacks.samples.generator={self.callbacks.samples.generator} goes with "
                "objective=next: leave it out where gaps are filled"
            )
        if self.callbacks.smoothed_loss.enabled and not self.model.trains_in_steps:
            raise ValueError(
                "callbacks.smoothed_loss.enabled=true follows a loss from step to step, and "
                f"model={self.model.kind} has one step: leave it out"
            )
        if self.memory.kind == "cache" and self.objective == "fill":
            raise ValueError("memory=cache goes with objective=next: leave it out")
        if self.memory.kind == "cache" and self.model.kind != "hybrid":
            raise ValueError(
                f"memory=cache trains with model=hybrid, not with model={self.model.kind}: leave "
                "it out, or give the trained model a memory by lyricgen.evaluate --memory"
            )
        if self.trainer.max_time is not None and not self.callbacks.checkpoint.enabled:
            raise ValueError(
                "trainer.max_time ends a run at a checkpoint: leave it or "
                "callbacks.checkpoint.enabled=false out"
            )
        half = self.model.trains_in_steps and self.trainer.has_half_weights
        if self.callbacks.average.enabled and half:
            raise ValueError(
                "callbacks.average.enabled=true adds small parts of the weights, which 16 bits "
                f"round away (trainer.precision={self.trainer.precision}): choose "
                "trainer.precision=bf16-mixed, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_documents(self) -> Self:
        if self.data.separator is not None and "\n" in self.data.separator:
            raise ValueError("data.separator is one line: leave the newline out")
        divided = self.data.separator not in (None, "auto")
        for name, given in {"separator": divided, "verse": self.data.verse is True}.items():
            if given and self.data.unit not in ("document", "auto"):
                raise ValueError(
                    f"data.{name} divides a text into documents: it needs data.unit=document"
                )
        if divided and self.data.verse is True:
            raise ValueError(
                "data.verse=true makes each line a document, and data.separator divides at other "
                "places: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _check_between_groups(self) -> Self:
        if self.effort == "high" and self.recipe == "none":
            raise ValueError("effort=high goes with recipe=auto: leave it out, or recipe=none")
        if self.data.unit == "document" and self.sampler.kind not in ("auto", "lines"):
            raise ValueError(
                f"sampler={self.sampler.kind} reads running text, and data.unit=document makes "
                "documents: leave the sampler out, or choose data.unit=text"
            )
        if self.sampler.kind == "lines" and self.data.unit == "text":
            raise ValueError(
                f"sampler=lines cannot serve data={self.data.kind}, which is running text: choose "
                "sampler=consecutive or sampler=random, or data.unit=line"
            )
        if self.data.distinct and self.data.unit == "text":
            raise ValueError(
                "data.distinct=true keeps each line once: it needs data.unit=line or "
                "data.unit=document"
            )
        if self.sampler.kind == "lines" and self.sampler.carry_state and self.data.batch_size > 1:
            raise ValueError(
                "sampler.carry_state=true carries the state from line to line, and the lines of a "
                f"batch end at different characters (data.batch_size={self.data.batch_size}): set "
                "data.batch_size=1"
            )
        if self.trainer.check_val_every_n_epoch > self.trainer.max_epochs:
            raise ValueError(
                f"trainer.check_val_every_n_epoch={self.trainer.check_val_every_n_epoch} is more "
                f"than trainer.max_epochs={self.trainer.max_epochs}: nothing would be validated"
            )
        if self.find_lr and (self.resume is not None or not self.model.trains_in_steps):
            known = "resume" if self.resume is not None else f"model={self.model.kind}"
            raise ValueError(
                f"find_lr=true tests the learning rates of a new network: leave it or {known} out"
            )
        if "/" in self.name or "\0" in self.name:
            raise ValueError(f"name={self.name!r}: it names a directory and cannot hold '/'")
        return self


def parse(values: dict[str, Any]) -> TrainOptions:
    """Turn a composed configuration into checked options; `auto` becomes the plain value.

    Raises:
        UserError: a setting is wrong; the message names the first wrong setting.
    """
    fitted = values if values.get("recipe") == "none" else fill_forced(values)
    options: TrainOptions = validate(TrainOptions, replace_auto(fitted, plain_settings()))
    return options


def fill_forced(values: dict[str, Any]) -> dict[str, Any]:
    """Fill the settings that say `auto` if a typed setting leaves them only one value."""
    flat, forced = flatten(values), dict[str, Any]()
    if flat.get("model.tie_weights") is True:
        forced["model.embedding_size"] = None
    elif isinstance(flat.get("model.embedding_size"), int):
        forced["model.tie_weights"] = False
    if flat.get("sampler") == "lines" and flat.get("sampler.carry_state") is True:
        forced["data.batch_size"] = 1
    return replace_auto(values, forced)


def normalise(values: dict[str, Any]) -> dict[str, Any]:
    """Check a composed configuration, and write its values as records do; `auto` stays.

    Raises:
        UserError: a setting is wrong.
    """
    return restore_auto(parse(values).model_dump(mode="json"), list_auto(values))
