"""Moments of a training, and the private parts of Lightning and torch that they need."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from lyricgen.training.lightning_hooks import (
    Moments,
    Observer,
    is_exact_point,
    keep_out_of_signals,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:The number of training batches",
    "ignore:You're resuming from a checkpoint that ended before",
    "ignore:.*treespec.*is deprecated",
)


class Line(pl.LightningModule):
    """Module with one parameter that falls by one a step."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = seen

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weight.sum()

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append("v")

    @override
    def on_train_epoch_end(self) -> None:
        self.seen.append("module")

    @override
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Notes(Observer):
    """Observer that notes letter and step of each moment, ! at exact points; can stop and save."""

    def __init__(self, seen: list[str], stop_at: str, save: Path | None) -> None:
        self.seen = seen
        self.stop_at = stop_at
        self.save = save

    def note(self, trainer: pl.Trainer, moment: str) -> None:
        self.seen.append(moment)
        if moment == self.stop_at:
            if self.save is not None:
                trainer.save_checkpoint(self.save)
            trainer.should_stop = True

    @override
    def after_step(self, trainer: pl.Trainer, outputs: Any) -> None:
        assert float(outputs["loss"]) == 1 - trainer.global_step
        exact, ends = is_exact_point(trainer), trainer.is_last_batch
        assert not (exact and ends)
        self.note(trainer, f"s{trainer.global_step}{'!' * exact}{'.' * ends}")

    @override
    def after_validation(self, trainer: pl.Trainer) -> None:
        self.note(trainer, f"V{trainer.global_step}")

    @override
    def after_epoch(self, trainer: pl.Trainer, *, validated: bool) -> None:
        self.note(trainer, f"E{trainer.global_step}{'v' * validated}")


class ValidationNotes(Notes):
    """Notes with the moments around each validation: < before it and > after its scores."""

    @override
    def before_validation(self, trainer: pl.Trainer) -> None:
        self.note(trainer, f"<{trainer.global_step}")

    @override
    def after_scoring(self, trainer: pl.Trainer) -> None:
        self.note(trainer, f">{trainer.global_step}")


def fit(
    tmp_path: Path,
    stop_at: str = "",
    max_steps: int | None = None,
    save: bool = False,
    resume: bool = False,
    kind: type[Notes] = Notes,
    **options: Any,
) -> str:
    """Fit two epochs of four steps, or the rest of them, and return the moments seen."""
    seen: list[str] = []
    path = tmp_path / "saved.ckpt"
    notes = kind(seen, stop_at, path if save else None)
    trainer = pl.Trainer(
        **{"max_epochs": 2} | options, callbacks=[Moments([notes], max_steps)], accelerator="cpu",
        logger=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )  # fmt: skip
    data: Any = DataLoader(range(4))  # type: ignore[arg-type]
    held_out: Any = DataLoader(range(1))  # type: ignore[arg-type]
    trainer.fit(Line(seen), data, held_out, ckpt_path=path if resume else None, weights_only=True)
    return " ".join(seen)


def test_moments_of_an_epoch_come_after_its_validation_and_the_module(tmp_path: Path) -> None:
    epoch = "s1! s2! s3! s4. v module E4v"
    again = "s5! s6! s7! s8. v module E8v"
    assert fit(tmp_path) == f"{epoch} {again}"


def test_validations_within_an_epoch(tmp_path: Path) -> None:
    seen = fit(tmp_path, val_check_interval=2, max_epochs=1)
    assert seen == "s1! s2 v V2 s3! s4. v module E4v"
    seen = fit(tmp_path, val_check_interval=3, max_epochs=1)  # no validation at the end
    assert seen == "s1! s2! s3 v V3 s4. module E4"


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (2, "s1! s2 <2 v >2 V2 s3! s4. <4 v >4 module E4v"),
        (4, "s1! s2! s3! s4. <4 v >4 module E4v"),
    ],
)
def test_moments_around_a_validation(tmp_path: Path, every: int, expected: str) -> None:
    seen = fit(tmp_path, kind=ValidationNotes, val_check_interval=every, max_epochs=1)
    assert seen == expected


def test_an_epoch_without_validation(tmp_path: Path) -> None:
    seen = fit(tmp_path, check_val_every_n_epoch=2)
    assert seen == "s1! s2! s3! s4. module E4 s5! s6! s7! s8. v module E8v"


def test_stopping_at_a_validation_skips_the_end_of_the_epoch(tmp_path: Path) -> None:
    assert fit(tmp_path, "V2", val_check_interval=2) == "s1! s2 v V2 module"


def test_max_steps_ends_a_run_like_an_epoch(tmp_path: Path) -> None:
    assert fit(tmp_path, max_steps=6) == "s1! s2! s3! s4. v module E4v s5! s6. v module E6v"
    assert fit(tmp_path, max_steps=4) == "s1! s2! s3! s4. v module E4v"


@pytest.mark.parametrize(
    ("saved_at", "options"),
    [
        ("s2!", {}),
        ("s6!", {}),
        ("V2", {"val_check_interval": 2}),
        ("V6", {"val_check_interval": 2}),
        ("E4v", {}),
        ("E4", {"val_check_interval": 3}),
        ("E4", {"check_val_every_n_epoch": 2}),
        ("s6!", {"max_steps": 7}),
        ("E4v", {"max_steps": 7}),
    ],
)
def test_resuming_at_an_exact_point_gives_the_remaining_moments(
    tmp_path: Path, saved_at: str, options: dict[str, Any]
) -> None:
    whole = fit(tmp_path, **options)
    before = fit(tmp_path, saved_at, save=True, **options).split()
    before = before[: before.index(saved_at) + 1]
    after = fit(tmp_path, resume=True, **options)
    assert " ".join([*before, after]) == whole


@pytest.mark.parametrize(("steps", "last"), [(4, "E4v"), (7, "E7v")])
def test_a_run_ended_by_max_steps_stays_ended(tmp_path: Path, steps: int, last: str) -> None:
    assert fit(tmp_path, last, max_steps=steps, save=True).split()[-1] == last
    assert fit(tmp_path, max_steps=steps, resume=True) == ""


def test_private_parts_still_exist() -> None:
    """Replacing a part that was renamed would have no effect."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    replaced = (
        (trainer._signal_connector, "register_signal_handlers"),
        (trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor"),
    )
    assert all(callable(getattr(type(owner), name)) for owner, name in replaced)
    keep_out_of_signals(trainer)
    assert all(name in vars(owner) for owner, name in replaced)
    reducer = torch._C._distributed_c10d.Reducer  # type: ignore[attr-defined]
    assert callable(reducer._push_all_rebuilt_params)
    assert callable(reducer._rebuild_buckets)
