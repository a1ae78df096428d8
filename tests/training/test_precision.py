"""Precisions, their names and CPUs without instructions for one; fractions of an epoch."""

import csv
from typing import Any

import pytest
import torch

from lyricgen.errors import UserError
from lyricgen.options import validate
from lyricgen.training.options import TrainerOptions
from tests.conftest import SMALL, Train, TrainingResult

TRAINER: dict[str, Any] = {
    "max_epochs": 2, "max_steps": None, "accelerator": "cpu", "devices": 1, "strategy": "auto",
    "precision": "32-true", "gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm",
    "limit_train_batches": None, "check_val_every_n_epoch": 1, "val_check_interval": None,
    "deterministic": False, "profiler": None, "float32_matmul_precision": "highest",
    "max_time": None, "accumulate_grad_batches": 1, "benchmark": False, "detect_anomaly": False,
}  # fmt: skip


def trainer_options(**changed: Any) -> TrainerOptions:
    options: TrainerOptions = validate(TrainerOptions, TRAINER | changed)
    return options


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        (16, "16-mixed"), ("16", "16-mixed"), ("bf16", "bf16-mixed"), (32, "32-true"),
        ("32", "32-true"), (64, "64-true"), ("64", "64-true"), ("bf16-true", "bf16-true"),
    ],
)  # fmt: skip
def test_short_names_of_precisions(typed: Any, full: str) -> None:
    assert trainer_options(precision=typed).precision == full


@pytest.mark.parametrize("wrong", [8, "half", True, None, 16.0])
def test_unknown_names_of_precisions_are_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"^precision=.*'bf16-mixed'"):
        trainer_options(precision=wrong)


@pytest.mark.slow
def test_a_short_name_is_recorded_in_full(train: Train) -> None:
    done = train(*SMALL, "cell=gru", "trainer.precision=bf16")
    assert done.status == 0, done.err
    assert done.summary["options"]["trainer"]["precision"] == "bf16-mixed"
    for name in ("bf16", "bf16-mixed"):
        again = train(f"resume={done.directory}", f"trainer.precision={name}")
        assert again.status == 0, again.err
    other = train(f"resume={done.directory}", "trainer.precision=32")
    assert other.status == 2
    assert "trainer.precision=bf16-mixed (now: 32-true)" in other.err


LACKING = "could not create a primitive descriptor for the LSTM forward propagation primitive"


@pytest.fixture
def _no_avx_512(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch's LSTM fail in mixed precision, as on a CPU that lacks the instructions."""
    forward = torch.nn.LSTM.forward

    def fail_in_autocast(self: torch.nn.LSTM, *arguments: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError(f"{LACKING}. Run workload with environment variable ONEDNN_VERBOSE")
        return forward(self, *arguments)

    monkeypatch.setattr(torch.nn.LSTM, "forward", fail_in_autocast)


@pytest.mark.usefixtures("_no_avx_512")
@pytest.mark.parametrize("objective", ["next", "fill"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.filterwarnings("ignore:You passed `Trainer")
def test_a_precision_without_instructions_is_refused(
    train: Train, precision: str, objective: str
) -> None:
    refused = train(*SMALL, f"objective={objective}", f"trainer.precision={precision}")
    assert (refused.status, refused.directory) == (2, None)
    [line] = [line for line in refused.err.splitlines() if line.startswith("error: ")]
    assert line == (
        f"error: trainer.precision={precision}: this CPU cannot train cell=lstm with this "
        f"precision ({LACKING}): "
        "choose one of 32-true, 64-true, "
        + ("16-true, bf16-true" if "16-true" in line else "bf16-true")
    )


@pytest.mark.usefixtures("_no_avx_512")
def test_other_cells_train_without_the_instructions(train: Train) -> None:
    done = train(*SMALL, "cell=gru", "trainer.precision=bf16-mixed")
    assert done.status == 0, done.err


@pytest.mark.slow
def test_checking_a_precision_draws_no_random_numbers(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with the check equals a run without it to the last bit."""
    options = (*SMALL, "cell=gru", "trainer.precision=bf16-true")
    tried = train(*options)
    monkeypatch.setattr("lyricgen.training.main.check_precision", lambda *arguments: None)
    untried = train(*options)
    assert tried.summary["val/loss"] == untried.summary["val/loss"]


# Fractions


def epochs_of(run: TrainingResult) -> list[tuple[int, int]]:
    """Return the epoch and the number of steps of each validation."""
    assert run.directory is not None, run.err
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return [(int(row["epoch"]), int(row["step"])) for row in csv.DictReader(stream)]


def test_fractions_of_an_epoch(train: Train, trained: Train) -> None:
    [(_, steps), _] = epochs_of(trained(*SMALL))
    limited = train(
        *SMALL, "trainer.limit_train_batches=0.6", "trainer.val_check_interval=0.25",
        "scheduler=cosine",
    )  # fmt: skip
    made = int(0.6 * steps)
    every = int(0.25 * made)
    expected = [
        (epoch, (epoch - 1) * made + step)
        for epoch in (1, 2)
        for step in range(every, made + 1, every)
    ]
    found = epochs_of(limited)
    assert set(expected) <= set(found)
    assert max(step for _, step in found) == 2 * made
    whole = train(*SMALL, "trainer.limit_train_batches=1.0", "trainer.val_check_interval=1.0")
    assert [step for _, step in epochs_of(whole)] == [steps, 2 * steps]
    one = train(*SMALL, "trainer.limit_train_batches=1")
    assert [step for _, step in epochs_of(one)] == [1, 2]


@pytest.mark.parametrize("name", ["limit_train_batches", "val_check_interval"])
@pytest.mark.parametrize("wrong", [0, 0.0, -1, -0.5, 1.5, float("nan"), True, "half"])
def test_wrong_fractions_of_an_epoch_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(UserError, match=f"^{name}="):
        trainer_options(**{name: wrong})


def test_a_fraction_without_a_batch_is_refused(train: Train) -> None:
    refused = train(*SMALL, "trainer.limit_train_batches=0.001")
    assert (refused.status, refused.directory) == (2, None)
    assert refused.err.startswith("error: trainer.limit_train_batches=0.001 leaves none of the ")


def test_ngrams_ignore_the_precision(train: Train) -> None:
    done = train(*SMALL, "model=ngram", "trainer.precision=16-mixed")
    assert done.status == 0, done.err
    assert "precision" not in done.out + done.err
