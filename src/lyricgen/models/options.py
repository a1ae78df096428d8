"""Options of models, cells, optimizers and schedules."""

from typing import Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lyricgen.data.options import RecallOptions
from lyricgen.options import Options

# Limits that only a mistake or a hostile file exceeds.
Layers = Annotated[int, Field(ge=1, le=256)]
Size = Annotated[int, Field(ge=1, le=2**16)]

# next: predict a character from the left; fill: from both sides
Objective = Literal["next", "fill"]
Interpolated: TypeAlias = Literal["kneser_ney", "witten_bell"]
Smoothing: TypeAlias = Literal[Interpolated, "add_k"]
Kernel = Literal["auto", "torch", "fused"]
Combination: TypeAlias = Literal["mixture", "product"]
Beta = Annotated[float, Field(ge=0, lt=1)]


class KernelOptions(Options):
    """Base of the options of cells with two kernels.

    Attributes:
        kernel: torch's layer or operations, or the recurrence as one operation; `auto` becomes one
            of them before the network is built.
    """

    kernel: Kernel


class ScratchOptions(Options):
    """Base of the options of cells that are written out; experiments may name their only kernel."""

    kernel: Literal["torch"]


class RnnOptions(KernelOptions):
    """Options of `cell=rnn`."""

    kind: Literal["rnn"]
    nonlinearity: Literal["tanh", "relu"]


class GruOptions(KernelOptions):
    """Options of `cell=gru`."""

    kind: Literal["gru"]


class LstmOptions(KernelOptions):
    """Options of `cell=lstm` and `cell=lstm_coupled`."""

    kind: Literal["lstm", "lstm_coupled"]
    forget_bias: float | None


class RnnScratchOptions(ScratchOptions):
    """Options of `cell=rnn_scratch`."""

    kind: Literal["rnn_scratch"]


class GruScratchOptions(ScratchOptions):
    """Options of `cell=gru_scratch`."""

    kind: Literal["gru_scratch"]
    reset: Literal["before", "after"]


class LstmScratchOptions(ScratchOptions):
    """Options of `cell=lstm_scratch`."""

    kind: Literal["lstm_scratch"]
    forget_bias: float | None


CellOptions = Annotated[
    RnnOptions
    | GruOptions
    | LstmOptions
    | RnnScratchOptions
    | GruScratchOptions
    | LstmScratchOptions,
    Field(discriminator="kind"),
]


class DepthOptions(Options):
    """Options of `depth=`: dropout and residual connections between the layers."""

    dropout: float = Field(ge=0, lt=1)
    residual: bool


class NetworkOptions(Options):
    """Options of a recurrent network: input, output and initial weights."""

    trains_in_steps: ClassVar[bool] = True
    # whether the model is validated before the first step, since it predicts well already
    validates_first: ClassVar[bool] = False

    input: Literal["embedding", "one_hot"]
    embedding_size: Size | None
    tie_weights: bool
    dropout: float = Field(ge=0, lt=1)
    locked_dropout: bool
    embedding_dropout: float = Field(ge=0, lt=1)
    weight_drop: float = Field(ge=0, lt=1)
    noise: float = Field(ge=0, lt=1)
    noise_kind: Literal["unigram", "kneser_ney"]
    init: Literal["torch", "normal_0.01", "numpy_normal_0.01"]
    output_bias: Literal["init", "zero", "unigram"]

    @field_validator("embedding_dropout")
    @classmethod
    def _check_embedding(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("input") == "one_hot":
            raise ValueError(
                "it drops rows of the embedding, which model.input=one_hot does not have: leave it "
                "out"
            )
        return value


class RecurrentOptions(NetworkOptions):
    """Options of `model=recurrent`."""

    objectives: ClassVar[tuple[Objective, ...]] = ("next", "fill")

    kind: Literal["recurrent"]


class RecurrentArchitecture(Options):
    """Options from which a recurrent network can be built again."""

    kind: Literal["recurrent"]
    vocabulary_size: int = Field(ge=1, le=0x110000)
    start_symbol: bool  # lines begin with one more input symbol, id V
    objective: Objective
    layers: Layers
    hidden_size: Size
    cell: CellOptions
    depth: DepthOptions
    model: RecurrentOptions


class HybridOptions(NetworkOptions):
    """Options of `model=hybrid`: of its network, its n-grams and their combination."""

    objectives: ClassVar[tuple[Objective, ...]] = ("next",)
    validates_first: ClassVar[bool] = True

    kind: Literal["hybrid"]
    order: Annotated[int, Field(ge=1, le=9)] | None
    max_order: int = Field(ge=1, le=9)
    max_chars: PositiveInt | None
    blocks: int = Field(ge=2, le=1000)
    older_weight: NonNegativeFloat | None
    short_list: Size | None
    combination: Combination
    network_loss: PositiveFloat


class NoMemoryOptions(Options):
    """Options of `memory=none`."""

    kind: Literal["none"]


class CacheOptions(RecallOptions):
    """Options of `memory=cache`."""

    kind: Literal["cache"]


MemoryOptions = Annotated[NoMemoryOptions | CacheOptions, Field(discriminator="kind")]


class NgramOptions(Options):
    """Options of `model=ngram`."""

    objectives: ClassVar[tuple[Objective, ...]] = ("next",)
    trains_in_steps: ClassVar[bool] = False  # it counts the whole text at once
    validates_first: ClassVar[bool] = False

    kind: Literal["ngram"]
    order: int = Field(ge=1, le=9)
    smoothing: Smoothing
    k: float = Field(ge=1e-6, le=1e6)


class NgramArchitecture(NgramOptions):
    """Options from which an n-gram model can be built again, without its counts."""

    vocabulary_size: int = Field(ge=1, le=0x110000)
    start_symbol: bool  # lines begin with one more input symbol, id V


class HybridArchitecture(Options):
    """Options from which a hybrid model can be built again, without its counts."""

    kind: Literal["hybrid"]
    network: RecurrentArchitecture
    ngram: NgramArchitecture
    # ids of the characters with outputs of their own; the last also serves for all others
    short_list: tuple[NonNegativeInt, ...] | None = Field(strict=False, min_length=2)
    combination: Combination
    network_loss: PositiveFloat

    @property
    def vocabulary_size(self) -> int:
        """Number of characters."""
        return self.network.vocabulary_size

    @property
    def start_symbol(self) -> bool:
        """Whether lines begin with one more input symbol."""
        return self.network.start_symbol

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        parts = self.network, self.ngram
        if len({(part.vocabulary_size, part.start_symbol) for part in parts}) > 1:
            raise ValueError("the network and the n-grams have different vocabularies")
        if self.network.objective != "next" or self.ngram.smoothing != "kneser_ney":
            raise ValueError("a hybrid model predicts the next character, with Kneser-Ney n-grams")
        listed = self.short_list or (0,)
        if len(set(listed)) < len(listed) or max(listed) >= self.vocabulary_size:
            raise ValueError("the short list is not of distinct ids of the vocabulary")
        return self


ModelOptions = Annotated[
    RecurrentOptions | HybridOptions | NgramOptions, Field(discriminator="kind")
]


class SgdOptions(Options):
    """Options of `optimizer=sgd`."""

    kind: Literal["sgd"]
    lr: PositiveFloat
    momentum: Beta
    weight_decay: NonNegativeFloat


class AdamOptions(Options):
    """Options of `optimizer=adam` (Kingma & Ba 2015) and `adamw` (Loshchilov & Hutter 2019)."""

    kind: Literal["adam", "adamw"]
    lr: PositiveFloat
    betas: tuple[Beta, Beta] = Field(strict=False)  # YAML knows lists only
    weight_decay: NonNegativeFloat


class MuonOptions(Options):
    """Options of `optimizer=muon`; `betas` are AdamW's, for all but the hidden matrices."""

    kind: Literal["muon"]
    lr: PositiveFloat
    momentum: Beta
    betas: tuple[Beta, Beta] = Field(strict=False)  # YAML knows lists only
    weight_decay: NonNegativeFloat


OptimizerOptions = Annotated[SgdOptions | AdamOptions | MuonOptions, Field(discriminator="kind")]


class ConstantOptions(Options):
    """Options of `scheduler=none`."""

    kind: Literal["none"]


class PlateauOptions(Options):
    """Options of `scheduler=plateau`."""

    kind: Literal["plateau"]
    factor: float = Field(gt=0, lt=1)
    patience: NonNegativeInt
    min_lr: NonNegativeFloat


class CosineOptions(Options):
    """Options of `scheduler=cosine`."""

    kind: Literal["cosine"]
    warmup_epochs: NonNegativeFloat
    min_factor: float = Field(ge=0, le=1)


SchedulerOptions = Annotated[
    ConstantOptions | PlateauOptions | CosineOptions, Field(discriminator="kind")
]
