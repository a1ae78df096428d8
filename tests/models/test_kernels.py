"""Both kernels of a cell compute the same; a run chooses its kernel once, and keeps it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lyricgen.api.models import load
from lyricgen.models.cells import CELLS
from lyricgen.models.cells.cell import Cell
from lyricgen.models.options import CellOptions, GruOptions, LstmOptions, RnnOptions
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.settings import complete, replace_auto
from lyricgen.training.hardware import choose_kernel
from lyricgen.training.options import TrainOptions, parse
from tests.conftest import SMALL, Train
from tests.helpers.cells import run_layer
from tests.helpers.composition import compose_options

FUSED: dict[str, Any] = {
    "rnn": RnnOptions(kind="rnn", nonlinearity="tanh", kernel="fused"),
    "relu": RnnOptions(kind="rnn", nonlinearity="relu", kernel="fused"),
    "gru": GruOptions(kind="gru", kernel="fused"),
    "lstm": LstmOptions(kind="lstm", forget_bias=1.0, kernel="fused"),
}
COUPLED = LstmOptions(kind="lstm_coupled", forget_bias=1.0, kernel="fused")
LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def draw(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).requires_grad_()


def results(layer: nn.Module, states: int, carried: bool) -> list[Tensor]:
    """Outputs, last state, and gradients of a sum that weights each number of both."""
    rows, steps, given, size = 5, 12, 7, 16
    inputs = draw(rows, steps, given, seed=1)
    state = tuple(draw(1, rows, size, seed=2 + part) for part in range(states))
    call = layer if isinstance(layer, Cell) else lambda *both: run_layer(layer, *both)
    output, after = call(inputs, state if carried else None)
    pulled = [output, *after]
    pulls = [draw(*part.shape, seed=5 + number) for number, part in enumerate(pulled)]
    leaves = [inputs, *layer.parameters(), *(state if carried else ())]
    return [*pulled, *torch.autograd.grad(pulled, leaves, pulls)]


@pytest.mark.parametrize("options", FUSED.values(), ids=FUSED)
@pytest.mark.parametrize("carried", [False, True], ids=["zero", "carried"])
def test_the_fused_kernel_equals_torchs_layer(options: CellOptions, carried: bool) -> None:
    torch.manual_seed(3)
    given = {"nonlinearity": options.nonlinearity} if isinstance(options, RnnOptions) else {}
    layer = LAYERS[options.kind](7, 16, batch_first=True, **given)
    cell = CELLS[options.kind](options, 7, 16)
    cell.load_state_dict(layer.state_dict())
    found = []
    for each in (layer, cell):
        found.append(results(each, cell.states, carried))
    for theirs, ours in zip(*found, strict=True):
        scale = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * scale)


def test_the_fused_coupled_lstm_equals_its_equations() -> None:
    torch.manual_seed(3)
    fused = CELLS["lstm_coupled"](COUPLED, 7, 16)
    plain = CELLS["lstm_coupled"](COUPLED.model_copy(update={"kernel": "torch"}), 7, 16)
    plain.load_state_dict(fused.state_dict())
    found = []
    for each in (plain, fused):
        found.append(results(each, 2, carried=True))
    for theirs, ours in zip(*found, strict=True):
        scale = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("options", FUSED.values(), ids=FUSED)
def test_gradients_of_the_fused_kernel_equal_finite_differences(options: CellOptions) -> None:
    torch.manual_seed(5)
    cell = CELLS[options.kind](options, 2, 3).double()
    names = [name for name, _ in cell.named_parameters()]
    state = [draw(1, 2, 3, seed=6 + part).detach().double() for part in range(cell.states)]
    inputs = draw(2, 4, 2, seed=8).detach().double()

    def read(features: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        weights = dict(zip(names, others[len(state) :], strict=True))
        given = (features, others[: len(state)])
        output, after = torch.func.functional_call(cell, weights, given)
        return (output, *after)

    leaves = [each.requires_grad_() for each in (inputs, *state)]
    assert torch.autograd.gradcheck(read, (*leaves, *cell.parameters()))


@pytest.mark.parametrize("options", [*FUSED.values(), COUPLED], ids=[*FUSED, "coupled"])
def test_under_autocast_the_fused_recurrence_stays_in_float32(options: CellOptions) -> None:
    torch.manual_seed(5)
    cell = CELLS[options.kind](options, 7, 16)
    inputs = draw(5, 12, 7, seed=1)
    exact, _ = cell(inputs, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, state = cell(inputs, None)
    assert rounded.dtype == state[0].dtype == torch.float32
    torch.testing.assert_close(
        rounded, exact, rtol=0, atol=0.02
    )  # the inputs' products are rounded
    assert not torch.equal(rounded, exact)
    rounded.sum().backward()


def options_of(*typed: str) -> TrainOptions:
    return parse(compose_options("trainer=cpu", *typed))


@pytest.mark.parametrize(
    ("typed", "kernel"),
    [
        ("cell=rnn", "fused"),
        ("cell=gru", "fused"),
        ("cell=gru trainer.precision=64-true", "fused"),
        ("cell=gru data.num_steps=32", "fused"),
        ("cell=gru data.num_steps=31", "torch"),
        ("cell=gru data=dino", "torch"),
        ("cell=gru trainer.precision=bf16-mixed", "torch"),
        ("cell=gru trainer.accelerator=gpu", "torch"),
        ("cell=lstm", "torch"),
        ("cell=lstm_plain", "torch"),
        ("cell=lstm_coupled", "fused"),
        ("cell=lstm_coupled trainer.accelerator=gpu", "fused"),
        ("cell=gru_scratch", "torch"),
        ("cell=rnn cell.kernel=torch", "torch"),
        ("cell=lstm cell.kernel=fused", "fused"),
        ("cell=lstm_coupled cell.kernel=torch", "torch"),
    ],
)
def test_auto_takes_the_faster_kernel(typed: str, kernel: str) -> None:
    assert choose_kernel(options_of(*typed.split())).cell.kernel == kernel


@pytest.mark.parametrize("kernel", ["torch", "fused"])
def test_a_recorded_kernel_replaces_auto_alone(kernel: str) -> None:
    def resumed(*typed: str, **recorded: str) -> str:
        record = complete({"cell": {"kind": "gru"} | recorded})
        return str(replace_auto(compose_options("cell=gru", *typed), record)["cell"]["kernel"])

    assert resumed(kernel=kernel) == kernel
    assert resumed("cell.kernel=fused", kernel=kernel) == "fused"
    assert resumed() == "torch"  # runs of earlier versions record no kernel


def losses(directory: Path) -> list[float]:
    with (directory / "metrics.csv").open(encoding="utf-8") as stream:
        return [float(row["val/loss"]) for row in csv.DictReader(stream)]


@pytest.mark.parametrize(
    "choice",
    [
        "cell=rnn",
        "cell=gru depth=deep layers=2",
        "cell=lstm objective=fill",
        "cell=gru data=dino trainer.precision=64-true",
        "cell=gru model.input=one_hot model.tie_weights=false",
    ],
)
def test_both_kernels_train_alike(train: Train, choice: str) -> None:
    found = []
    for kernel in ("torch", "fused"):
        done = train(*SMALL, *choice.split(), f"cell.kernel={kernel}")
        assert done.status == 0, done.err
        assert done.directory is not None
        found.append(losses(done.directory))
        assert done.summary["options"]["cell"]["kernel"] == kernel
        assert load(done.directory).network.architecture.cell.kernel == kernel
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_fused_run_continues_exactly(train: Train) -> None:
    """auto has chosen the kernel; a resumed run keeps it, and another device would keep it, too."""
    small = [*SMALL, "cell=gru", "data.num_steps=32", "layers=2", "model.dropout=0.3"]
    whole = train(*small, "trainer.max_epochs=3", "scheduler=none")
    first = train(*small, "trainer.max_epochs=2", "scheduler=none")
    assert whole.directory is not None
    assert first.directory is not None
    assert first.summary["options"]["cell"]["kernel"] == "fused"
    resumed = train(f"resume={first.directory}", "trainer.max_epochs=3")
    assert resumed.status == 0, resumed.err
    assert losses(first.directory) == losses(whole.directory)
    weights = [load(run.directory).network.state_dict() for run in (first, whole)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "an earlier version"])
def test_a_resumed_run_keeps_torchs_kernel(train: Train, recorded: bool) -> None:
    done = train(*SMALL, "cell=gru", "cell.kernel=torch")
    assert done.directory is not None
    if not recorded:
        for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt"):
            forget_kernel(done.directory / name)
        path = done.directory / "summary.json"
        summary = json.loads(path.read_text("utf-8"))
        summary["options"]["cell"].pop("kernel")
        summary["overrides"].remove("cell.kernel=torch")
        path.write_text(json.dumps(summary), "utf-8")
        overrides = done.directory / ".hydra/overrides.yaml"
        overrides.write_text(overrides.read_text("utf-8").replace("- cell.kernel=torch\n", ""))
    resumed = train(f"resume={done.directory}", "trainer.max_epochs=3")
    assert resumed.status == 0, resumed.err
    assert len(losses(done.directory)) == 3
    assert load(done.directory).network.architecture.cell.kernel == "torch"


def forget_kernel(path: Path) -> None:
    """Rewrite a checkpoint as a version without kernels would have written it."""
    content = torch.load(path, weights_only=True)
    card = content["lyricgen"]
    for options in (card["architecture"], card["options"]):
        options["cell"].pop("kernel")
    AtomicCheckpointIO().save_checkpoint(content, path)


@pytest.mark.slow
def test_a_resumed_sweep_keeps_the_kernels_of_its_jobs(train: Train) -> None:
    started = train("-m", *SMALL, "cell=gru", "seed=1,2")
    assert started.status == 0, started.err
    again = train("resume=latest")
    assert again.status == 0, again.err
    assert "job 0" not in again.err + again.out


def test_a_model_with_another_kernel_takes_the_weights(train: Train) -> None:
    first = train(*SMALL, "cell=rnn", "cell.kernel=torch")
    then = train(*SMALL, "cell=rnn", "cell.kernel=fused", f"init_from={first.directory}")
    assert then.status == 0, then.err


def test_a_written_out_cell_has_no_fused_kernel(train: Train) -> None:
    refused = train(*SMALL, "cell=rnn_scratch", "+cell.kernel=fused")
    assert refused.status == 2
    [line] = refused.err.splitlines()
    assert "cell.kernel" in line
