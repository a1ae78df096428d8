"""The dinosaur names of the deep-learning course, against the digits that the course prints."""

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import optim
from torch.utils.data import DataLoader

from lyricgen.data.batch import Batch
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.generation.continuing import draw_uniforms
from lyricgen.models.network import LanguageModel
from lyricgen.runs.state import RunState
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal
from tests.conftest import Train, TrainingResult, need_published
from tests.helpers.decoding import draw_texts
from tests.helpers.dinosaurs import metrics, smoothed_losses
from tests.helpers.networks import architecture

SYMBOLS, HIDDEN = 27, 100

NAMES = {
    1: "Nkzxwtdmfqoeyhsqwasjkjvu Kneb Kzxwtdmfqoeyhsqwasjkjvu Neb Zxwtdmfqoeyhsqwasjkjvu Eb "
    "Xwtdmfqoeyhsqwasjkjvu",
    2001: "Liusskeomnolxeros Hmdaairus Hytroligoraurus Lecalosapaus Xusicikoraurus "
    "Abalpsamantisaurus Tpraneronxeros",
}


def network(numbers: np.random.RandomState) -> LanguageModel:
    """The course's network with weights drawn in the course's order."""
    model = LanguageModel(
        architecture(
            {"kind": "rnn_scratch"},
            vocabulary_size=SYMBOLS,
            hidden_size=HIDDEN,
            input="one_hot",
        )
    ).double()
    (block,) = model.recurrence.blocks
    shapes = [(HIDDEN, SYMBOLS), (HIDDEN, HIDDEN), (SYMBOLS, HIDDEN), (HIDDEN, 1), (SYMBOLS, 1)]
    wax, waa, wya, b, by = (torch.from_numpy(numbers.randn(*shape)) for shape in shapes)
    with torch.no_grad():
        block.input_weight.copy_(wax.T)
        block.hidden_weight.copy_(waa.T)
        block.bias.copy_(b[:, 0])
        model.output.weight.copy_(wya)
        model.output.bias.copy_(by[:, 0])
    return model


class Gradients(pl.Callback):
    """Keeps the loss and the clipped gradients that the optimizer has used."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any) -> None:
        self.clipped = {name: p.grad.clone() for name, p in pl_module.model.named_parameters()}
        self.loss = float(outputs["loss"])


@pytest.mark.filterwarnings(
    "ignore:.*treespec.*is deprecated", "ignore:You defined a `validation_step`"
)
def test_one_step_gives_the_courses_gradients() -> None:
    numbers = np.random.RandomState(1)
    before = torch.from_numpy(numbers.randn(HIDDEN, 1))
    module = RecurrentModule(
        network(numbers),
        partial(optim.SGD, lr=0.01),
        lambda _: None,
        label_smoothing=0.0,
        reduction="sum",
        card={},
        state=RunState(),
        total=NatsTotal(Vocabulary("ab")),
        seed=1,
    )
    module._training_state = (before.T[None],)  # (1, 1, H)
    inputs, targets = torch.tensor([[12, 3, 5, 11, 22, 3]]), torch.tensor([[4, 14, 11, 22, 25, 26]])
    batch = Batch(inputs, targets, torch.zeros(1, dtype=torch.int64), False, 6)
    seen = Gradients()
    pl.Trainer(
        max_epochs=1, accelerator="cpu", precision="64-true", logger=False, callbacks=[seen],
        gradient_clip_val=5.0, gradient_clip_algorithm="value", enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, DataLoader([batch], batch_size=None))  # type: ignore[arg-type]  # fmt: skip
    assert seen.loss == pytest.approx(126.50397572165345, abs=1e-10)
    from_input = seen.clipped["recurrence.blocks.0.input_weight"].T  # (H, V)
    from_hidden = seen.clipped["recurrence.blocks.0.hidden_weight"].T  # (H, H)
    assert float(from_hidden[1, 2]) == pytest.approx(0.19470931534725341, rel=1e-12)
    assert int(from_input.numpy().argmax()) == 93  # the first of several clipped entries
    assert float(seen.clipped["output.weight"][1, 2]) == pytest.approx(
        -0.007773876032004315, rel=1e-12
    )
    assert float(seen.clipped["recurrence.blocks.0.bias"][4]) == pytest.approx(
        -0.06809825, abs=5e-9
    )
    assert float(seen.clipped["output.bias"][1]) == pytest.approx(0.01538192, abs=5e-9)
    assert float(module._training_state[0][0, 0, 4]) == pytest.approx(-1.0, abs=1e-8)
    assert max(float(gradient.abs().max()) for gradient in seen.clipped.values()) == 5.0  # clipped


def test_one_name_is_drawn_as_in_the_course() -> None:
    model = network(np.random.RandomState(2))
    uniforms = draw_uniforms("numpy_reseeded", [0], 50)
    start = torch.tensor([SYMBOLS])
    [drawn] = draw_texts(model, [start], 1.0, uniforms)
    printed = (
        "12 17 24 14 13 9 10 22 24 6 13 11 12 6 21 15 21 14 3 2 1 21 18 24 7 25 6 25 18 10 16 2 3 "
        "8 15 12 11 7 1 12 10 2 7"
    )
    # The course prints seven more. With weights this large a difference of 1e-16 grows to 1 within
    # 40 characters: in arithmetic of 60 digits the next one is 3, where the course has 7.
    assert drawn[:43] == [int(number) for number in printed.split()]
    assert len(drawn) == 50


def names_drawn(run: TrainingResult, step: int) -> list[str]:
    assert run.directory is not None
    texts = map(json.loads, (run.directory / "samples.jsonl").read_text("utf-8").splitlines())
    return [
        text["text"].capitalize()
        for text in texts
        if text["step"] == step and text["strategy"] == "temperature 1"
    ]


@pytest.mark.slow
def test_the_courses_digits_and_names(train: Train) -> None:
    need_published("coursera_dino")
    run = train("experiment=notebook/dino_exact")
    assert run.status == 0, run.err
    losses = smoothed_losses(run.directory)
    assert list(losses) == list(range(1, 3501))
    assert losses[1] == pytest.approx(23.087336085484605, rel=1e-10)
    assert losses[2001] == pytest.approx(27.884160491415773, rel=1e-10)
    for step, names in NAMES.items():
        assert names_drawn(run, step) == names.split()
    rows = metrics(run)
    assert [int(row["step"]) for row in rows] == [1536, 3072, 3500]
    for row in rows:
        assert float(row["train/smoothed_loss"]) == losses[int(row["step"])]


def test_the_courses_first_step(train: Train) -> None:
    need_published("coursera_dino")
    run = train("experiment=notebook/dino_exact", "trainer.max_steps=2")
    assert smoothed_losses(run.directory)[1] == pytest.approx(23.087336085484605, rel=1e-10)
    assert names_drawn(run, 1) == NAMES[1].split()
