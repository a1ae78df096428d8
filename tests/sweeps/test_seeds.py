"""The jobs of a sweep that varies only the seed, as one model."""

import csv
import json
import re

import pytest

from lyricgen import evaluate
from lyricgen.reporting.sweep_report import report
from tests.conftest import SMALL, Train, run_main, summary_of, sweep_of


def test_jobs_of_several_seeds_as_one_model(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    done = train("-m", *SMALL, "model=recurrent", "optimizer.lr=0.03", "seed=1,2,3")
    assert done.status == 0, done.err
    sweep = sweep_of()
    found = summary_of(sweep)["ensemble"]
    jobs = sorted(str(path) for path in sweep.glob("*_seed=*"))
    printed = run_main(evaluate.main, capfd, *jobs, "--together", "--json", "--resamples", "100")
    figures = json.loads(printed.out)
    assert found["combination"] == figures["ensemble"]["combination"]
    assert found["weights"] == list(figures["ensemble"]["weights"].values())
    report = (sweep / "report/report.csv").read_text(encoding="utf-8")
    jobs_row, joined = csv.DictReader(report.splitlines())
    average = found["combination"]
    assert joined["verdict"] == f"{average} ensemble"
    assert (joined["rank"], joined["n"], joined["incomplete"]) == ("", "3", "")
    assert jobs_row["rank"] == "1"
    shown = re.search(rf" (\S+) +3 +{average} ensemble +(\S+)", done.out)
    assert shown is not None, done.out
    for split, column, printed_figure in zip(
        ("val", "test"), ("mean", "test_perplexity"), shown.groups(), strict=True
    ):
        assert float(joined[column]) == found[f"{split}/perplexity"]
        [row] = [one for one in figures["parts"][split]["models"] if one["kind"] == "ensemble"]
        value = row["perplexity"]["value"]
        assert found[f"{split}/perplexity"] == pytest.approx(value, rel=1e-6)
        assert float(printed_figure) == pytest.approx(value, abs=0.006)
    best = min(summary_of(sweep / job)["val/perplexity"] for job in jobs)
    assert found["val/perplexity"] < best + 1e-6
    for file in ("report.html", "report.md"):
        assert f"{average} ensemble" in (sweep / "report" / file).read_text("utf-8")


def test_the_ensemble_of_jobs_that_went_on_is_left_out(train: Train) -> None:
    typed = ("data=dino", "model=recurrent", "trainer.max_epochs=1", "seed=1,2")
    done = train("-m", *SMALL, *typed)
    assert " ensemble" in done.out
    [job, _] = sorted(sweep_of().glob("*_seed=*"))
    before = summary_of(job)["val/loss"]
    assert train(f"resume={job}", "trainer.max_epochs=2").status == 0
    assert summary_of(job)["val/loss"] < before
    [comparison], _ = report([sweep_of()])
    assert comparison.ensembles == []


def test_an_interrupted_fit_leaves_the_report(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lyricgen.evaluation.ensembles.join_checkpoints", interrupt)
    done = train("-m", *SMALL, "model=recurrent", "trainer.max_epochs=1", "seed=1,2")
    assert done.status == 130
    assert (sweep_of() / "report/report.html").exists()


@pytest.mark.parametrize(
    "typed",
    [
        ("seed=1,2", "cell=rnn,gru"),
        ("seed=1,2", "objective=fill", "model=recurrent"),
        ("seed=1",),
        ("seed=1,2", "model=hybrid", "memory=cache"),
        ("seed=1,2", "data.val_fraction=0", "data.test_fraction=0"),
        ("seed=1,2", "callbacks.checkpoint.enabled=false"),
    ],
)
def test_other_sweeps_have_no_ensemble(train: Train, typed: tuple[str, ...]) -> None:
    done = train("-m", *SMALL, "trainer.max_epochs=1", *typed)
    assert done.status == 0, done.err
    assert " ensemble" not in done.out
    assert "ensemble" not in summary_of(sweep_of())


def test_a_failed_job_leaves_no_ensemble(train: Train) -> None:
    done = train("-m", *SMALL, "trainer.max_epochs=1", "seed=1,-2")
    assert done.status != 0
    assert " ensemble" not in done.out


def test_an_ensemble_that_fails_is_a_warning(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no room")

    monkeypatch.setattr("lyricgen.evaluation.ensembles.join_checkpoints", fail)
    done = train("-m", *SMALL, "trainer.max_epochs=1", "seed=1,2")
    assert done.status == 0
    assert "no ensemble of the jobs: ValueError: no room" in done.out + done.err
    assert summary_of(sweep_of())["status"] == "finished"
