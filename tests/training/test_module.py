"""Losses, totals, carried state and gradients, compared with plain loops in float64."""

import itertools
import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lyricgen.data import samplers
from lyricgen.data.batch import IGNORED, Batch, Sampler, cut
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.samplers import ConsecutiveSampler, LineSampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.network import LanguageModel
from lyricgen.runs.state import RunState
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal, score_split
from tests.conftest import TINY, Train
from tests.helpers.networks import architecture

Floats = npt.NDArray[np.float64]

VOCABULARY = Vocabulary("\nabcd")
V, START, NEWLINE = 5, 5, 0
LINES = [[1, 2, 3], [4], [2, 2, 1, 3, 4, 1, 1], [3, 1]]
LR = 0.5
EACH_INPUT = pytest.mark.parametrize("kind", ["embedding", "one_hot"])
EACH_CELL = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*treespec.*is deprecated",  # Lightning's own use of torch
    "ignore:Total length of `list` across ranks is zero",  # nothing held out
)


def module_of(cell: str = "lstm", *, smoothing: float = 0.0, **options: Any) -> RecurrentModule:
    """Build a small module in float64; the same options give the same weights."""
    torch.manual_seed(0)
    return RecurrentModule(
        LanguageModel(architecture(cell, hidden_size=6, **options)),
        optimizer=partial(torch.optim.SGD, lr=LR),
        schedule=lambda _: None,
        label_smoothing=smoothing,
        reduction="mean",
        card={},
        state=RunState(),
        total=NatsTotal(Vocabulary("ab")),
        seed=1,
    ).double()


def text(length: int, seed: int = 0) -> Tensor:
    return torch.randint(V, (length,), generator=torch.Generator().manual_seed(seed))


def batch_of(inputs: Tensor, targets: Tensor, *, starts_stream: bool = True) -> Batch:
    starts = torch.zeros(len(inputs), dtype=torch.int64)
    return Batch(inputs, targets, starts, starts_stream, int((targets != IGNORED).sum()))


def windows(ids: Tensor, *bounds: int) -> list[Batch]:
    """Cut one row at the bounds into batches of one stream."""
    return [
        batch_of(ids[None, a:b], ids[None, a + 1 : b + 1], starts_stream=a == bounds[0])
        for a, b in itertools.pairwise(bounds)
    ]


def line_split(lines: Iterable[list[int]]) -> Split:
    ids: list[int] = []
    starts = []
    for line in lines:
        starts.append(len(ids))
        ids += [START, *line, NEWLINE]
    return Split(torch.tensor(ids, dtype=torch.uint8), torch.tensor(starts))


def line_batches(split: Split, size: int) -> list[Batch]:
    assert split.line_starts is not None
    sampler = LineSampler(split.line_starts, split.line_lengths, size, shuffle="none")
    return [cut(split.ids, sampler.windows(0, index)) for index in range(len(sampler))]


def gradient(module: RecurrentModule) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def step(module: RecurrentModule, batch: Batch) -> tuple[float, Tensor]:
    """Return the loss of one training step and its gradient."""
    module.zero_grad()
    loss = module.training_step(batch, 0)
    loss.backward()
    return float(loss.detach()), gradient(module).clone()


def total(module: RecurrentModule, split: str) -> float:
    nats = module.totals[split].nats
    assert nats is not None
    return float(nats)


def by_hand(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[float, float]:
    """Compute mean smoothed cross-entropy and total plain nats of (B, T, V) logits in loops."""
    smoothed, plain, count = 0.0, 0.0, 0
    for row, row_targets in zip(logits.detach().numpy(), targets.numpy(), strict=True):
        for scores, target in zip(row, row_targets, strict=True):
            if target == IGNORED:
                continue
            probability = np.exp(scores) / np.exp(scores).sum()
            for symbol in range(V):
                share = smoothing / V + (1 - smoothing) * (symbol == target)
                smoothed -= share * math.log(probability[symbol])
            plain -= math.log(probability[target])
            count += 1
    return smoothed / count, plain


@SMOOTHING
@EACH_INPUT
def test_the_loss_is_the_cross_entropy_and_totals_are_plain_nats(
    smoothing: float, kind: str
) -> None:
    module = module_of(smoothing=smoothing, input=kind)
    inputs, targets = text(12).reshape(3, 4), text(12, seed=1).reshape(3, 4)
    targets[0, 2:] = targets[2, 1:] = IGNORED
    loss, plain = by_hand(module.model(inputs)[0], targets, smoothing)
    assert step(module, batch_of(inputs, targets))[0] == pytest.approx(loss, rel=1e-12)
    assert total(module, "train") == pytest.approx(plain, rel=1e-12)
    assert module.totals["train"].characters == 7
    if smoothing:
        assert abs(loss - plain / 7) > 1e-3


def test_smoothing_changes_the_gradient_but_not_the_totals() -> None:
    batch = batch_of(text(12).reshape(3, 4), text(12, seed=1).reshape(3, 4))
    modules = [module_of(smoothing=smoothing) for smoothing in (0.0, 0.3)]
    (loss, plain), (smoothed_loss, smoothed) = [step(module, batch) for module in modules]
    assert total(modules[0], "train") == total(modules[1], "train")
    assert loss != smoothed_loss
    assert not torch.allclose(plain, smoothed)


@SMOOTHING
@EACH_INPUT
@EACH_CELL
def test_a_padded_batch_counts_like_its_single_lines(
    smoothing: float, kind: str, cell: str
) -> None:
    split = line_split(LINES)
    together = module_of(cell, smoothing=smoothing, input=kind)
    separate = module_of(cell, smoothing=smoothing, input=kind)
    (padded,) = line_batches(split, len(LINES))
    assert padded.inputs.shape == (4, 8)
    assert padded.num_characters == 17
    loss, slope = step(together, padded)
    losses, slopes = 0.0, torch.zeros_like(slope)
    for batch in line_batches(split, 1):
        assert not (batch.targets == IGNORED).any()
        own_loss, own_slope = step(separate, batch)
        losses += own_loss * batch.num_characters
        slopes += own_slope * batch.num_characters
    assert loss == pytest.approx(losses / 17, rel=1e-12)
    torch.testing.assert_close(slope, slopes / 17, rtol=1e-10, atol=1e-13)
    assert slope.abs().max() > 1e-3
    assert total(together, "train") == pytest.approx(total(separate, "train"), rel=1e-12)
    assert together.totals["train"].characters == separate.totals["train"].characters == 17


@SMOOTHING
@EACH_INPUT
def test_the_content_of_the_padding_does_not_matter(smoothing: float, kind: str) -> None:
    results = []
    for filling in ([], [1, 1, 1], [4, START]):
        inputs = torch.tensor([[START, 2, 3, *filling], [1, 1, 4, *filling]])
        ignored = [IGNORED] * len(filling)
        targets = torch.tensor([[2, 3, 0, *ignored], [1, 4, 0, *ignored]])
        module = module_of(smoothing=smoothing, input=kind)
        results.append((*step(module, batch_of(inputs, targets)), total(module, "train")))
    loss, slope, nats = results[0]
    for other_loss, other_slope, other_nats in results[1:]:
        assert other_loss == pytest.approx(loss, rel=1e-12)
        torch.testing.assert_close(other_slope, slope, rtol=1e-10, atol=1e-13)
        assert other_nats == pytest.approx(nats, rel=1e-12)


@torch.no_grad()
def test_evaluation_gives_each_characters_nats_and_zero_for_padding() -> None:
    module = module_of(smoothing=0.5).eval()
    evaluate = module.validation_step
    (padded,) = line_batches(line_split(LINES), len(LINES))
    nats = evaluate(padded, 0)
    assert nats.shape == padded.targets.shape
    assert (nats[padded.targets == IGNORED] == 0).all()
    _, plain = by_hand(module.model(padded.inputs)[0], padded.targets, 0.0)
    assert total(module, "val") == pytest.approx(plain, rel=1e-6)
    assert float(nats.sum()) == pytest.approx(plain, rel=1e-6)
    for row, line, batch in zip(nats, LINES, line_batches(line_split(LINES), 1), strict=True):
        separate = evaluate(batch, 0)[0]
        assert separate.shape == (len(line) + 1,)
        torch.testing.assert_close(row[: len(separate)], separate)
    assert module.totals["train"].nats is None


@EACH_CELL
def test_the_state_is_carried_and_detached(cell: str) -> None:
    module = module_of(cell)
    first, second = windows(text(11), 0, 5, 10)
    step(module, first)
    loss, slope = step(module, second)

    reference = module_of(cell)
    _, state = reference.model(first.inputs)
    carried = tuple(part.detach() for part in state)
    logits, _ = reference.model(second.inputs, carried)
    expected = torch.nn.functional.cross_entropy(logits[0], second.targets[0])
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(slope, gradient(reference), rtol=1e-10, atol=1e-13)

    reference.zero_grad()  # neither the gradient through both batches nor a zero state
    logits, _ = reference.model(second.inputs, reference.model(first.inputs)[1])
    torch.nn.functional.cross_entropy(logits[0], second.targets[0]).backward()
    assert not torch.allclose(slope, gradient(reference))
    fresh, _ = step(module_of(cell), batch_of(second.inputs, second.targets))
    assert abs(loss - fresh) > 1e-6


@EACH_CELL
def test_the_state_is_zeroed_where_a_stream_starts(cell: str) -> None:
    module = module_of(cell)
    first, second = windows(text(11), 0, 5, 10)
    again = batch_of(second.inputs, second.targets, starts_stream=True)
    step(module, first)
    loss, slope = step(module, again)
    fresh_loss, fresh_slope = step(module_of(cell), again)
    assert loss == fresh_loss
    assert torch.equal(slope, fresh_slope)


def test_validation_neither_reads_nor_disturbs_the_training_state() -> None:
    training, held_out = windows(text(16), 0, 5, 10, 15), windows(text(9, seed=1), 0, 4, 8)
    separate, other, module = module_of(), module_of(), module_of()
    with torch.no_grad():
        expected_held_out = [separate.validation_step(batch, 0) for batch in held_out]
    expected = [step(other, batch) for batch in training]

    results = []
    for batch in training:
        results.append(step(module, batch))
        with torch.no_grad():
            nats = [module.validation_step(split, 0) for split in held_out]
        torch.testing.assert_close(nats, expected_held_out)
    for (loss, slope), (expected_loss, expected_slope) in zip(results, expected, strict=True):
        assert loss == expected_loss
        assert torch.equal(slope, expected_slope)


def test_training_within_a_validation_does_not_change_its_state() -> None:
    training, held_out = windows(text(6), 0, 5), windows(text(9, seed=1), 0, 4, 8)
    separate, module = module_of(), module_of()
    with torch.no_grad():
        expected = [separate.validation_step(batch, 0) for batch in held_out]
        first = module.validation_step(held_out[0], 0)
    step(module, training[0])
    with torch.no_grad():
        second = module.validation_step(held_out[1], 1)
    torch.testing.assert_close([first, second], expected)


def trainer_of(**options: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**{**quiet, **options})


def data_of(training: Tensor, sampler: Sampler, **held_out: Split) -> CharacterDataModule:
    return CharacterDataModule(VOCABULARY, {"train": Split(training, None), **held_out}, sampler)


@pytest.mark.parametrize(
    ("algorithm", "limit"), [("norm", None), ("norm", 0.05), ("norm", 1e3), ("value", 0.01)]
)
def test_a_run_equals_a_plain_loop(algorithm: str, limit: float | None) -> None:
    ids = text(67)
    sampler = ConsecutiveSampler(
        len(ids), 3, 5, drop_last=True
    )  # 3 rows of 22 characters, 4 batches of 5 steps
    module = module_of("gru", smoothing=0.1)
    trainer = trainer_of(gradient_clip_val=limit, gradient_clip_algorithm=algorithm)
    trainer.fit(module, datamodule=data_of(ids, sampler))

    reference = module_of("gru").model
    rows = [ids[row * 22 : (row + 1) * 22] for row in range(3)]
    for _ in range(2):
        state, plain, norms = None, 0.0, 0.0
        for first in range(0, 20, 5):
            inputs = torch.stack([row[first : first + 5] for row in rows])
            targets = torch.stack([row[first + 1 : first + 6] for row in rows])
            reference.zero_grad()
            logits, state = reference(inputs, state)
            state = tuple(part.detach() for part in state)
            logs = logits - logits.exp().sum(-1, keepdim=True).log()
            nats = -logs.gather(-1, targets[..., None]).sum()
            (0.9 * nats / 15 + 0.1 * -logs.mean(-1).sum() / 15).backward()
            plain += float(nats.detach())
            slopes = [p.grad for p in reference.parameters()]
            norm = math.sqrt(sum(float((g * g).sum()) for g in slopes))
            norms += norm
            with torch.no_grad():
                for parameter, slope in zip(reference.parameters(), slopes, strict=True):
                    if limit is None:
                        clipped = slope
                    elif algorithm == "norm":
                        clipped = min(limit / norm, 1.0) * slope
                    else:
                        clipped = slope.clamp(-limit, limit)
                    parameter.sub_(LR * clipped)
    assert total(module, "train") == pytest.approx(plain, rel=1e-5)
    assert module.totals["train"].characters == 60
    assert module.run_state.gradient_norm_total is not None
    assert float(module.run_state.gradient_norm_total) == pytest.approx(norms, rel=1e-4)
    start = module_of("gru").model
    for name, parameter in reference.named_parameters():
        moved = parameter - start.get_parameter(name)
        assert moved.abs().max() > 1e-5
        # torch adds 1e-6 to the norm that it divides by
        torch.testing.assert_close(
            module.model.get_parameter(name) - start.get_parameter(name),
            moved,
            rtol=1e-3,
            atol=1e-6,
        )


def test_validations_within_an_epoch_do_not_change_the_training() -> None:
    weights = []
    for held_out in ({}, {"val": Split(text(30, seed=1), None)}):
        module = module_of(dropout=0.3, layers=2, depth_dropout=0.3)
        torch.manual_seed(1)
        trainer = trainer_of(val_check_interval=1 if held_out else None)
        trainer.fit(
            module,
            datamodule=data_of(text(67), ConsecutiveSampler(67, 3, 5, drop_last=True), **held_out),
        )
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
        assert bool(module.totals["val"].characters) == bool(held_out)
    assert torch.equal(*weights)


def character_by_character(model: LanguageModel, ids: list[int]) -> list[float]:
    """Compute the nats of each character after the first by an RNN in NumPy, from state zero."""
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    prefix = "recurrence.blocks.0."
    hidden = np.zeros(6)
    nats = []
    for read, target in itertools.pairwise(ids):
        column = np.zeros(6) if read == START else w[prefix + "weight_ih_l0"][:, read]
        bias = w[prefix + "bias_ih_l0"] + w[prefix + "bias_hh_l0"]
        hidden = np.tanh(column + bias + w[prefix + "weight_hh_l0"] @ hidden)
        scores = w["output.weight"] @ hidden + w["output.bias"]
        nats.append(math.log(np.exp(scores).sum()) - scores[target])
    return nats


def check_figures(figures: dict[str, Any], split: str, nats: list[float]) -> None:
    loss = sum(nats) / len(nats)
    assert float(figures[f"{split}/loss"]) == pytest.approx(loss, rel=1e-6)
    assert float(figures[f"{split}/perplexity"]) == pytest.approx(math.exp(loss), rel=1e-6)
    assert float(figures[f"{split}/bits_per_char"]) == pytest.approx(loss / math.log(2), rel=1e-6)


def one_hot_rnn() -> RecurrentModule:
    return module_of("rnn", input="one_hot", smoothing=0.2, dropout=0.5)


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("steps", [None, 1, 7])
def test_held_out_perplexity_equals_reading_single_characters(
    monkeypatch: pytest.MonkeyPatch, rows: int, steps: int | None
) -> None:
    if steps is not None:  # characters read at once
        monkeypatch.setattr(samplers, "EVALUATION_LOGITS", steps * V)
    held_out = Split(text(52, seed=1), None)
    data = data_of(
        text(67), ConsecutiveSampler(67, rows, 3, drop_last=True), val=held_out, test=held_out
    )
    module = one_hot_rnn()
    trainer = trainer_of()
    expected = character_by_character(module.model, held_out.ids.tolist())
    assert len(expected) == 51
    trainer.validate(module, datamodule=data, verbose=False)
    check_figures(module.run_state.metrics, "val", expected)
    check_figures(score_split(module.model, data, "test"), "test", expected)
    assert module.totals["val"].characters == 51


def test_held_out_perplexity_within_a_run_uses_its_current_weights() -> None:
    held_out = Split(text(52, seed=1), None)
    module = one_hot_rnn()
    before = math.exp(np.mean(character_by_character(module.model, held_out.ids.tolist())))
    trainer = trainer_of()
    trainer.fit(
        module,
        datamodule=data_of(text(67), ConsecutiveSampler(67, 3, 5, drop_last=True), val=held_out),
    )
    nats = character_by_character(module.model, held_out.ids.tolist())
    check_figures(module.run_state.metrics, "val", nats)
    assert math.exp(np.mean(nats)) != pytest.approx(before, rel=1e-3)
    assert module.run_state.metrics["train/loss"] == pytest.approx(total(module, "train") / 60)


@pytest.mark.parametrize("together", [1, 3, 256])
def test_each_held_out_line_is_scored_from_its_start(
    monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(samplers, "EVALUATION_LINES", together)
    data = data_of(text(20), ConsecutiveSampler(20, 1, 3, drop_last=True), val=line_split(LINES))
    module = one_hot_rnn()
    nats = [
        each
        for line in LINES
        for each in character_by_character(module.model, [START, *line, NEWLINE])
    ]
    assert len(nats) == 17
    trainer = trainer_of()
    trainer.validate(module, datamodule=data, verbose=False)
    check_figures(module.run_state.metrics, "val", nats)


def test_a_very_long_text_is_read_in_rows_from_state_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samplers, "LONGEST_STREAM", 50)
    monkeypatch.setattr(samplers, "ROW", 20)
    monkeypatch.setattr(samplers, "EVALUATION_LOGITS", 7 * 2 * V)
    ids = text(52, seed=1)
    module = one_hot_rnn()
    # 51 characters to predict in 52 // 20 = 2 rows: 26 and 25
    nats = character_by_character(module.model, ids[:27].tolist())
    nats += character_by_character(module.model, ids[26:].tolist())
    assert len(nats) == 51
    data = data_of(text(20), ConsecutiveSampler(20, 1, 3, drop_last=True), val=Split(ids, None))
    trainer = trainer_of()
    trainer.validate(module, datamodule=data, verbose=False)
    check_figures(module.run_state.metrics, "val", nats)


def test_totals_are_exact_in_half_precision_too() -> None:
    module = module_of("rnn", input="one_hot").to(torch.bfloat16)
    inputs, targets = text(3000).reshape(30, 100), text(3000, seed=1).reshape(30, 100)
    logits, _ = module.model(inputs)
    _, plain = by_hand(logits.double(), targets, 0.0)
    module.training_step(batch_of(inputs, targets), 0)
    assert total(module, "train") == pytest.approx(plain, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_every_precision_trains(train: Train, precision: str) -> None:
    # a gru, because a CPU without AVX-512 has no LSTM in bf16-mixed
    options = (*TINY, "callbacks.baseline.enabled=false", "optimizer.lr=0.003", "cell=gru")
    usual = train(*options)
    other = train(*options, f"trainer.precision={precision}")
    assert other.status == 0, other.err
    figures = [run.summary["val/perplexity"] for run in (usual, other)]
    assert figures[1] == pytest.approx(figures[0], rel=0.02)
