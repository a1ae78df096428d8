"""Files, folders, patterns and standard input are named on the command line of train."""

import csv
import hashlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lyricgen import evaluate
from lyricgen.cli.typed_arguments import expand
from lyricgen.data import cached_files
from lyricgen.errors import UserError
from lyricgen.models.checkpoint import load
from lyricgen.runs.newest import tell_taken
from tests.conftest import SMALL, Train, run_main, sweep_of
from tests.helpers.composition import values_of_run

SONG = "想要有直升机\n想要和你飞到宇宙去\n想要和你融化在一起\n" * 20


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with files of unusual names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))
    for name in ("my.txt", "歌 (1), 词.txt", "a=b.txt", 'it\'s "x".txt', "songs/a.txt", "[1].txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(SONG, "utf-8")
    return tmp_path


def send(monkeypatch: pytest.MonkeyPatch, content: bytes, *, terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdin", stream)


def data_of(*arguments: str) -> tuple[str, Any]:
    """The kind and the path of the text that arguments of train choose."""
    data = values_of_run(*expand(list(arguments)))["data"]
    return data["kind"], data["path"]


@pytest.mark.parametrize("mode", [[], ["-m"]])
@pytest.mark.parametrize(
    "words",
    [
        *(["my.txt"], ["歌 (1), 词.txt"], ["a=b.txt"], ['it\'s "x".txt'], ["songs"], ["songs/"]),
        *(["[1].txt"], ["*.txt"], ["songs/*.t?t"], ["./my.txt"], ["[m]y.txt"]),
        ["my.txt", "歌 (1), 词.txt", "a=b.txt", 'it\'s "x".txt', "songs", "[1].txt"],
    ],
)
def test_words_that_name_files_choose_them_as_the_text(words: list[str], mode: list[str]) -> None:
    path = str(Path(words[0])) if len(words) == 1 else words
    assert data_of(*words) == ("text", path)
    assert data_of("layers=2", *words, "hidden_size=8") == ("text", path)
    expanded = expand([*mode, *words, "seed=3"])
    assert [one for one in expanded if one.startswith("-")] == mode
    assert values_of_run(*(one for one in expanded if one not in mode))["data"]["path"] == path
    # the arguments that a run records are read again
    assert expand(expanded) == expanded


@settings(deadline=None, max_examples=12)
@given(name=st.text("aZ歌(~=#'\"[]{}:;!&é 1_e+-.\\$|*?@%,", min_size=1, max_size=20))
def test_any_name_of_a_file_is_taken_as_it_is(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("names") / name
    if name not in (".", ".."):
        path.touch()
        assert data_of(str(path)) == ("text", str(path))
        assert data_of(str(path), "my.txt") == ("text", [str(path), "my.txt"])


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "songs"))
    assert data_of("~/a.txt", "my.txt") == ("text", [str(tmp_path / "songs/a.txt"), "my.txt"])


def test_a_path_alone_chooses_a_text_unless_data_is_chosen(tmp_path: Path) -> None:
    assert data_of("data.path=my.txt") == ("text", "my.txt")
    assert data_of("+data.path=my.txt", "experiment=textbook") == ("text", "my.txt")
    assert data_of("data.path=[my.txt,songs]") == ("text", ["my.txt", "songs"])
    assert data_of("data.path=null") == ("lyrics", None)
    assert data_of("data=dino", "data.path=my.txt") == ("dino", "my.txt")
    assert data_of("data.path=my.txt", "experiment=dino") == ("dino", "my.txt")
    assert data_of("my.txt", "experiment=dino") == ("text", "my.txt")
    assert "data=text" not in expand(["-m", "data.path=my.txt", "experiment=textbook,dino"])
    own = tmp_path / "conf/experiment/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("# @package _global_\ndefaults:\n  - override /data: jaychou\n")
    mine = ["--config-dir", str(tmp_path / "conf"), "experiment=mine"]
    assert "data=text" not in expand(["data.path=my.txt", *mine])
    assert "data=text" in expand(["my.txt", *mine])


def test_settings_and_options_are_no_texts() -> None:
    for name in ("layers=2", "data=lyrics", "hydra.verbose=true", "lyrics", "~optimizer.lr"):
        Path(name).touch()
    for word in ("layers=2", "data=lyrics", "hydra.verbose=true", "~optimizer.lr"):
        if word != "~optimizer.lr":
            assert expand([word]) == [word]
    assert expand(["--cfg", "job"]) == ["--cfg", "job"]
    assert data_of("lyrics") == ("text", "lyrics")


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("mi.txt", "did you mean my.txt?"),
        ("songs/b.txt", "did you mean songs/a.txt?"),
        ("songs.txt", "did you mean songs?"),
        ("song", "did you mean songs?"),
        ("gru_scrach", "did you mean cell=gru_scratch?"),
        ("trainer.max_epoch", "did you mean trainer.max_epochs?"),
        ("no/such/file.txt", "settings are typed as NAME=VALUE"),
        ("x\0y", "no such file"),
        ("y" * 5000, "no such file"),
        ("*.md", "no such file"),
    ],
)
def test_a_word_that_is_no_file_gets_one_line(word: str, shown: str) -> None:
    with pytest.raises(UserError) as caught:
        expand(["layers=2", word])
    message = str(caught.value)
    assert message.startswith(f"{word}: no such file; ")
    assert shown in message


def test_texts_named_twice_are_refused() -> None:
    with pytest.raises(UserError, match=r"my.txt and data.path=songs both name a text"):
        expand(["my.txt", "data.path=songs"])


NAMES = {
    "my.txt": "my",
    "歌 (1), 词.txt": "歌_1_词",
    "a=b.txt": "a_b",
    "songs": "songs",
    "songs/": "songs",
    "songs/*.txt": "songs",
    "v1.2.txt.gz": "v1.2",
    "..": None,
    "-- --.txt": "text",
    "x" * 90 + ".txt": "x" * 40,
    "${x}.txt": "x",
}


@pytest.mark.parametrize("path", NAMES)
def test_a_run_is_named_after_its_file(path: str, tmp_path: Path) -> None:
    if "*" not in path:
        Path(path).touch()
    expected = NAMES[path] or tmp_path.parent.name
    words = ["recipe=none", "layers=2", "hidden_size=8", str(Path("./", path))]
    assert values_of_run(*expand(words))["name"] == f"{expected[:40]}_lstm_2x8"
    several = values_of_run(*expand([*words, "my.txt", "a=b.txt"]))["name"]
    if path not in ("my.txt", "a=b.txt"):
        assert several == f"{expected[:40]}+2_lstm_2x8"
    counting = values_of_run(*expand([*words, "model=ngram"]))["name"]
    assert counting.startswith(f"{expected[:40]}_5-gram")
    assert values_of_run(*expand([*words, "name=mine"]))["name"] == "mine"


def test_standard_input_is_kept_once_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digest = hashlib.sha256(SONG.encode()).hexdigest()
    kept = tmp_path / "cache/stdin" / digest / "stdin.txt"
    for words in (["-"], ["data.path=-"], ["-"]):
        send(monkeypatch, SONG.encode())
        assert data_of(*words) == ("text", str(kept))
        assert kept.read_text("utf-8") == SONG
    assert [path for path in (tmp_path / "cache/stdin").rglob("*") if path.is_file()] == [kept]
    kept.write_text("damaged")
    send(monkeypatch, SONG.encode())
    assert data_of("-", "my.txt") == ("text", [str(kept), "my.txt"])
    assert kept.read_text("utf-8") == SONG
    assert values_of_run(*expand(["data.path=" + str(kept)]))["name"].startswith("stdin_")


@pytest.mark.parametrize(
    ("content", "terminal", "arguments", "shown"),
    [
        (b"", False, [], "standard input is empty"),
        (b"text", True, [], "standard input is a terminal"),
        (b"t" * 11, False, ["data.max_bytes=10"], "more than the 10 bytes allowed"),
    ],
)
def test_standard_input_that_is_no_text_is_refused_and_not_kept(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: bytes,
    terminal: bool,
    arguments: list[str],
    shown: str,
) -> None:
    send(monkeypatch, content, terminal=terminal)
    with pytest.raises(UserError, match=shown):
        expand(["-", *arguments])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="closed"):
        expand(["-"])
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_cache_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("file").touch()
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "file"))
    send(monkeypatch, b"text")
    with pytest.raises(UserError, match="set LYRICGEN_DATA to another directory"):
        expand(["-"])
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))

    def fail(stream: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cached_files, "to_disk", fail)
    send(monkeypatch, b"text")
    with pytest.raises(UserError, match="No space left"):
        expand(["-"])
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_binary_standard_input_is_refused_in_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(monkeypatch, b"\x89PNG\r\n\x1a\n" + bytes(99))
    done = train(*SMALL, "-")
    assert done.status == 2
    [line] = done.err.splitlines()
    assert "is a picture, no plain text" in line


def write_table(path: str) -> None:
    with Path(path).open("w", newline="", encoding="utf-8-sig") as stream:
        rows = [[number, SONG[: 40 + number]] for number in range(20)]
        csv.writer(stream).writerows([["id", "lyrics"], *rows, ["20", ""]])


@pytest.mark.parametrize("source", ["folder", "list", "pattern", "standard input", "table", "json"])
def test_a_run_is_resumed_and_evaluated_with_its_text(
    train: Train,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
) -> None:
    write_table("t.csv")
    records = [{"song": {"text": SONG[: 40 + number]}} for number in range(20)]
    Path("t.json").write_text(json.dumps(records))
    send(monkeypatch, SONG.encode())
    words = {
        "folder": ["songs"],
        "list": ["my.txt", "a=b.txt", "songs"],
        "pattern": ["songs/*.txt"],
        "standard input": ["-"],
        "table": ["t.csv", "data.column=lyrics", "data.unit=line"],
        "json": ["data.path=t.json", "data.key=song.text"],
    }[source]
    Path("project").mkdir()
    for name in ("songs", "my.txt", "a=b.txt", "t.csv", "t.json"):
        shutil.move(name, Path("project", name))
    monkeypatch.chdir("project")
    done = train(*SMALL, *words, "trainer.max_epochs=1")
    assert (done.status, done.err) == (0, "")
    assert done.directory is not None
    said = [
        line for line in done.out.splitlines() if ": read " in line and ": read as " not in line
    ]
    assert len(said) == (source in ("list", "table", "json"))
    if source == "table":
        assert said == ["t.csv: read 20 texts of data.column=lyrics; left out 1 empty row"]
    # moved, and resumed elsewhere
    moved = tmp_path / "moved"
    (tmp_path / "project").rename(moved)
    monkeypatch.chdir(tmp_path)
    directory = moved / done.directory.relative_to(tmp_path / "project")
    found = run_main(evaluate.main, capfd, directory, "--resamples", "100")
    assert found.status == 0, found.err
    resumed = train(f"resume={directory}", "trainer.max_epochs=2")
    assert resumed.status == 0, resumed.err
    recorded = load(directory / "checkpoints/best.ckpt").options["data"]["path"]
    assert recorded == (["my.txt", "a=b.txt", "songs"] if source == "list" else recorded)
    capfd.readouterr()
    tell_taken(directory)
    names = {"list": "on my.txt and 2 more", "folder": "on songs", "table": "on t.csv"}
    assert names.get(source, " on ") in capfd.readouterr().err


def test_a_resumed_run_may_name_its_text_anew(train: Train) -> None:
    done = train(*SMALL, "my.txt", "trainer.max_epochs=1")
    assert done.status == 0, done.err
    Path("my.txt").rename("moved, 歌.txt")
    more = train("resume=latest", "moved, 歌.txt", "trainer.max_epochs=2")
    assert more.status == 0, more.err
    assert done.summary["options"]["data"]["path"] == "moved, 歌.txt"
    Path("songs/a.txt").write_text("another text " * 99)
    refused = train("resume=latest", "songs", "trainer.max_epochs=3")
    assert refused.status == 2
    assert "is not the text that the run has read so far" in refused.err


@pytest.mark.slow
def test_a_sweep_over_one_text_and_over_several(train: Train) -> None:
    done = train("-m", *SMALL, "歌 (1), 词.txt", "my.txt", "hidden_size=8,16")
    assert done.status == 0, done.err
    configs = [
        yaml.safe_load(path.read_text("utf-8"))
        for path in sorted(sweep_of().glob("*/.hydra/config.yaml"))
    ]
    assert [each["hidden_size"] for each in configs] == [8, 16]
    assert all(each["data"]["path"] == ["歌 (1), 词.txt", "my.txt"] for each in configs)
    resumed = train(f"resume={sweep_of()}")
    assert resumed.status == 0, resumed.err
    shutil.rmtree("outputs")
    done = train("-m", *SMALL, "data.path=my.txt,[songs,a=b.txt]")
    assert done.status == 0, done.err
    paths = [
        yaml.safe_load(path.read_text("utf-8"))["data"]["path"]
        for path in sorted(sweep_of().glob("*/.hydra/config.yaml"))
    ]
    assert paths == ["my.txt", ["songs", "a=b.txt"]]


def test_a_file_of_the_text_in_another_place_is_found(train: Train, tmp_path: Path) -> None:
    done = train(*SMALL, str(tmp_path / "my.txt"), os.curdir + "/songs")
    assert done.status == 0, done.err
    assert done.directory is not None
    assert "_my+1_lstm_1x16" in done.directory.name
