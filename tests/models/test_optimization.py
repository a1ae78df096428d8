"""Optimizer steps and learning rates against their formulas."""

import copy
import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn, optim

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.samplers import ConsecutiveSampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models import optimizers
from lyricgen.models.network import LanguageModel
from lyricgen.models.optimizers import POLAR_EXPRESS, build_optimizer, build_scheduler
from lyricgen.models.options import (
    AdamOptions,
    ConstantOptions,
    CosineOptions,
    MuonOptions,
    PlateauOptions,
    SchedulerOptions,
    SgdOptions,
)
from lyricgen.runs.state import RunState
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal
from tests.conftest import TINY, Train
from tests.helpers.networks import architecture

Floats = npt.NDArray[np.float64]

LR, DECAY = 0.1, 0.03
FUSED = pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def parameters() -> list[nn.Parameter]:
    """A matrix, a bias and an embedding-like matrix, in float64."""
    shapes = [(3, 4), (4,), (2, 3)]
    return [nn.Parameter(torch.randn(*shape, dtype=torch.float64)) for shape in shapes]


def gradients(steps: int) -> list[list[Tensor]]:
    return [[torch.randn_like(p) for p in parameters()] for _ in range(steps)]


def run(
    optimizer: optim.Optimizer, weights: list[nn.Parameter], slopes: list[list[Tensor]]
) -> None:
    for step in slopes:
        for weight, slope in zip(weights, step, strict=True):
            weight.grad = slope.clone()
        optimizer.step()


def check(weights: list[nn.Parameter], expected: list[Floats]) -> None:
    for weight, target in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight.detach().numpy(), target, rtol=1e-9, atol=1e-12)


def decay_of(weight: Floats, decay: float) -> float:
    return decay if weight.ndim > 1 else 0.0


@FUSED
@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("steps", [1, 3])
def test_sgd_follows_its_formula(fused: bool, decay: float, momentum: float, steps: int) -> None:
    weights, slopes = parameters(), gradients(steps)
    expected = [weight.detach().numpy().copy() for weight in weights]
    for number, weight in enumerate(expected):
        velocity = np.zeros_like(weight)
        for step in slopes:
            velocity = momentum * velocity + step[number].numpy() + decay_of(weight, decay) * weight
            weight[...] -= LR * velocity
    options = SgdOptions(kind="sgd", lr=LR, momentum=momentum, weight_decay=decay)
    run(build_optimizer(options, weights, fused), weights, slopes)
    check(weights, expected)


@FUSED
@pytest.mark.parametrize("kind", ["adam", "adamw"])
@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("steps", [1, 3])
def test_adam_follows_its_formula(fused: bool, kind: str, decay: float, steps: int) -> None:
    weights, slopes = parameters(), gradients(steps)
    expected = [weight.detach().numpy().copy() for weight in weights]
    for number, weight in enumerate(expected):
        mean, square = np.zeros_like(weight), np.zeros_like(weight)
        for t, step in enumerate(slopes, start=1):
            slope = step[number].numpy()
            if kind == "adam":  # decay is part of the gradient (L2)
                slope = slope + decay_of(weight, decay) * weight
            else:  # or only of the weight (Loshchilov & Hutter)
                weight[...] -= LR * decay_of(weight, decay) * weight
            mean = 0.8 * mean + 0.2 * slope
            square = 0.95 * square + 0.05 * slope**2
            unbiased = mean / (1 - 0.8**t), square / (1 - 0.95**t)
            weight[...] -= LR * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    options = AdamOptions(kind=kind, lr=LR, betas=(0.8, 0.95), weight_decay=decay)  # type: ignore[arg-type]
    run(build_optimizer(options, weights, fused), weights, slopes)
    check(weights, expected)


MUON = MuonOptions(kind="muon", lr=LR, momentum=0.9, betas=(0.8, 0.95), weight_decay=DECAY)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    """The bounds are those of three steps of the Polar Express from any value in [0.001, 1]."""
    u, _, v = np.linalg.svd(np.random.default_rng(0).normal(size=shape), full_matrices=False)
    values = np.geomspace(1, 0.001, 4 if shape != (5, 5) else 5)
    values *= 1 / np.linalg.norm(values)
    moved = optimizers.orthogonalize(torch.from_numpy((u * values) @ v)).numpy()
    found = np.diag(u.T @ moved @ v.T)
    np.testing.assert_allclose((u * found) @ v, moved, atol=1e-12)  # the singular vectors stay
    assert found.min() > 0.1
    assert found.max() < 1.9


@FUSED
@pytest.mark.parametrize("steps", [1, 3])
def test_muon_follows_its_formula(fused: bool, steps: int) -> None:
    weights, slopes = parameters(), gradients(steps)
    hidden = weights[0].detach().numpy().copy()
    average = np.zeros_like(hidden)
    for step in slopes:
        slope = step[0].numpy()
        average = 0.9 * average + 0.1 * slope
        u, s, v = np.linalg.svd(0.1 * slope + 0.9 * average, full_matrices=False)
        s /= np.linalg.norm(s)
        for a, b, c in POLAR_EXPRESS:  # an odd polynomial acts on the singular values only
            s = a * s + b * s**3 + c * s**5
        hidden[...] = hidden * (1 - LR * DECAY) - 0.2 * LR * np.sqrt(4) * (u * s) @ v
    run(build_optimizer(MUON, weights, fused, weights[:1]), weights, slopes)
    check(weights[:1], [hidden])
    torch.manual_seed(0)
    rest, slopes = parameters()[1:], [step[1:] for step in slopes]
    adamw = AdamOptions(kind="adamw", lr=LR, betas=(0.8, 0.95), weight_decay=DECAY)
    run(build_optimizer(adamw, rest, fused), rest, slopes)
    check(weights[1:], [weight.detach().numpy() for weight in rest])


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32)])
def test_muon_agrees_with_torchs_muon(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's Muon computes in bfloat16; its five steps together err by up to 2.1 %."""
    monkeypatch.setattr(optimizers, "POLAR_EXPRESS", [(3.4445, -4.775, 2.0315)] * 5)
    own = nn.Parameter(torch.randn(shape))
    theirs, start = nn.Parameter(own.detach().clone()), own.detach().clone()
    slopes = [[torch.randn(shape)] for _ in range(3)]
    run(build_optimizer(MUON, [own], True, [own]), [own], slopes)
    muon = optim.Muon(
        [theirs], lr=LR, momentum=0.9, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"
    )
    run(muon, [theirs], slopes)
    error = (own - theirs).detach().norm() / (theirs.detach() - start).norm()
    assert float(error) < 0.03


def test_muon_resumes_to_the_bit() -> None:
    """A saved and loaded optimizer continues bit for bit."""
    weights, slopes = parameters(), gradients(6)
    optimizer = build_optimizer(MUON, weights, True, weights[:1])
    run(optimizer, weights, slopes[:3])
    copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
    resumed = build_optimizer(MUON, copies, True, copies[:1])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(optimizer, weights, slopes[3:])
    run(resumed, copies, slopes[3:])
    for weight, same in zip(weights, copies, strict=True):
        assert torch.equal(weight, same)


def test_muon_steps_with_the_gradients_of_its_closure() -> None:
    """Lightning clips in the closure, by the groups of the optimizer."""
    weights, slopes = parameters(), gradients(1)[0]
    optimizer = build_optimizer(MUON, weights, True, weights[:1])

    def closure() -> float:
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(weights)
        assert torch.is_grad_enabled()
        for weight, slope in zip(weights, slopes, strict=True):
            weight.grad = slope.clone()
        return 1.5

    assert optimizer.step(closure) == 1.5
    torch.manual_seed(0)
    expected = parameters()
    run(build_optimizer(MUON, expected, True, expected[:1]), expected, [slopes])
    for weight, same in zip(weights, expected, strict=True):
        assert torch.equal(weight, same)


@pytest.mark.parametrize("kind", ["embedding", "one_hot"])
def test_muon_gets_the_matrices_of_the_recurrence(kind: str) -> None:
    network = LanguageModel(architecture("lstm", layers=2, input=kind))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = {names[id(matrix)].removeprefix("recurrence.") for matrix in network.hidden_matrices()}
    above = {"blocks.0.weight_hh_l0", "blocks.1.weight_ih_l0", "blocks.1.weight_hh_l0"}
    assert found == above | ({"blocks.0.weight_ih_l0"} if kind == "embedding" else set())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_decay_shrinks_the_matrices_of_a_network_and_no_bias(kind: str) -> None:
    network = LanguageModel(architecture("lstm", layers=2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    options: Any = (
        SgdOptions(kind="sgd", lr=LR, momentum=0.0, weight_decay=DECAY)
        if kind == "sgd"
        else AdamOptions(kind="adamw", lr=LR, betas=(0.9, 0.99), weight_decay=DECAY)
    )
    optimizer = build_optimizer(options, network.parameters(), fused=True)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    biases = 0
    for name, value in network.named_parameters():
        biases += "bias" in name
        factor = 1 if "bias" in name else 1 - LR * DECAY
        torch.testing.assert_close(value.detach(), before[name] * factor)
    assert biases == 5


COSINE = CosineOptions(kind="cosine", warmup_epochs=1.5, min_factor=0.1)


def rates(options: SchedulerOptions, epochs: int, steps_per_epoch: int, steps: int) -> list[float]:
    """Learning rate of each step."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = optim.SGD([weight], lr=LR)
    described = build_scheduler(options, optimizer, "val/loss", epochs, steps_per_epoch)
    assert described is not None
    assert described["interval"] == "step"
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        described["scheduler"].step()
    return seen


def test_cosine_with_warm_up_by_hand() -> None:
    # 4 steps per epoch: 6 of warm-up, 24 in all, so step 15 is half-way through the cosine
    seen = rates(COSINE, 6, 4, 30)
    assert seen[:7] == pytest.approx([LR * k / 7 for k in range(1, 8)])
    assert seen[6] == pytest.approx(LR)
    assert seen[9] == pytest.approx(LR * (0.1 + 0.9 * (1 + math.sqrt(3) / 2) / 2))  # 30 degrees
    assert seen[12] == pytest.approx(LR * (0.1 + 0.9 * 0.75))  # 60 degrees
    assert seen[15] == pytest.approx(LR * 0.55)
    assert seen[18] == pytest.approx(LR * (0.1 + 0.9 * 0.25))
    assert seen[24:] == pytest.approx([LR * 0.1] * 6)  # the rate stays after the end
    assert all(a > b for a, b in itertools.pairwise(seen[6:25]))


@pytest.mark.parametrize("warmup_epochs", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("min_factor", [0.0, 0.5, 1.0])
def test_cosine_follows_its_formula(warmup_epochs: float, min_factor: float) -> None:
    options = CosineOptions(kind="cosine", warmup_epochs=warmup_epochs, min_factor=min_factor)
    epochs, steps_per_epoch = 5, 10
    seen = rates(options, epochs, steps_per_epoch, 50)
    warmup = {0.0: 0, 0.3: 3, 2.0: 20}[warmup_epochs]
    for step, rate in enumerate(seen):
        if step < warmup:
            expected = (step + 1) / (warmup + 1)
        else:
            angle = math.pi * (step - warmup) / (50 - warmup)
            expected = min_factor + (1 - min_factor) * (1 + math.cos(angle)) / 2
        assert rate == pytest.approx(LR * expected, rel=1e-9, abs=1e-12)


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    options = CosineOptions(kind="cosine", warmup_epochs=10.0, min_factor=0.0)
    seen = rates(options, 2, 3, 6)
    assert seen == pytest.approx([LR * k / 31 for k in range(1, 7)])


def test_a_constant_rate_needs_no_schedule() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    options = ConstantOptions(kind="none")
    assert build_scheduler(options, optimizer, "val/loss", 3, 4) is None
    assert optimizer.param_groups[0]["lr"] == LR


PLATEAU = PlateauOptions(kind="plateau", factor=0.5, patience=2, min_lr=0.02)


@pytest.mark.parametrize("monitor", ["val/loss", "train/loss"])
def test_a_plateau_is_described_to_lightning(monitor: str) -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    described = build_scheduler(PLATEAU, optimizer, monitor, 3, 4)
    assert described is not None
    assert described["monitor"] == monitor
    assert described["frequency"] > 10**9  # never stepped by Lightning
    assert isinstance(described["scheduler"], optim.lr_scheduler.ReduceLROnPlateau)
    seen = []
    for loss in [3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]:
        described["scheduler"].step(loss)
        seen.append(optimizer.param_groups[0]["lr"])
    # a falling loss keeps the rate; the third loss that does not fall lowers it, down to min_lr
    assert seen == pytest.approx([0.1] * 5 + [0.05] * 3 + [0.025] * 3 + [0.02])


class Rates(pl.Callback):
    """Callback that records the learning rate of every batch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.filterwarnings("ignore:.*treespec.*is deprecated")
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_run_follows_the_schedule(schedule: str) -> None:
    tiny = 1e-6  # so that the loss stays as it is: a plateau
    options: Any = (
        CosineOptions(kind="cosine", warmup_epochs=1.0, min_factor=0.0)
        if schedule == "cosine"
        else PlateauOptions(kind="plateau", factor=0.5, patience=1, min_lr=0.0)
    )
    module = RecurrentModule(
        LanguageModel(architecture("rnn")),
        optimizer=lambda p: optim.SGD(p, lr=tiny),
        schedule=partial(build_scheduler, options, monitor="val/loss", epochs=5, steps_per_epoch=2),
        label_smoothing=0.0,
        reduction="mean",
        card={},
        state=RunState(),
        total=NatsTotal(Vocabulary("ab")),
        seed=1,
    )
    ids = torch.randint(5, (26,))
    splits = {"train": Split(ids, None), "val": Split(ids, None)}
    data = CharacterDataModule(
        Vocabulary("abcde"), splits, ConsecutiveSampler(26, 2, 6, drop_last=True)
    )
    noted = Rates()
    pl.Trainer(
        accelerator="cpu",
        max_epochs=5,
        callbacks=[noted],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(module, datamodule=data)
    if schedule == "cosine":
        wave = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
        expected = [1 / 3, 2 / 3, *wave]
    else:  # epoch 1 is the best; after epoch 3, two epochs have not been better
        expected = [1] * 6 + [0.5] * 4
    assert [rate / tiny for rate in noted.seen] == pytest.approx(expected)


def test_a_plateau_works_with_validation_every_second_epoch(train: Train) -> None:
    run = train(*TINY, "scheduler=plateau", "trainer.check_val_every_n_epoch=2")
    assert run.status == 0, run.err
