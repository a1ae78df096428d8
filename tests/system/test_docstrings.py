"""Public docstrings: every example runs as it stands, and gives the result that it shows."""

import doctest
from pathlib import Path

import pytest

import lyricgen
from tests.conftest import Train, copy_run

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
QUICK = ("hidden_size=16", "trainer.max_epochs=1", "data.max_chars=12000", "trainer=cpu")
SONGS = ("name=songs", *QUICK)
GAPS = ("name=gaps", "objective=fill", *QUICK)


def find_examples() -> list[doctest.DocTest]:
    """Docstrings with examples, of the package and of its public names."""
    whole = doctest.DocTestParser().get_doctest(lyricgen.__doc__ or "", {}, "lyricgen", None, 0)
    finder, found = doctest.DocTestFinder(), [whole]
    for name in lyricgen.__all__:
        found += finder.find(getattr(lyricgen, name), f"lyricgen.{name}", globs={})
    return [each for each in found if each.examples]


@pytest.mark.parametrize("example", find_examples(), ids=lambda one: one.name)
def test_an_example_gives_what_it_shows(
    example: doctest.DocTest, trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = lyricgen.load(copy_run(trained(*(GAPS if "fill" in example.name else SONGS))).directory)
    example.globs.update(lyricgen=lyricgen, model=model)
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    failed, tried = runner.run(example, out=printed.append)
    assert (failed, tried) == (0, len(example.examples)), "".join(printed)
