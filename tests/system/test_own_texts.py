"""docs/own_texts.md: the name of a text suffices to train on it and to write whole lines."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import own_texts
import pytest

from lyricgen import generate
from tests.conftest import ROOT, Train, run_main
from tests.helpers.documents import OWN_TEXTS, commands, shell_words, text_of

TINY = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "hidden_size=8",
    "callbacks.samples.every_n_epochs=0",
)
KINDS = 10
LINE = 50  # characters a line, at which `--lines` cuts the last one off


class Section(NamedTuple):
    """What the page says about a text."""

    train: list[str]
    generate: list[str]
    said: list[str]  # lines that the training printed
    table: str  # perplexities that it printed


def read_section(text: str) -> Section:
    """Read the commands of a section, and the lines that the first one has printed."""
    [shell, *_] = re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)
    [printed, *_] = re.findall(r"^```text\n(.*?)^```$", text, re.S | re.M)
    train, write = (shell_words(line, ROOT)[3:] for line in shell.splitlines())
    said, _, table = printed.partition("  perplexity at")
    return Section(train, write, said.splitlines(), table)


def validation_perplexities(table: str) -> tuple[float, float]:
    """Read the perplexities of the whole model and of its best n-gram model."""
    rows = [re.findall(rf"^  .*{row}  (.*)$", table, re.M) for row in (r"\d-gram", r"\(best\)")]
    whole, ngram = (float(found[0].split()[-2]) for found in rows)
    return whole, ngram


def without_numbers(line: str) -> str:
    return re.sub(r"\d[\d,.]*", "0", line)


_, *SECTIONS = re.split(r"^## ", text_of(OWN_TEXTS).partition("## See also")[0], flags=re.M)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with small copies of the texts."""
    directory = tmp_path_factory.mktemp("own")
    own_texts.write_texts(directory / "texts", small=True)
    return directory


def test_the_page_has_every_text_and_no_model_that_is_worse_than_its_ngrams(texts: Path) -> None:
    [made] = [one for one in commands(OWN_TEXTS) if "lyricgen" not in one]
    assert made == "python scripts/own_texts.py texts"
    named = [read_section(section).train for section in SECTIONS]
    assert sorted(named) == sorted([f"texts/{path.name}"] for path in (texts / "texts").iterdir())
    assert len(named) == KINDS
    for section in SECTIONS:
        whole, ngram = validation_perplexities(read_section(section).table)
        assert whole <= ngram, section


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=[one.splitlines()[0] for one in SECTIONS])
def test_a_text_is_learnt_from_its_name_alone(
    section: str,
    texts: Path,
    train: Train,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(texts)
    page = read_section(section)
    done = train(*page.train, *TINY)
    assert (done.status, done.err) == (0, "")
    printed = {without_numbers(line) for line in done.out.splitlines()}
    assert 1 <= len(page.said) <= 3  # what was read and guessed; a line of the recipe follows
    assert {without_numbers(line) for line in page.said} <= printed, done.out
    whole, ngram = validation_perplexities(done.out)
    assert whole <= ngram
    written = run_main(generate.main, capfd, *page.generate, "--count", "12", "--format", "jsonl")
    assert written.status == 0, written.err
    found = [json.loads(line) for line in written.out.splitlines()]
    assert len(found) == 12
    if "--lines" in page.generate:
        number = int(page.generate[page.generate.index("--lines") + 1])
        texts_written = [one["text"] for one in found]
        assert {len(text.splitlines()) for text in texts_written} == {number}
        assert max(map(len, texts_written)) < LINE * number  # so the last line is whole
    else:
        # so small a model seldom ends a document; it goes on to the limit
        assert sum(one["ended"] for one in found) >= 6
