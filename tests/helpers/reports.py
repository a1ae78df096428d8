"""Records of runs written without training, and a parser of report pages."""

import json
import math
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lyricgen.runs.directories import read_number

OPTIONS: dict[str, Any] = {
    "seed": 1,
    "layers": 1,
    "hidden_size": 64,
    "name": "lyrics_lstm_1x64",
    "init_from": None,
    "resume": None,
    "objective": "next",
    "cell": {"kind": "lstm", "forget_bias": 1.0},
    "depth": {"dropout": 0.0, "residual": False},
    "model": {"kind": "recurrent", "dropout": 0.5},
    "data": {"kind": "lyrics", "path": None, "max_chars": None, "val_fraction": 0.1},
    "optimizer": {"kind": "adamw", "lr": 0.01, "betas": [0.9, 0.99]},
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    "callbacks": {"early_stopping": {"enabled": True, "patience": 8}},
    "logger": {"csv": True},
}


def options_of(**changed: Any) -> dict[str, Any]:
    """Options with changes such as `optimizer__lr=0.1`; a dictionary replaces a whole group."""
    options: dict[str, Any] = json.loads(json.dumps(OPTIONS))
    for key, value in changed.items():
        group, _, name = key.partition("__")
        if name:
            options[group][name] = value
        else:
            options[group] = value
    return options


def write_run(
    directory: Path,
    value: float | None = None,
    overrides: tuple[str, ...] = (),
    curve: tuple[float, ...] = (),
    **changed: Any,
) -> Path:
    """Write a run as training does; `summary` holds entries of the summary besides options."""
    more = changed.pop("summary", {})
    options = changed.pop("options", options_of(**changed))
    summary = {"status": "finished", "overrides": list(overrides), "options": options}
    summary["job"] = read_number(directory)
    if value is not None:
        summary |= {
            "val/perplexity": value,
            "test/perplexity": value + 1,
            "parameters": 1000,
            "chars_per_second": 5000.0,
            "wall_seconds": 30.0,
            "best_epoch": 2,
        }
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text(json.dumps(summary | more), encoding="utf-8")
    rows = [f"{epoch},{10 * epoch},{one}\n" for epoch, one in enumerate(curve or [9.0], 1)]
    text = "epoch,step,val/perplexity\n" + "".join(rows)
    (directory / "metrics.csv").write_text(text, encoding="utf-8")
    return directory


# Perplexities of three cells over seeds, for figures by hand:
# lstm 10, 11, 12; gru 12, 12, 15; rnn 13, 11 at seeds 1 and 3.
WORKED = {"lstm": {1: 10.0, 2: 11.0, 3: 12.0}, "gru": {1: 12.0, 2: 12.0, 3: 15.0}}
WORKED["rnn"] = {1: 13.0, 3: 11.5}


def worked_sweep(sweep: Path) -> Path:
    """Write a sweep over the cells and seeds of `WORKED`, with one failed job."""
    for number, (cell, seed) in enumerate(product(("rnn", "gru", "lstm"), (1, 2, 3))):
        typed = (f"cell={cell}", f"seed={seed}")
        value = WORKED[cell].get(seed)
        more = {} if value else {"status": "failed", "reason": "ValueError: <b>no|luck</b>"}
        cells = {"rnn": {"kind": "rnn"}, "gru": {"kind": "gru", "reset": "after"}}
        chosen = cells.get(cell, OPTIONS["cell"])
        name = f"{number}_{','.join(typed)}"
        write_run(
            sweep / name, value, typed, cell=chosen, seed=seed, name=f"x_{cell}", summary=more
        )
    return sweep


SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "hidden_size": {"low": 64, "high": 512, "step": 64, "log": False},
    "cell": {"choices": ["rnn", "lstm"]},
}


def search(directory: Path, count: int) -> Path:
    """Write a search in which only the learning rate matters, with Optuna's study file."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directory.mkdir(parents=True)
    journal = optuna.storages.journal.JournalFileBackend(str(directory / "study.log"))
    storage = optuna.storages.JournalStorage(journal)
    study = optuna.create_study(study_name="study", storage=storage)
    choices = optuna.distributions
    distributions = {
        "optimizer.lr": choices.FloatDistribution(1e-4, 1e-1, log=True),
        "hidden_size": choices.IntDistribution(64, 512, step=64),
        "cell": choices.CategoricalDistribution(["rnn", "lstm"]),
    }
    draw = Random(1)
    for number in range(count):
        rate, size = 10 ** draw.uniform(-4, -1), 64 * draw.randint(1, 8)
        cell = draw.choice(["rnn", "lstm"])
        value = 50 + 10 * (math.log10(rate) + 2.5) ** 2
        typed = (f"optimizer.lr={rate}", f"hidden_size={size}", f"cell={cell}")
        changed = {"optimizer__lr": rate, "hidden_size": size, "cell": {"kind": cell}}
        summary = {"search_space": SPACE, "status": "pruned" if number % 5 == 4 else "finished"}
        name = f"{number}_"
        write_run(directory / name, value, typed, summary=summary, **changed)
        attributes = {"job": number, "directory": name, "overrides": list(typed)}
        pruned = number % 5 == 4
        states = optuna.trial.TrialState
        trial = optuna.trial.create_trial(
            state=states.PRUNED if pruned else states.COMPLETE,
            params={"optimizer.lr": rate, "hidden_size": size, "cell": cell},
            distributions=distributions,
            value=None if pruned else value,
            user_attrs=attributes,
        )
        study.add_trial(trial)
    return directory


def stored_records(outputs: Path) -> Path:
    """Write runs and sweeps of all kinds: other texts, failures, plans, long names, samples."""
    sweep = worked_sweep(outputs / "sweeps" / "cells")
    jobs = [(cell, seed) for cell in ("rnn", "gru", "lstm") for seed in (1, 2, 3)] + [("gru", 4)]
    plan = {str(n): [f"cell={cell}", f"seed={seed}"] for n, (cell, seed) in enumerate(jobs)}
    (sweep / "summary.json").write_text(json.dumps({"status": "finished", "jobs": plan}))
    search(outputs / "sweeps" / "search", 30)
    draw = Random(2)
    grid = product((1e27, 1234.5, 9.5), (1, 2), (1, 2, 3, 4))
    for number, (value, layers, seed) in enumerate(grid):
        typed = (f"optimizer.weight_decay_of_all={value}", f"layers={layers}", f"seed={seed}")
        options = {**options_of(seed=seed, layers=layers, data__kind="dino")}
        options["optimizer"]["weight_decay_of_all"] = value
        more = {
            "parameters": 1000 * layers + number,
            "chars_per_second": 1e4 / (1 + number),
            "wall_seconds": draw.uniform(1, 20_000),
            "samples": [f"text {number}\n歌", "another <text> & more"],
            "started": f"2026-01-02T00:00:{number:02}+00:00",
            "corpus_digest": "1" * 64,
        }
        place = outputs / "sweeps" / "grid" / f"{number}_"
        write_run(place, value * draw.uniform(1, 1.2), typed, options=options, summary=more)
    pseudo = {"val/pseudo_perplexity": 2.0, "test/pseudo_perplexity": 2.5}
    write_run(outputs / "runs" / "fill", None, seed=1, objective="fill", summary=pseudo)
    nasty = {"status": "failed", "reason": "a|b <c> `d` \x1b[31m_e_ [f] {{ g }} {% h %}"}
    write_run(outputs / "runs" / "nasty", None, cell={"kind": "*[x]|<y>"}, seed=1, summary=nasty)
    for name, status in {"again": "finished", "later": "finished", "killed": "killed"}.items():
        more = {"status": status, "started": f"2026-01-0{len(name) % 4 + 1}T00:00:00"}
        write_run(outputs / "runs" / name, 5.0 + len(name) / 7, data__max_chars=500, summary=more)
    return outputs


class Page(HTMLParser):
    """Tags, attributes and texts of a page; every tag must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
