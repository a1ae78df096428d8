"""Reports, `evaluate` and sweeps distinguish texts by their digests."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lyricgen.errors import UserError
from lyricgen.evaluation.scores import open_checkpoints
from lyricgen.reporting.comparison import Comparison, compare
from lyricgen.reporting.missing_jobs import with_missing_jobs
from lyricgen.reporting.records import read
from lyricgen.reporting.tables import notes
from lyricgen.runs.run import Run
from lyricgen.runs.summary import RunSummary
from tests.conftest import SMALL, Train, summary_of

ONE, TWO = "1" * 64, "2" * 64


def comparisons_by_name(*directories: Path) -> dict[str, Comparison]:
    found = compare(with_missing_jobs(read(directories)), (), ("seed",), None)
    assert len({comparison.name for comparison in found}) == len(found)
    return {comparison.name: comparison for comparison in found}


def write(directory: Path, digest: str | None, seed: int = 1, **more: Any) -> Path:
    """Write a finished run; `more` are options of its text or entries of its summary."""
    data = {"kind": "text", "path": "song.txt", "val_fraction": 0.1, "max_chars": None}
    data |= {key: more.pop(key) for key in list(more) if key in data}
    options = {"seed": seed, "name": "x", "objective": "next", "data": data}
    summary = {"status": "finished", "options": options, "val/perplexity": 5.0} | more
    if digest is not None:
        summary["corpus_digest"] = digest
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text(json.dumps(summary), "utf-8")
    return directory


def test_each_text_has_its_own_table(tmp_path: Path) -> None:
    write(tmp_path / "a", ONE, seed=1)
    write(tmp_path / "b", TWO, seed=1)
    write(tmp_path / "c", ONE, seed=2, path="/elsewhere/song.txt", max_chars=10**6)
    found = comparisons_by_name(tmp_path)
    assert found.keys() == {"song.txt, text 11111111", "song.txt, text 22222222"}
    one = found["song.txt, text 11111111"]
    assert [len(group.scored) for group in one.groups] == [2]
    assert one.keys == ("name",)  # the name of the text makes no column
    assert not any("digest" in line for line in notes(one))
    # the same text with another split has its own table
    write(tmp_path / "d", ONE, val_fraction=0.2)
    assert len(comparisons_by_name(tmp_path)) == 3


def test_a_text_of_several_files_is_named_by_the_first(tmp_path: Path) -> None:
    write(tmp_path / "a", ONE, path=["songs/a, b.txt", "c.txt", "d.txt"])
    write(tmp_path / "b", TWO, path="songs")
    assert comparisons_by_name(tmp_path).keys() == {"a, b.txt and 2 more", "songs"}


def test_texts_with_different_paths_are_named_by_them(tmp_path: Path) -> None:
    write(tmp_path / "a", ONE, path="a/song.txt")
    write(tmp_path / "b", TWO, path="b/song.txt")
    write(tmp_path / "c", "3" * 64, path="other.txt")
    assert comparisons_by_name(tmp_path).keys() == {
        "song.txt, data.path=a/song.txt", "song.txt, data.path=b/song.txt", "other.txt",
    }  # fmt: skip


def test_old_runs_without_a_digest_have_their_own_table(tmp_path: Path) -> None:
    write(tmp_path / "new", ONE)
    write(tmp_path / "old", None)
    found = comparisons_by_name(tmp_path)
    assert found.keys() == {"song.txt, text 11111111", "song.txt, text without a digest"}
    shown = notes(found["song.txt, text without a digest"])
    assert shown == ["runs of an earlier version, without the digest of their text: it may differ"]


def test_jobs_without_a_digest_are_in_the_table_of_their_sweep(tmp_path: Path) -> None:
    failed = {"status": "failed", "val/perplexity": None}
    for sweep, digest in (("first", ONE), ("second", TWO)):
        write(tmp_path / sweep / "0_seed=1", digest, seed=1, job=0)
        write(tmp_path / sweep / "1_seed=2", None, seed=2, job=1, **failed)
    write(tmp_path / "elsewhere", None, seed=3, started="2027", **failed)
    found = comparisons_by_name(tmp_path)
    numbers = {name: len(one.records) for name, one in found.items()}
    assert sorted(numbers.values()) == [2, 3]
    for one in found.values():
        assert len({run.sweep for run in one.records if run.sweep is not None}) == 1


def test_a_job_with_another_text_than_its_sweep_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "0_seed=1", ONE)
    options = summary_of(first)["options"]
    other = options | {"seed": 2}
    job = Run(tmp_path / "1_seed=2", tmp_path)
    job.check_text(other, ONE)
    Run(first, tmp_path).check_text(options, TWO)  # a job is not compared with its own summary
    with pytest.raises(UserError, match="data=text: the text is not the one that job 0_seed=1 has"):
        job.check_text(other, TWO)
    # jobs with other settings of the text, no digest or a damaged summary are not compared
    Run(tmp_path / "1_", tmp_path).check_text(other | {"data": {"kind": "dino"}}, TWO)
    (first / "summary.json").write_text("{")
    job.check_text(other, TWO)


def test_a_resumed_run_keeps_its_digest(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.corpus_digest = ONE
    run.begin({"seed": 1})
    assert summary_of(tmp_path)["corpus_digest"] == ONE
    Run(tmp_path).begin({"seed": 1}, RunSummary.read(tmp_path))
    assert summary_of(tmp_path)["corpus_digest"] == ONE


SONGS = {"a": "the rain in spain stays mainly in the plain\n", "b": "a bad dog and a cab\n"}


@pytest.mark.slow
def test_two_files_with_the_same_name_are_two_texts(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_OUTPUTS", str(tmp_path / "outputs"))
    runs = []
    for place, seed in (("a", 1), ("b", 1), ("a", 2)):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "song.txt").write_text(SONGS[place] * 40)
        monkeypatch.chdir(tmp_path / place)
        text = ("data=text", "data.path=song.txt", f"seed={seed}", "trainer.max_epochs=1")
        done = train(*SMALL, *text)
        assert done.status == 0, done.err
        assert done.directory is not None
        runs.append(done.directory)
    found = comparisons_by_name(tmp_path / "outputs")
    assert sorted(len(one.records) for one in found.values()) == [1, 2]
    digests = [summary_of(run)["corpus_digest"] for run in runs]
    assert digests[0] == digests[2] != digests[1]
    with pytest.raises(UserError, match="another text than the first checkpoint"):
        open_checkpoints(runs[:2])
    # the same text with another name is accepted
    monkeypatch.chdir(tmp_path)
    shutil.copy("a/song.txt", "copy.txt")
    done = train(*SMALL, "data=text", "data.path=copy.txt", "trainer.max_epochs=1")
    assert done.directory is not None
    assert len(open_checkpoints([done.directory, runs[0]])) == 2
