"""Experiments: each composes with a user's choices and reaches its figures."""

import csv
import itertools
import os
import re
from pathlib import Path

import pytest
import yaml

from lyricgen.settings import CONFIG_DIRECTORY, list_auto
from lyricgen.training.options import parse
from tests.conftest import ROOT, Train, TrainingResult, need_published
from tests.helpers.composition import (
    RUNNING_TEXT,
    SAMPLERS_OF_LINES,
    compose_options,
    groups,
    values_of_run,
)
from tests.helpers.processes import train_with_avx2

EXPERIMENTS = sorted(
    str(path.relative_to(CONFIG_DIRECTORY / "experiment").with_suffix(""))
    for path in (CONFIG_DIRECTORY / "experiment").rglob("*.yaml")
)
NOTEBOOKS = [name for name in EXPERIMENTS if name.startswith("notebook/")]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_with_every_cell_and_sampler(experiment: str) -> None:
    chosen = compose_options(f"experiment={experiment}")
    text = chosen["data"]["kind"] in RUNNING_TEXT
    samplers = [name for name in groups()["sampler"] if not (text and name in SAMPLERS_OF_LINES)]
    cells = groups()["cell"]
    assert len(cells) >= len(samplers)
    for cell, sampler in zip(cells, itertools.cycle(samplers), strict=False):
        one = ["data.batch_size=1"] if sampler == "lines_carried" else []
        both = [f"cell={cell}", f"sampler={sampler}"]
        options = parse(compose_options(f"experiment={experiment}", *both, "layers=3", *one))
        assert (options.cell.kind, options.layers) == (str(cell).removesuffix("_plain"), 3)
        assert options.sampler.kind == str(sampler).removesuffix("_carried")
    assert parse(chosen).name != parse(compose_options()).name


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_is_without_a_recipe(experiment: str) -> None:
    values = values_of_run(f"experiment={experiment}")
    assert (values["recipe"], values["model"]["kind"]) == ("none", "recurrent")
    assert set(list_auto(values)) <= {"cell.kernel"}


@pytest.mark.parametrize("experiment", NOTEBOOKS)
def test_every_notebook_experiment_names_its_source(experiment: str) -> None:
    text = (CONFIG_DIRECTORY / "experiment" / f"{experiment}.yaml").read_text("utf-8")
    comment = [line for line in text.splitlines()[1:] if line.startswith("#")]
    assert re.search(r"[Nn]otebooks? \(?00\d|notebook 00\d", " ".join(comment))
    assert text.splitlines()[0] == "# @package _global_"
    assert isinstance(yaml.safe_load(text), dict)


# Settings for tests that read only metrics.csv.
FIGURES_ONLY = (
    "callbacks.samples.every_n_epochs=0",
    "callbacks.baseline.enabled=false",
    "callbacks.checkpoint.enabled=false",
)


def perplexities(run: TrainingResult, split: str = "train") -> dict[int, float]:
    """Perplexity by epoch, without epochs that were not validated."""
    assert run.status == 0, run.err
    assert run.directory is not None
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        rows = [(int(row["epoch"]), row[f"{split}/perplexity"]) for row in csv.DictReader(stream)]
    return {epoch: float(value) for epoch, value in rows if value}


# Training perplexity by epoch, as printed by several sources: the notebook or a public port
# of the book, and an independent implementation of the recipe.
PRINTED = {
    "lyrics_rnn_random": {10: (301.1, 298.9), 40: (103.3, 103.2), 50: (68.0, 70.04, 67.5)},
    "lyrics_rnn_consecutive": {10: (299.9,), 40: (89.6,), 50: (59.51, 58.8)},
    "lyrics_gru": {10: (300.4,), 40: (149.5, 151.4), 50: (107.6,)},
    "lyrics_lstm": {10: (300.5,), 40: (211.4, 210.8), 50: (162.4,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", list(PRINTED))
def test_lyrics_train_as_in_the_notebooks(train: Train, tmp_path: Path, experiment: str) -> None:
    need_published("jaychou")
    options = (f"experiment=notebook/{experiment}", "trainer.max_epochs=50", *FIGURES_ONLY)
    if experiment == "lyrics_rnn_consecutive":
        # float64 and AVX2: otherwise figures differ between CPUs by 5 %
        done = train_with_avx2(tmp_path, *options, "trainer.precision=64-true")
        assert done.returncode == 0, done.stderr
        [made] = tmp_path.glob("outputs/runs/*/*")
        run = TrainingResult(done.returncode, done.stdout, done.stderr, made)
    else:
        run = train(*options)
    assert "10,000 characters, 1,027 distinct" in run.out
    found = perplexities(run)
    for epoch, printed in PRINTED[experiment].items():
        for value in printed:
            assert found[epoch] == pytest.approx(value, rel=0.05), (epoch, value)


# Training perplexity at the last epoch, also for the library's cells; some minutes each.
LAST = {
    "lyrics_rnn_random": (250, (1.304, 1.309)),
    "lyrics_rnn_consecutive": (250, (1.164, 1.148)),
    "lyrics_gru": (160, (1.44, 1.91)),
    "lyrics_lstm": (160, (4.27, 4.00)),
    "lyrics_rnn_adam": (250, (1.021,)),
    "lyrics_gru_adam": (160, (1.018,)),
    "lyrics_lstm_adam": (160, (1.017,)),
}


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LYRICGEN_WHOLE_RUNS"), reason="LYRICGEN_WHOLE_RUNS=1 runs them to their end"
)
@pytest.mark.parametrize("experiment", list(LAST))
def test_lyrics_end_as_in_the_notebooks(train: Train, experiment: str) -> None:
    need_published("jaychou")
    found = perplexities(train(f"experiment=notebook/{experiment}"))
    epoch, printed = LAST[experiment]
    assert max(found) == epoch
    assert min(abs(found[epoch] / value - 1) for value in printed) < 0.15


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LYRICGEN_WHOLE_RUNS"), reason="LYRICGEN_WHOLE_RUNS=1 runs it to its end"
)
def test_two_layers_learn_the_text_by_heart(train: Train) -> None:
    need_published("jaychou")
    assert perplexities(train("experiment=notebook/lyrics_deep"))[160] < 1.1


@pytest.mark.slow
def test_lyrics_by_adam_train_as_in_the_notebooks(train: Train) -> None:
    """The fastest of three experiments; the other two are compared at their last epoch."""
    need_published("jaychou")
    options = ("trainer.max_epochs=40", *FIGURES_ONLY)
    found = perplexities(train("experiment=notebook/lyrics_gru_adam", *options))
    assert found[40] == pytest.approx(1.022, rel=0.05)


@pytest.mark.slow
def test_the_notebooks_memorise(train: Train) -> None:
    """Training perplexity falls to 1; held-out perplexity rises above that of a uniform guess."""
    need_published("jaychou")
    options = ("trainer.max_epochs=40", "trainer.check_val_every_n_epoch=5", *FIGURES_ONLY)
    run = train("experiment=notebook/lyrics_honest", "cell=gru", *options)
    assert "20,000 characters, 1,447 distinct" in run.out
    train_split, held_out = perplexities(run), perplexities(run, "val")
    assert train_split[40] < 1.1
    assert min(held_out.values()) < 1447 < held_out[40]
    best = min(held_out, key=lambda epoch: held_out[epoch])
    rising = [held_out[epoch] for epoch in range(best, 41, 5)]
    assert len(rising) > 1
    assert all(one < other for one, other in itertools.pairwise(rising))


@pytest.mark.slow
def test_the_dino_experiment_beats_ngrams(train: Train) -> None:
    need_published("coursera_dino")
    no_samples = "callbacks.samples.every_n_epochs=0"
    run = train("experiment=dino", "data=coursera_dino", no_samples)
    assert run.status == 0, run.err
    counted = run.summary["ngram_perplexities"]
    for split, nats in (("val", 1.61), ("test", 1.60)):  # reached: 1.588 and 1.575
        assert run.summary[f"{split}/loss"] < nats
        assert run.summary[f"{split}/perplexity"] < 0.9 * counted[split]["witten_bell"][4]


def test_the_notebooks_page_names_every_system_and_experiment() -> None:
    page = (ROOT / "docs" / "notebooks.md").read_text("utf-8")
    for number in range(1, 19):
        assert f"| S{number} |" in page
    for experiment in NOTEBOOKS:
        assert f"experiment={experiment}" in page
