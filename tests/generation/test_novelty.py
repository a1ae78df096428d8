"""New names: none is a training name, and none comes twice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import lyricgen
from lyricgen.api.models import WritingModel
from lyricgen.errors import UserError
from lyricgen.generation.training_text import training_names
from lyricgen.generation.writer import TRIES
from lyricgen.settings import plain_settings
from tests.conftest import ROOT
from tests.helpers.constraints import random_model
from tests.helpers.generating import train_run as train

KNOWN = ["a", "b", "ab", "ba"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{name}\n" for name in KNOWN), "utf-8")
    return path


def writer_of(corpus: Path, probabilities: list[float], **changed: Any) -> WritingModel:
    """A model of \\n, a and b that gives each a fixed probability."""
    base = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/data/base.yaml"))
    assert isinstance(base, dict)
    options = {
        **base,
        **plain_settings()["data"],
        "kind": "text",
        "path": str(corpus),
        "unit": "line",
    }
    options |= {"val_fraction": 0.0, "test_fraction": 0.0, **changed}
    model = random_model("\nab", "lines", options={"data": options})
    with torch.no_grad():
        model.network.output.weight.zero_()
        model.network.output.bias.copy_(torch.tensor(probabilities).log())
    return model


def test_all_names_are_new_and_different(corpus: Path) -> None:
    model = writer_of(corpus, [0.4, 0.3, 0.3])
    plain = model.generate_many([""], count=100, temperature=1.0)
    assert set(plain) & set(KNOWN)
    assert len(set(plain)) < 100
    names = model.generate_many([""], count=100, temperature=1.0, novel=True)
    assert len(set(names)) == 100
    assert not set(names) & {*KNOWN, ""}
    assert {char for name in names for char in name} == {"a", "b"}


def test_new_names_depend_only_on_the_seed(corpus: Path) -> None:
    model = writer_of(corpus, [0.4, 0.3, 0.3])
    names = model.generate_many([""], count=30, temperature=1.0, novel=True, seed=5)
    assert names == model.generate_many([""], count=30, temperature=1.0, novel=True, seed=5)
    assert names[:7] == model.generate_many([""], count=7, temperature=1.0, novel=True, seed=5)
    assert names != model.generate_many([""], count=30, temperature=1.0, novel=True, seed=6)


def test_the_next_draw_replaces_a_known_name(corpus: Path) -> None:
    model = writer_of(corpus, [0.5, 0.25, 0.25])
    drawn = model.generate_many(["a"], count=20 * TRIES, temperature=1.0, seed=5)
    expected = [name for name in dict.fromkeys(drawn) if name not in KNOWN]
    names = model.generate_many(["a"], count=20, temperature=1.0, novel=True, seed=5)
    assert names == expected[:20]
    assert drawn[:20] != names


def test_several_prefixes_share_no_name(corpus: Path) -> None:
    model = writer_of(corpus, [0.5, 0.25, 0.25])
    names = model.generate_many(["", "a", "aa"], count=12, temperature=1.0, novel=True)
    assert len(set(names)) == 36
    assert all(name.startswith("a") for name in names[12:])
    assert all(name.startswith("aa") for name in names[24:])


def test_too_few_new_names_are_an_error(corpus: Path) -> None:
    model = writer_of(corpus, [0.4, 0.3, 0.3])
    # there are six names of at most two letters, four of them known
    options = {"count": 2, "max_length": 2, "temperature": 1.0, "novel": True}
    assert sorted(model.generate_many([""], **options)) == ["aa", "bb"]
    with pytest.raises(UserError, match=rf"2 of 3 new names in {3 * TRIES} draws: ask for fewer"):
        model.generate_many([""], **options | {"count": 3})
    with pytest.raises(UserError, match="0 of 1 new names that begin with 'ba' in 20 draws"):
        model.generate_many(["aa", "ba"], **options | {"count": 1})


def test_a_cut_name_does_not_count(corpus: Path) -> None:
    model = writer_of(corpus, [0.4, 0.3, 0.3])
    options = {"temperature": 1.0, "novel": True}
    found = model.generate_many([""], count=4, length=4, **options)
    assert {len(name) for name in found} <= {2, 3}
    never = writer_of(corpus, [0.0, 0.5, 0.5])
    with pytest.raises(UserError, match="raise --length, which has cut 20 of the draws"):
        never.generate_many([""], count=1, length=9, **options)


def test_only_training_names_are_known(corpus: Path) -> None:
    model = writer_of(corpus, [0.4, 0.3, 0.3], val_fraction=0.25, test_fraction=0.25)
    learnt = training_names(model)
    assert len(learnt) == 2
    assert learnt < set(KNOWN)
    found = model.generate_many([""], count=4, max_length=2, temperature=1.0, novel=True, seed=2)
    assert set(found) == {"aa", "bb", *KNOWN} - learnt


def test_a_missing_or_changed_corpus_is_refused(corpus: Path) -> None:
    model = writer_of(corpus, [0.4, 0.3, 0.3])
    corpus.write_text("a\nc\n", "utf-8")
    with pytest.raises(UserError, match="has others now: bring that text back"):
        model.generate(novel=True)
    corpus.unlink()
    with pytest.raises(
        UserError, match="--novel needs the names that the model has learnt: "
    ) as no:
        model.generate(novel=True)
    assert str(corpus) in str(no.value)
    assert "\n" not in str(no.value)


def test_other_names_of_the_same_characters_are_refused(tmp_path: Path) -> None:
    """The digest of the corpus in the checkpoint shows that the names have changed."""
    names = tmp_path / "names.txt"
    letters = np.random.default_rng(0).integers(97, 100, (120, 5)).astype("<u4")
    lines = letters.view("<U5").ravel().tolist()
    names.write_text("\n".join(lines) + "\n", "utf-8")
    run = train(tmp_path, "data=text", "data.unit=line", f"data.path={names}", "sampler=lines")
    model = lyricgen.load(run)
    assert set(training_names(model)) < set(lines)
    names.write_text("\n".join(line[::-1] for line in lines) + "\n", "utf-8")
    with pytest.raises(UserError, match="has others now"):
        training_names(model)


def test_names_of_a_run(tmp_path: Path) -> None:
    """The options of a real checkpoint lead back to its training split."""
    run = train(tmp_path, "data=dino", "trainer.max_epochs=2")
    learnt = training_names(lyricgen.load(run))
    text = (ROOT / "src/lyricgen/data/corpora/dino.txt").read_text("utf-8").lower()
    lines = set(text[:1500].split("\n"))
    assert learnt <= lines
    assert 0.75 * len(lines) < len(learnt) < 0.85 * len(lines)
