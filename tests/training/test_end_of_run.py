"""Messages at the end of a run: early stopping, how good it is, and the next command."""

import csv
import math
import re
import shlex
from pathlib import Path

import pytest
import rich
from rich.console import Console

from lyricgen import generate
from lyricgen.console import format_figure
from lyricgen.evaluation import tables
from lyricgen.evaluation.intervals import Estimate
from lyricgen.models.checkpoint import load
from lyricgen.runs.summary import RunSummary
from lyricgen.training import results
from tests.conftest import SMALL, TINY, Train, TrainingResult, run_main


def directory_of(done: TrainingResult) -> Path:
    assert done.directory is not None, done.err
    return done.directory


def rows_of(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_early_stopping_is_reported(train: Train) -> None:
    stop = ("callbacks.early_stopping.min_delta=100", "callbacks.early_stopping.patience=2")
    done = train(*SMALL, *stop, "trainer.max_epochs=9")
    best = float(rows_of(directory_of(done))[0]["val/loss"])
    said = (
        "early stopping: after epoch 3, val/loss has not fallen for 2 validations "
        f"(callbacks.early_stopping.patience); the best is {best:.4f} of epoch 1"
    )
    assert said in done.out.splitlines()
    assert said in (directory_of(done) / "train.log").read_text("utf-8")
    again = train("resume=latest", "callbacks.early_stopping.patience=4")  # training continues
    assert "after epoch 5, val/loss has not fallen for 4 validations" in again.out
    assert f"the best is {best:.4f} of epoch 1" in again.out


def test_a_run_without_early_stopping_does_not_report_it(trained: Train) -> None:
    assert "early stopping" not in trained(*SMALL).out


@pytest.mark.parametrize("rate", ["3", "0.01"])
def test_a_loss_worse_than_guessing_is_reported(train: Train, rate: str) -> None:
    done = train(*SMALL, f"optimizer.lr={rate}", "scheduler=none")
    assert done.status == 0, done.err
    size = len(load(directory_of(done) / "checkpoints" / "best.ckpt").vocabulary)
    best = min(float(row["val/loss"]) for row in rows_of(directory_of(done)))
    diverged = best > math.log(size)
    assert diverged == (rate == "3")
    assert done.summary["worse_than_uniform"] is diverged
    log = (directory_of(done) / "train.log").read_text("utf-8")
    for output in (done.out, log):
        warned = [line for line in output.splitlines() if "worse than guessing" in line]
        assert len(warned) == diverged
        assert all(f"all {size:,} characters" in line for line in warned)
        assert all(f"optimizer.lr={rate}" in line for line in warned)


def table_of(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    perplexity: float,
    ngrams: dict[str, list[float]],
) -> str:
    monkeypatch.setattr(rich, "_console", Console(width=80))
    summary = RunSummary(
        status="finished",
        model="lstm 1x256",
        best_epoch=1,
        parameters=1,
        chars_per_second=1.0,
        ngram_perplexities={"val": ngrams},
        **{f"{split}/perplexity": perplexity for split in ("train", "val", "test")},
    )
    results.print_table(summary)
    return capsys.readouterr().out


def test_the_table_does_not_cut_huge_perplexities(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ngrams = {"kneser_ney": [math.inf], "witten_bell": []}
    out = table_of(monkeypatch, capsys, 1.3e27, ngrams)
    assert "…" not in out
    [row] = re.findall(r"lstm 1x256 .*", out)
    assert row.split()[2:] == ["1.3e+27"] * 3
    assert re.search(r"1-gram \(best\) +inf", out)


def test_the_table_marks_the_best_ngram(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ngrams = {"kneser_ney": [9.0, 10.0], "witten_bell": [11.0, 8.0]}
    out = table_of(monkeypatch, capsys, 7.0, ngrams)
    assert re.findall(r"\S+ \d-gram \(best\)", out) == ["Witten-Bell 2-gram (best)"]


def test_the_end_names_the_command_that_writes_a_text(
    trained: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    done = trained(*SMALL)
    [command] = re.findall(r"^to write a text: (.+)$", done.out, flags=re.MULTILINE)
    program, *arguments = shlex.split(command)
    assert (program, arguments[:2]) == ("python", ["-m", "lyricgen.generate"])
    assert run_main(generate.main, capfd, *arguments[2:]).texts[0]
    assert Path(arguments[2]).resolve() == directory_of(done)


@pytest.mark.parametrize("rate", ["1e-6", "0.02"])
def test_the_end_says_whether_the_network_beats_the_best_ngram(train: Train, rate: str) -> None:
    done = train(*TINY, "callbacks.samples.every_n_epochs=0", f"optimizer.lr={rate}")
    by_order = done.summary["ngram_perplexities"]["val"]
    best = min(value for values in by_order.values() for value in values)
    own = done.summary["val/perplexity"]
    [(said, named)] = re.findall(
        r"^the network (.*) the best n-gram on the validation text: perplexity \S+, (\S+ \S+)",
        done.out,
        re.M,
    )
    assert re.findall(r"(\S+ \S+) \(best\)", done.out) == [named]
    assert said == ("beats" if own < best else "does not beat")
    assert done.summary["beats_ngrams"] is (own < best)
    assert done.directory is not None
    assert not RunSummary.read(done.directory).model_extra  # each entry is described


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00"),
        (1447.128, "1,447.13"),
        (9_999_999.0, "9,999,999.00"),
        (1.3e27, "1.3e+27"),
        (math.inf, "inf"),
    ],
)
def test_figures_too_wide_for_a_column_have_an_exponent(value: float, shown: str) -> None:
    assert format_figure(value) == shown


def test_evaluate_shows_wide_figures_with_an_exponent() -> None:
    assert (
        tables.format_estimate(Estimate(1.3e27, 1.2e27, 1.5e27), 2) == "1.3e+27 (1.2e+27…1.5e+27)"
    )
    assert tables.format_estimate(Estimate(0.5, -2e9, 2e9), 3, "+") == "+0.500 (-2.0e+09…+2.0e+09)"
