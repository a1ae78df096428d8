"""The text of a training is found after the run or the text has moved."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lyricgen.data import cache
from lyricgen.data.build import build_corpus, find_corpus
from lyricgen.data.options import DataOptions
from lyricgen.errors import UserError
from lyricgen.evaluate import main
from lyricgen.models.checkpoint import load
from lyricgen.runs.summary import read_summary
from lyricgen.settings import CONFIG_DIRECTORY, plain_settings, replace_auto
from lyricgen.training.options import parse
from tests.conftest import SMALL, Train, run_main

TEXT = "一 song with a line\nand another 行\n" * 40
RUN = Path("outputs/runs/2026-01-01/10-00-00.000000_x")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of a project with its text in a folder; the current directory differs."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "texts").mkdir(parents=True)
    (home / "texts" / "song.txt").write_text(TEXT, "utf-8")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))
    return home


def options(path: str | Path) -> DataOptions:
    values: dict[str, Any] = {}
    for name in ("base", "text"):
        values |= yaml.safe_load((CONFIG_DIRECTORY / "data" / f"{name}.yaml").read_text("utf-8"))
    values = {name: value for name, value in values.items() if name in DataOptions.model_fields}
    filled = replace_auto({"data": values}, plain_settings())
    return DataOptions.model_validate(filled["data"] | {"path": str(path)})


def checkpoint_in(place: Path) -> Path:
    checkpoint = place / RUN / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    return checkpoint


def test_text_is_found_around_the_checkpoint(home: Path) -> None:
    digest = build_corpus(options(home / "texts/song.txt")).digest
    checkpoint = checkpoint_in(home)
    Path("texts").mkdir()
    Path("texts/song.txt").write_text("another text of this name\n" * 40)
    assert find_corpus(options("texts/song.txt"), digest, checkpoint).digest == digest
    # without a digest only the path is known
    assert find_corpus(options("texts/song.txt"), None, checkpoint).digest != digest


def test_text_is_found_where_the_run_was_started(home: Path, tmp_path: Path) -> None:
    digest = build_corpus(options(home / "texts/song.txt")).digest
    checkpoint = checkpoint_in(tmp_path / "far")
    record = checkpoint.parents[1] / ".hydra" / "hydra.yaml"
    record.parent.mkdir()
    record.write_text(f"hydra:\n  runtime:\n    cwd: {home}\n")
    assert find_corpus(options("texts/song.txt"), digest, checkpoint).digest == digest
    record.write_text("[" * 1000)  # damaged
    with pytest.raises(UserError, match="also looked"):
        find_corpus(options("texts/song.txt"), digest, checkpoint)


def test_text_is_found_in_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LARGE", 100)
    monkeypatch.setattr(cache, "LARGE_PACKED", 100)
    text = home / "texts/song.txt"
    found = build_corpus(options(text))
    assert found.mapping is not None
    text.unlink()
    for path in ("texts/song.txt", text):  # a relative and an absolute one
        cached = find_corpus(options(path), found.digest, None)
        assert (cached.digest, cached.vocabulary) == (found.digest, found.vocabulary)
        assert cached.ids.equal(found.ids)
    with pytest.raises(UserError, match="in the cache"):
        find_corpus(options(text), "0" * 64, None)


def test_missing_text_error_lists_the_places_searched(home: Path) -> None:
    checkpoint = checkpoint_in(home)
    with pytest.raises(UserError) as caught:
        find_corpus(options("gone.txt"), "0" * 64, checkpoint)
    for place in ("'gone.txt'", repr(str(home)), repr(str(home.parent)), "in the cache"):
        assert place in str(caught.value)


def test_missing_text_error_of_a_new_run_lists_no_other_places(home: Path) -> None:
    with pytest.raises(UserError, match="gone") as caught:
        find_corpus(options("gone.txt"), None, None)
    assert "also looked" not in str(caught.value)
    with pytest.raises(UserError, match="also looked for it from") as caught:
        find_corpus(options("gone.txt"), None, checkpoint_in(home))
    assert "cache" not in str(caught.value)


def test_a_moved_run_is_evaluated_and_resumed(
    home: Path, train: Train, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    shutil.copy("texts/song.txt", "song.txt")
    done = train(*SMALL, "data=text", "data.path=song.txt")
    assert done.directory is not None, done.err
    moved = home.rename(home.with_name("moved"))
    monkeypatch.chdir(moved.parent)
    directory = moved / done.directory.relative_to(home)
    found = run_main(main, capfd, directory, "--resamples", "100")
    assert found.status == 0, found.err
    resumed = train(f"resume={directory}", "trainer.max_epochs=3")
    assert resumed.status == 0, resumed.err
    assert parse(load(directory).options).data.path == "song.txt"


@pytest.mark.parametrize("ended", ["killed", "counted"])
def test_a_run_without_a_checkpoint_resumes_with_its_own_text(
    home: Path, train: Train, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    monkeypatch.chdir(home)
    shutil.copy("texts/song.txt", "song.txt")
    model = ("model=ngram",) if ended == "counted" else SMALL
    done = train(*model, "data=text", "data.path=song.txt")
    assert done.directory is not None, done.err
    before = read_summary(done.directory)
    before.status = "killed"
    before.write(done.directory)
    if ended == "killed":
        shutil.rmtree(done.directory / "checkpoints")
    elsewhere = home.with_name("elsewhere")
    monkeypatch.chdir(elsewhere)
    Path("song.txt").write_text("another text of this name\n" * 40)
    resumed = train(f"resume={done.directory}")
    assert resumed.status == 0, resumed.err
    after = read_summary(done.directory)
    assert (after.status, after.corpus_digest) == ("finished", before.corpus_digest)
    assert after.metrics["val/perplexity"] == before.metrics["val/perplexity"]
