"""Comparison of two run directories, bit by bit, without measured times and speeds."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lyricgen.runs.checkpoint_files import is_sound

# fields of a run's state that are measured times, or that other files hold
MEASURED = ("wall_seconds", "trained_seconds", "epoch_seconds", "sizes", "rows", "sent")
CLOCKS = ("train/chars_per_second", "run/chars_per_second", "run/wall_seconds")


def differences(undisturbed: Path, run: Path) -> list[str]:
    """List the contents that differ between two run directories."""
    if not is_sound(run / "checkpoints" / "last.ckpt"):
        return ["last.ckpt does not have its sum"]
    one, other = contents(undisturbed), contents(run)
    return [
        f"{name} ({_first_difference(one.get(name), other.get(name))})"
        for name in sorted(one.keys() | other.keys())
        if _first_difference(one.get(name), other.get(name)) is not None
    ]


def contents(directory: Path) -> dict[str, Any]:
    """Read all contents of a run directory, without measured times and speeds."""
    # previous.ckpt is the last.ckpt before, which a signal may have saved
    files = [
        path
        for path in sorted(directory.rglob("*"))
        if ".tfevents." not in path.name and path.name != "previous.ckpt"
    ]
    found: dict[str, Any] = {"files": [str(path.relative_to(directory)) for path in files]}
    for path in [path for path in files if path.suffix == ".ckpt"]:
        checkpoint, name = torch.load(path, weights_only=True), path.name
        for part in ("state_dict", "optimizer_states", "lr_schedulers"):
            found[f"{name} {part}"] = checkpoint.get(part)
        state = {
            key: each for key, each in checkpoint.get("run", {}).items() if key not in MEASURED
        }
        if "metrics" in state:
            metrics = state["metrics"].items()
            state["metrics"] = {key: each for key, each in metrics if key not in CLOCKS}
        found[f"{name} run"] = state
        found[f"{name} position"] = [checkpoint.get("epoch"), checkpoint.get("global_step")]
    with (directory / "metrics.csv").open(encoding="utf-8") as stream:
        found["metrics.csv"] = [
            {name: value for name, value in row.items() if name not in CLOCKS}
            for row in csv.DictReader(stream)
        ]
    for name in ("samples.jsonl", "steps.csv"):
        path = directory / name
        found[name] = path.read_text("utf-8").splitlines() if path.exists() else None
    summary = json.loads((directory / "summary.json").read_text("utf-8"))
    names = ("status", "best_epoch", "epochs", "parameters", "samples", "ngram_perplexities")
    found["summary.json"] = {name: summary.get(name) for name in names} | {
        name: value for name, value in summary.items() if "/" in name and name not in CLOCKS
    }
    events = EventAccumulator(str(directory), {"scalars": 0, "tensors": 0})
    events.Reload()
    for tag in events.Tags()["scalars"]:
        if tag not in CLOCKS:
            found[f"scalar {tag}"] = [[event.step, event.value] for event in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:
        found[f"text {tag}"] = [
            [event.step, event.tensor_proto.string_val[0]] for event in events.Tensors(tag)
        ]
    return found


def mlflow_differences(database: Path, run: Path) -> list[str]:
    """List where the last values of MLflow's SQLite file differ from a run's metrics.csv."""
    mine = "run_uuid = (SELECT run_uuid FROM tags WHERE key = 'lyricgen.id' AND value = ?)"
    identity = [(run / "remote_id.txt").read_text("utf-8").strip()]
    with closing(sqlite3.connect(database)) as connection:
        values = connection.execute(
            f"SELECT step, key, value FROM metrics WHERE {mine} ORDER BY timestamp",
            identity,
        ).fetchall()
        status = f"SELECT value FROM tags WHERE key = 'lyricgen.status' AND {mine}"
        ends = connection.execute(status, identity).fetchall()
    last = {(step, key): value for step, key, value in values}
    with (run / "metrics.csv").open(encoding="utf-8") as stream:
        expected = {
            (int(row["step"]), name): float(value)
            for row in csv.DictReader(stream)
            for name, value in row.items()
            if value and name not in ("epoch", "step")
        }
    wrong = [f"MLflow's status is {ends}"] if ends != [("finished",)] else []
    return wrong + [
        f"{name} of step {step}: {value!r}, at MLflow {last.get((step, name))!r}"
        for (step, name), value in expected.items()
        if last.get((step, name)) != value
    ]


def _first_difference(one: Any, other: Any, where: str = "") -> str | None:
    """Find the first difference between two nested values; None if they are equal bit by bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return None if same else f"{where}: the tensors differ"
    if isinstance(one, dict) and isinstance(other, dict):
        if list(one) != list(other):
            return f"{where}: keys {list(one)} and {list(other)}"
        pairs = [(one[key], other[key], f"{where}.{key}") for key in one]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            odd = [each for each in (*one, *other) if (each in one) != (each in other)]
            return f"{where}: {len(one)} and {len(other)} entries, such as {odd[:1]}"
        pairs = [(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return None if one == other else f"{where}: {one!r} and {other!r}"
    found = (_first_difference(*pair) for pair in pairs)
    return next((difference for difference in found if difference is not None), None)
