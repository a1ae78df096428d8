"""Average the weights over the steps (Polyak and Juditsky 1992).

Lightning's EMAWeightAveraging takes the average out of the model when a validation ends, before
samples are drawn.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.nn import Parameter
from torch.optim.swa_utils import get_ema_multi_avg_fn
from typing_extensions import override

from lyricgen.models.model import Model
from lyricgen.runs.state import RunState
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.observer_options import AverageOptions


@dataclass(eq=False)
class WeightAverage(Observer):
    """Keeps an exponential moving average of the weights; between steps the model holds it.

    After step n with the raw weights W, the average A becomes d · A + (1 - d) · W, where
    d = min(decay, (1 + n) / (10 + n)) soon forgets the first weights. A begins with the weights
    before the first step. Only parameters are averaged, no buffers.

    The model holds W only during a step, so validations, samples, checkpoints and the end of the
    run take A. This observer is the first, since others may read the model after a step.
    """

    state: RunState  # gets W for a checkpoint, whose model is A
    options: AverageOptions
    model: Model
    _parameters: dict[str, Parameter] = field(default_factory=dict)  # of the model, by name
    _others: list[Tensor] = field(default_factory=list)  # A during a step, else W

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._parameters = dict(self.model.named_parameters())
        # copied together, since cuDNN wants the weights of all layers in one block of memory
        self._others = deepcopy([parameter.detach() for parameter in self._parameters.values()])
        raw, self.state.raw_weights = self.state.raw_weights, None
        if raw is not None:  # else the run is new, or had no average
            for name, weights in zip(self._parameters, self._others, strict=True):
                weights.copy_(raw[name])

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:  # the first batch of a step
            self._swap()

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        self._swap()
        step = trainer.global_step
        decay = min(self.options.decay, (1 + step) / (10 + step))
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(list(self._parameters.values()), self._others, None)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._others:  # none before the first step
            self.state.raw_weights = dict(zip(self._parameters, self._others, strict=True))

    def _swap(self) -> None:
        """Exchange the model's weights for the others, without copying them."""
        for index, parameter in enumerate(self._parameters.values()):
            parameter.data, self._others[index] = self._others[index], parameter.data
