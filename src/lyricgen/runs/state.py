"""State of a run: everything that it must remember to continue exactly."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunState:
    """Everything that a run must remember to continue exactly.

    A checkpoint holds it under the key "run", beside what Lightning saves by itself: weights,
    optimizer, schedules, gradient scaler and the position in the epoch. Each part of a run keeps
    its own fields up to date, at the latest in its hook `on_save_checkpoint`; all may read them.
    """

    text: str | None = None  # SHA-256 of the corpus
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of the run's growing files
    wall_seconds: float = 0.0

    rows: list[dict[str, float]] = field(default_factory=list)  # of metrics.csv
    best_loss: float = math.inf  # the lowest monitored loss, that of best.ckpt
    smoothed_loss: float | None = None
    trained_characters: int = 0  # in all whole epochs
    trained_seconds: float = 0.0

    patience_loss: float = math.inf  # the lowest loss that early stopping has counted as lower
    patience_epoch: int = 0  # of that loss, counted from 1
    patience_used: int = 0  # checks since then
    pruned: str | None = None  # why the search has given the run up

    # the epoch so far
    metrics: dict[str, float] = field(default_factory=dict)
    carried: tuple[Any, ...] | None = None  # recurrent state of all rows, (L, B, H), on the CPU
    nats: list[float | None] = field(default_factory=list)  # of the training text, of each rank
    characters: int = 0  # that the nats are the total of
    gradient_norm_total: Any = None  # a tensor, or None before the first step
    gradient_norms: Any = 0  # steps that it is the total of
    rate: float | None = None  # learning rate of the epoch's first step; n-grams have none
    epoch_seconds: float = 0.0

    @property
    def characters_per_second(self) -> float:
        """Speed of training over the whole run so far."""
        return self.trained_characters / self.trained_seconds if self.trained_seconds else 0.0

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state that a checkpoint of this or of an earlier version holds."""
        run = checkpoint["run"]
        vars(self).update(run if "rows" in run else run | _earlier_fields(checkpoint))


def _earlier_fields(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Fields as they lay in a checkpoint before one class held them all: by callback."""
    callbacks, epoch = checkpoint["callbacks"], checkpoint.get("epoch_so_far", {})
    stopping: dict[str, Any] = next(
        (state for name, state in callbacks.items() if name.startswith("EarlyStopping")), {}
    )
    speed, nats = callbacks["Throughput"], epoch.get("nats")
    return {
        "rows": list(callbacks["EpochLog"]["rows"]),
        "best_loss": callbacks["Checkpoints"]["best"],
        "smoothed_loss": checkpoint.get("smoothed_loss"),
        "trained_characters": speed["characters"],
        "trained_seconds": speed["seconds"],
        "patience_loss": float(stopping.get("best_score", math.inf)),
        "patience_epoch": stopping.get("best_epoch", 0),
        "patience_used": stopping.get("wait_count", 0),
        "pruned": callbacks.get("Pruning", {}).get("reason"),
        "metrics": dict(checkpoint["metrics"]),
        "carried": epoch.get("state"),
        # a single number where there was one process only
        "nats": nats if isinstance(nats, list) else [None if nats is None else float(nats)],
        "characters": epoch.get("characters", 0),
        "gradient_norm_total": epoch.get("gradient_norm_total"),
        "gradient_norms": epoch.get("gradient_norms", 0),
        "rate": speed["rate"],
        "epoch_seconds": speed["epoch_seconds"],
    }
