"""The bundled texts hold the promises of the README beside them."""

import os
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lyricgen.data.build import build_corpus
from lyricgen.data.preparation import Corpus
from lyricgen.data.text_files import corpus_path
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.training.options import parse


def corpus(*overrides: str) -> Corpus:
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    options = parse(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    built = build_corpus(options.data)
    return Corpus(built.name, built.unit, built.vocabulary.decode(built.ids))


@pytest.fixture(scope="module")
def lyrics() -> Corpus:
    return corpus()  # the default


@pytest.fixture(scope="module")
def dino() -> Corpus:
    return corpus("data=dino")


def songs_of(text: str) -> list[list[str]]:
    return [song.split("\n") for song in text.strip("\n").split("\n\n")]


def longest_repeat(lines: list[str]) -> int:
    """Length of the longest block of lines that returns later in the song without overlap."""
    longest = 0
    for first in range(len(lines)):
        for second in range(first + 1, len(lines)):
            length = 0
            while (
                second + length < len(lines)
                and first + length < second
                and lines[first + length] == lines[second + length]
            ):
                length += 1
            longest = max(longest, length)
    return longest


def test_lyrics_are_large_enough(lyrics: Corpus) -> None:
    assert lyrics.unit == "text"
    assert len(lyrics.text) >= 15_000
    assert len(set(lyrics.text)) >= 1_000
    assert len(songs_of(lyrics.text)) >= 60


def test_songs_are_separated_by_single_blank_lines(lyrics: Corpus) -> None:
    assert "\n\n\n" not in lyrics.text
    lines = lyrics.text.split("\n")
    assert all(line == line.strip() for line in lines)
    songs = songs_of(lyrics.text)
    assert min(len(song) for song in songs) >= 8
    assert len({tuple(song) for song in songs}) == len(songs)


def test_choruses_repeat_within_songs(lyrics: Corpus) -> None:
    returns = [longest_repeat(song) for song in songs_of(lyrics.text)]
    assert min(returns) >= 2
    assert longest_repeat([*"abcdabxabc"]) == 3  # the measure itself
    assert longest_repeat([*"aaaa"]) == 2
    assert longest_repeat([*"abc"]) == 0


def test_songs_share_next_to_no_lines(lyrics: Corpus) -> None:
    """Lines repeat within a song: two songs share next to no lines."""
    held = Counter(line for song in songs_of(lyrics.text) for line in set(song))
    shared = sum(count > 1 for count in held.values())
    assert shared / len(held) < 0.01


def test_lyrics_are_chinese(lyrics: Corpus) -> None:
    chinese = sum(
        unicodedata.name(one).startswith("CJK UNIFIED") for one in lyrics.text if one.strip()
    )
    assert chinese / sum(not one.isspace() for one in lyrics.text) > 0.95


def test_names_are_many_and_distinct(dino: Corpus) -> None:
    names = dino.lines
    assert dino.unit == "line"
    assert len(names) >= 1_200
    assert len(set(names)) == len(names)  # lower-cased, so not even up to case
    assert all(name.isalpha() and name.isascii() for name in names)
    assert len(set(dino.text)) == 27  # a to z and the newline


def test_names_are_sorted_one_per_line() -> None:
    content = corpus_path("dino").read_bytes().decode("ascii")
    names = content.splitlines()
    assert content == "".join(f"{name}\n" for name in names)
    assert names == sorted(names)
    assert all(name[0].isupper() and name[1:].islower() for name in names)


def test_names_sound_like_dinosaurs(dino: Corpus) -> None:
    known = """tyrannosaurus triceratops velociraptor stegosaurus diplodocus iguanodon compsognathus
    parasaurolophus micropachycephalosaurus ankylosaurus spinosaurus xiongguanlong zuul"""
    others = "pteranodon quetzalcoatlus dimetrodon plesiosaurus ichthyosaurus mosasaurus"
    assert set(known.split()) <= set(dino.lines)
    assert not set(others.split()) & set(dino.lines)


def test_corpora_equal_their_packaged_files(lyrics: Corpus, dino: Corpus) -> None:
    assert lyrics.text == corpus_path("lyrics").read_text("utf-8")
    assert dino.text == corpus_path("dino").read_text("utf-8").lower()


def test_readme_states_the_licence() -> None:
    folder = corpus_path("lyrics").parent
    assert folder == corpus_path("dino").parent
    readme = (folder / "README.md").read_text("utf-8")
    for part in ("CC0", "creativecommons.org/publicdomain/zero/1.0", "lyrics.txt", "dino.txt"):
        assert part in readme
    assert {path.name for path in folder.iterdir()} == {"README.md", "lyrics.txt", "dino.txt"}
    assert f"{len(songs_of(corpus_path('lyrics').read_text('utf-8')))} song" in readme


def published_text(name: str) -> Path:
    directory = os.environ.get("LYRICGEN_DATA")
    path = Path(directory or "") / name
    if not directory or not path.is_file():
        pytest.skip(f"{name} is not in LYRICGEN_DATA={directory}")
    return path


def test_no_lyrics_line_is_in_the_published_lyrics(lyrics: Corpus) -> None:
    """Lines of five characters or more are compared without their spaces."""
    with zipfile.ZipFile(published_text("jaychou_lyrics.txt.zip")) as archive:
        theirs = archive.read("jaychou_lyrics.txt").decode("utf-8")
    taken = {"".join(line.split()) for line in theirs.splitlines()}
    assert len(taken) > 2_000
    ours = {"".join(line.split()) for line in lyrics.text.split("\n")}
    assert {line for line in ours if len(line) >= 5} & taken == set()


def test_names_differ_from_the_courses_list(dino: Corpus) -> None:
    """Single names are facts and coincide; the list, its order and its repeats differ."""
    theirs = [
        line.strip().lower() for line in published_text("dinos.txt").read_text("ascii").split()
    ]
    assert set(dino.lines) - set(theirs)
    assert set(theirs) - set(dino.lines)
    common = set(theirs) & set(dino.lines)
    assert dino.lines != theirs
    assert len(common) < len(set(theirs))
