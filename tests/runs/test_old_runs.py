"""Runs, a sweep and a model file of an earlier version can be read, resumed and reported.

`fixtures/old_runs.tar.xz` holds three runs of networks alone, two of networks with n-grams, one of
these with a memory, an n-gram run, a sweep of two jobs and an exported model. Its `continued.json`
holds the losses of a third epoch that the earlier version trained,
`fixtures/old_runs_continued.safetensors` the weights after this epoch, and the machine.
"""

import csv
import json
import re
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lyricgen import evaluate, generate, report
from lyricgen.runs.checkpoint_files import AtomicCheckpointIO
from lyricgen.runs.state import RunState
from tests.conftest import ROOT, SMALL, Train, run_main, sweep_of
from tests.helpers.processes import train_with_avx2

ARCHIVE = ROOT / "tests/fixtures/old_runs.tar.xz"
CONTINUED = ROOT / "tests/fixtures/old_runs_continued.safetensors"


def machine() -> dict[str, str]:
    """Return all that rounding depends on: torch's version, and a CPU that has AVX2."""
    cpu = Path("/proc/cpuinfo")
    facts = cpu.read_text("utf-8") if cpu.exists() else ""
    found = re.search(r"model name\s*: (.*)", facts)
    return {
        "torch": torch.__version__,
        "cpu_capability": "AVX2" if re.search(r"\bavx2\b", facts) else "",
        "processor": found[1] if found else "",
    }


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11.4 was the first with a filter
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path, **safely)
    return tmp_path / "old_runs"


@pytest.mark.parametrize("name", ["lstm", "names", "fill", "sweep", "mixture", "memory"])
def test_a_resumed_run_continues_as_in_the_earlier_version(runs: Path, name: str) -> None:
    """Results agree to the last bit on the same machine; other CPUs round differently."""
    done = train_with_avx2(runs, f"resume={runs / name}", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    with safe_open(CONTINUED, "pt") as stored:
        same_machine = stored.metadata() == machine()
    rounding = {"rtol": 0.0, "atol": 0.0} if same_machine else {"rtol": 1e-5, "atol": 1e-6}
    everything = load_file(CONTINUED)
    for job, losses in json.loads((runs / "continued.json").read_text()).items():
        if job.split("/")[0] != name:
            continue
        with (runs / job / "metrics.csv").open(encoding="utf-8") as stream:
            last = list(csv.DictReader(stream))[-1]
        assert last["epoch"] == "3"
        found = {figure: float(last[figure]) for figure in losses}
        torch.testing.assert_close(found, losses, **rounding)
        content = torch.load(runs / job / "checkpoints/last.ckpt", weights_only=True)
        weights = {
            f"{job} {key}": weight
            for key, weight in content["state_dict"].items()
            if ".ngram." not in key  # counts, which do not change
        }
        expected = {key: everything[key] for key in everything if key.startswith(f"{job} ")}
        torch.testing.assert_close(weights, expected, **rounding)


def test_a_resumed_run_keeps_the_defaults_of_its_version(runs: Path, train: Train) -> None:
    """Its settings stay, also if a group is typed again; a version without recipes had none."""
    before = json.loads((runs / "names/summary.json").read_text("utf-8"))
    kinds = [
        f"{group}={before['options'][group]['kind']}" for group in ("cell", "optimizer", "data")
    ]
    for epochs in (3, 4):  # the second time the summary has a recipe
        done = train(f"resume={runs / 'names'}", *kinds, f"trainer.max_epochs={epochs}")
        assert done.status == 0, done.err
        after = json.loads((runs / "names/summary.json").read_text("utf-8"))
        assert after["epochs"] == epochs
        assert after["options"]["recipe"] == "none"
        assert after["options"]["model"].items() >= before["options"]["model"].items()
        assert after["options"]["optimizer"] == before["options"]["optimizer"]


def test_jobs_of_a_sweep_without_a_recipe_are_found(runs: Path, train: Train) -> None:
    sweep = runs / "sweep"
    before = json.loads((sweep / "summary.json").read_text("utf-8"))["jobs"]
    done = train(f"resume={sweep}")
    assert done.status == 0, done.err
    assert f"{len(before)} of {len(before)} jobs are done" in done.out
    assert len([path for path in sweep.iterdir() if (path / "summary.json").exists()]) == 2


def test_jobs_of_a_text_without_a_chosen_field_are_found(train: Train) -> None:
    Path("a.txt").write_text("abcd\n" * 300, "utf-8")
    options = (*SMALL, "data.path=a.txt", "model=ngram", "seed=1,2")
    assert train("-m", *options).status == 0
    for summary in sweep_of().glob("*/summary.json"):
        found = json.loads(summary.read_text("utf-8"))
        assert found["options"]["data"]["column"] is None
        found["filled"] = sorted({*found["filled"]} - {"data.column", "data.key"})
        summary.write_text(json.dumps(found), "utf-8")
    done = train(f"resume={sweep_of()}")
    assert done.status == 0, done.err
    assert "2 of 2 jobs are done" in done.out
    assert len(list(sweep_of().glob("*/summary.json"))) == 2


def test_a_finished_ngram_run_is_not_counted_again(runs: Path, train: Train) -> None:
    before = {path: path.stat().st_mtime_ns for path in (runs / "ngram/checkpoints").iterdir()}
    done = train(f"resume={runs / 'ngram'}")
    assert done.status == 0, done.err
    assert "finished" in done.out + done.err
    assert before
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())


@pytest.mark.parametrize("name", ["lstm", "names", "fill", "sweep/0_seed=1"])
def test_the_state_of_a_run_is_read_from_its_old_places(runs: Path, name: str) -> None:
    path = runs / name / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    assert "rows" not in content["run"]
    state = RunState()
    state.restore(content)
    with (runs / name / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    written = [{key: value for key, value in row.items() if value} for row in rows]
    assert [{key: str(value) for key, value in row.items()} for row in state.rows] == written
    losses = [float(row["val/loss"]) for row in rows]
    assert (state.best_loss, state.patience_loss) == (min(losses), min(losses))
    assert state.patience_epoch == losses.index(min(losses)) + 1
    assert state.patience_used == len(losses) - state.patience_epoch
    assert state.metrics["val/loss"] == losses[-1]
    nats, epoch = state.nats[0], content["epoch_so_far"]
    assert nats is not None
    assert nats / state.characters == pytest.approx(float(rows[-1]["train/loss"]), rel=1e-12)
    assert state.carried is epoch["state"]
    assert state.gradient_norm_total is epoch["gradient_norm_total"]
    assert state.trained_characters == len(rows) * state.characters
    recorded = json.loads((runs / name / "summary.json").read_text())
    assert state.corpus_digest == recorded["corpus_digest"]


def test_old_states_of_pruned_runs_and_smoothed_losses_are_read() -> None:
    callbacks = {
        "EpochLog": {"rows": []},
        "Checkpoints": {"best": 1.5},
        "Pruning": {"reason": "worse"},
        "Throughput": {"characters": 3, "seconds": 2.0, "rate": 0.5, "epoch_seconds": 1.0},
    }
    content = {"run": {"text": "ab"}, "callbacks": callbacks, "metrics": {}, "smoothed_loss": 2.5}
    one = RunState()  # the nats of a single process were no list
    one.restore(content | {"epoch_so_far": {"nats": torch.tensor(4.0), "state": None}})
    assert (one.pruned, one.smoothed_loss, one.nats, one.rate) == ("worse", 2.5, [4.0], 0.5)
    several = RunState()
    several.restore(content | {"epoch_so_far": {"nats": [4.0, None]}})
    assert several.nats == [4.0, None]
    counted = RunState()
    counted.restore(content)
    assert (counted.nats, counted.patience_used) == ([None], 0)


@pytest.mark.parametrize(
    "name", ["lstm", "names", "ngram", "sweep/0_seed=1", "lstm.safetensors", "mixture", "memory"]
)
def test_an_old_model_generates_text(
    runs: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    [text] = run_main(generate.main, capfd, runs / name, "--length", "1").texts[:1]
    assert text


@pytest.mark.slow
def test_old_runs_are_evaluated_and_reported(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluated = run_main(evaluate.main, capfd, runs / "lstm", "--resamples", "100", "--json")
    assert json.loads(evaluated.out)["parts"]
    reported = run_main(report.main, capfd, runs, "--out", tmp_path / "report", "--json")
    assert reported.status == 0, reported.err
    assert sum(row["n"] for row in json.loads(reported.out)) == 8


def test_a_checkpoint_from_before_exact_resuming_is_refused_in_one_line(
    runs: Path, train: Train
) -> None:
    path = runs / "lstm/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["run"]
    AtomicCheckpointIO().save_checkpoint(content, path)
    done = train(f"resume={runs / 'lstm'}", "trainer.max_epochs=3")
    assert done.status == 2
    [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert str(path) in line
    assert "init_from=" in line
    assert "Traceback" not in done.err
