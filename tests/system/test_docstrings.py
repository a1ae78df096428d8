"""Public docstrings: every example runs as it stands, and gives the result that it shows."""

import doctest
import shutil
from pathlib import Path

import numpy
import pytest

import lyricgen
from tests.helpers.small_training import train_small

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SMALL = (
    *("trainer=cpu", "trainer.max_epochs=1", "hidden_size=16"),
    *("data.max_chars=12000", "data.batch_size=32", "data.num_steps=20"),
)


def find_examples() -> list[doctest.DocTest]:
    """Docstrings with examples, of the package and of its public names."""
    whole = doctest.DocTestParser().get_doctest(lyricgen.__doc__ or "", {}, "lyricgen", None, 0)
    finder, found = doctest.DocTestFinder(), [whole]
    for name in lyricgen.__all__:
        found += finder.find(getattr(lyricgen, name), f"lyricgen.{name}", globs={})
    return [each for each in found if each.examples]


def run_example(example: doctest.DocTest) -> str:
    """Run an example; return what it should not have printed."""
    printed: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(example, out=printed.append)
    return "".join(printed)


def test_every_public_function_has_an_example() -> None:
    """So have the classes but `Sweep`, which `fit_sweep` shows, and `Error`."""
    shown = {example.name.removeprefix("lyricgen.") for example in find_examples()}
    functions = {"fit", "fit_sweep", "resume", "find_runs", "load", "Run", "Run.plot"}
    of_runs = {f"Runs.{name}" for name in ("table", "plot")}
    of_models = ("generate", "generate_many", "fill", "fill_many", "score", "next_characters")
    methods = {f"TrainedModel.{name}" for name in (*of_models, "evaluate")}
    assert functions | of_runs | methods <= {
        one.replace("WritingModel", "TrainedModel") for one in shown
    }


@pytest.mark.slow
def test_every_example_gives_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("trained", "work"):
        (tmp_path / place).mkdir()
    monkeypatch.chdir(tmp_path / "trained")
    gaps = lyricgen.fit(*SMALL, objective="fill", name="gaps").model()
    cells = {"cell": ["rnn", "gru"], "layers": [1, 2], "seed": [1, 2]}
    sweep = lyricgen.fit_sweep(cells, *SMALL, data="dino")
    songs, _ = (lyricgen.fit(*SMALL, name="songs", seed=seed) for seed in (1, 2))
    names = {"numpy": numpy, "lyricgen": lyricgen, "run": songs, "runs": sweep}
    train_small(monkeypatch, SMALL)
    monkeypatch.chdir(tmp_path / "work")
    Path("my_text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 50, "utf-8")
    failures = ""
    for example in find_examples():
        shutil.copytree(tmp_path / "trained" / "outputs", "outputs", dirs_exist_ok=True)
        model = gaps if "fill" in example.name else songs.model()
        example.globs.update(names, model=model)
        failures += run_example(example)
        shutil.rmtree("outputs")
    assert not failures, failures
