"""The experiments: each composes with whatever a user chooses, and reaches its figures."""

import csv
import itertools
from pathlib import Path

import pytest
import yaml

from lyricgen.config import parse
from lyricgen.train import CONFIG_DIRECTORY
from tests.conftest import Finished, Train, need_published
from tests.test_conf import RUNNING_TEXT, SAMPLERS_OF_LINES, composed, groups

EXPERIMENTS = sorted(
    str(path.relative_to(CONFIG_DIRECTORY / "experiment").with_suffix(""))
    for path in (CONFIG_DIRECTORY / "experiment").rglob("*.yaml")
)
NOTEBOOKS = [name for name in EXPERIMENTS if name.startswith("notebook/")]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_goes_with_every_cell_and_sampler(experiment: str) -> None:
    chosen = composed(f"experiment={experiment}")
    text = chosen["data"]["kind"] in RUNNING_TEXT
    samplers = [name for name in groups()["sampler"] if not (text and name in SAMPLERS_OF_LINES)]
    for cell in groups()["cell"]:
        options = parse(composed(f"experiment={experiment}", f"cell={cell}", "layers=3"))
        assert (options.cell.kind, options.layers) == (cell, 3)
    for sampler in samplers:
        one = ["data.batch_size=1"] if sampler == "lines_carried" else []
        options = parse(composed(f"experiment={experiment}", f"sampler={sampler}", *one))
        assert options.sampler.kind == str(sampler).removesuffix("_carried")
    assert parse(chosen).name != parse(composed()).name


@pytest.mark.parametrize("experiment", NOTEBOOKS)
def test_every_notebook_experiment_says_what_it_comes_from(experiment: str) -> None:
    text = (CONFIG_DIRECTORY / "experiment" / f"{experiment}.yaml").read_text("utf-8")
    comment = [line for line in text.splitlines()[1:] if line.startswith("#")]
    assert "otebook" in " ".join(comment)
    assert text.splitlines()[0] == "# @package _global_"
    assert isinstance(yaml.safe_load(text), dict)


def perplexities(run: Finished, part: str = "train") -> dict[int, float]:
    assert run.status == 0, run.err
    assert run.directory is not None
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        return {int(row["epoch"]): float(row[f"{part}/perplexity"]) for row in rows}


# Training perplexity by epoch, where several sources have printed it: the notebook or a public port
# of the same book, and an independent implementation of the same recipe.
PRINTED = {
    "lyrics_rnn_random": {10: (301.1, 298.9), 40: (103.3, 103.2), 50: (68.0, 70.04, 67.5)},
    "lyrics_rnn_consecutive": {10: (299.9,), 40: (89.6,), 50: (59.51, 58.8)},
    "lyrics_gru": {10: (300.4,), 40: (149.5, 151.4), 50: (107.6,)},
    "lyrics_lstm": {10: (300.5,), 40: (211.4, 210.8), 50: (162.4,)},
}


@pytest.mark.slow
@pytest.mark.parametrize("experiment", list(PRINTED))
def test_lyrics_train_as_in_the_notebooks(train: Train, experiment: str) -> None:
    need_published("jaychou")
    run = train(f"experiment=notebook/{experiment}", "trainer.max_epochs=50")
    assert "10,000 characters, 1,027 distinct" in run.out
    found = perplexities(run)
    for epoch, printed in PRINTED[experiment].items():
        for value in printed:
            assert found[epoch] == pytest.approx(value, rel=0.05), (epoch, value)


@pytest.mark.slow
def test_the_notebooks_memorise(train: Train) -> None:
    """Training perplexity goes to 1, and held-out perplexity past guessing among all characters."""
    need_published("jaychou")
    run = train("experiment=notebook/lyrics_honest", "cell=gru", "trainer.max_epochs=40")
    assert "20,000 characters, 1,447 distinct" in run.out
    train_part, held_out = perplexities(run), perplexities(run, "val")
    assert train_part[40] < 1.1
    assert min(held_out.values()) < 1447 < held_out[40]
    best = min(held_out, key=lambda epoch: held_out[epoch])
    rising = [held_out[epoch] for epoch in range(best, 41, 5)]
    assert all(one < other for one, other in itertools.pairwise(rising))


@pytest.mark.slow
def test_the_dinosaurs_done_well_beat_counting(train: Train) -> None:
    need_published("coursera_dino")
    run = train("experiment=dino", "data=coursera_dino")
    assert run.status == 0, run.err
    best_ngram = min(run.summary["ngram_perplexities"]["val"]["witten_bell"])
    assert run.summary["val/perplexity"] < 0.92 * best_ngram


def test_the_notebooks_page_names_every_system_and_experiment() -> None:
    page = (Path(__file__).parents[1] / "docs" / "notebooks.md").read_text("utf-8")
    for number in range(1, 19):
        assert f"| S{number} |" in page
    for experiment in NOTEBOOKS:
        assert f"experiment={experiment}" in page
