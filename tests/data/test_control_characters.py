"""A refusal lists all control characters; one setting replaces or drops them."""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from lyricgen.data import cache, reading
from lyricgen.data.cache import LargeText, encode_large
from lyricgen.data.faults import FORBIDDEN
from lyricgen.data.options import ControlCharacters
from lyricgen.data.reading import read_text
from lyricgen.errors import UserError
from lyricgen.evaluation.own_text import own_text, replace_controls
from lyricgen.models.checkpoint import load
from lyricgen.runs import checkpoint_files as checkpoint_io
from lyricgen.runs.state import forbidden_changes
from lyricgen.settings import ADDED, OLDER, complete
from lyricgen.training.options import parse
from tests.conftest import SMALL, Train

PAGES = "line 1\n\x0cline 2\n\x0c\x1bline\x0b 3\x85\nend\x1a"
CLEANED = {
    "newline": PAGES.translate(dict.fromkeys(map(ord, "\x0c\x0b\x1b\x85\x1a"), "\n")),
    "drop": PAGES.translate(dict.fromkeys(map(ord, "\x0c\x0b\x1b\x85\x1a"))),
}


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_text(path, **options)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture(params=[1 << 20, 3])
def file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(reading, "_CHUNK", request.param)
    path = tmp_path / "pages.txt"
    path.write_text(PAGES, "utf-8")
    return path


def test_refusal_lists_every_control_character_with_its_count_and_first_place(file: Path) -> None:
    message = refusal(file)
    for phrase in (
        "U+000C (form feed) 2 times, first at line 2, column 1;",
        "U+001B (escape) once at line 3, column 2;",
        "U+000B (vertical tab) once at line 3, column 7;",
        "U+0085 (next line) once at line 3, column 10;",
        "U+001A (Ctrl-Z) once at line 4, column 4;",
        "data.control_characters=newline",
        "data.control_characters=drop",
    ):
        assert phrase in message
    assert "utf-16" not in message


@pytest.mark.parametrize("setting", CLEANED)
def test_one_setting_replaces_or_drops_control_characters(file: Path, setting: str) -> None:
    assert read_text(file, control_characters=setting) == CLEANED[setting]  # type: ignore[arg-type]


def test_half_a_surrogate_pair_is_no_control_character(tmp_path: Path) -> None:
    path = tmp_path / "song.txt"
    path.write_bytes(b"ab+2AA-\x0c")
    for setting in ("newline", "drop"):
        message = refusal(path, encoding="utf-7", control_characters=setting)
        assert "U+D800" in message
        assert "U+000C" not in message


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "iso2022_jp"])
def test_refusal_advises_an_encoding_whose_marks_occur(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "song.txt"
    path.write_bytes(("love me do\n" * 9 + "水の音" * (encoding[0] == "i")).encode(encoding))
    assert f"data.encoding={encoding}" in refusal(path)
    path.write_bytes(b"love\0me do\n" * 9)
    assert "data.encoding" not in refusal(path)


@pytest.mark.parametrize("setting", CLEANED)
def test_a_text_too_long_for_memory_has_its_control_characters_replaced_or_dropped(
    file: Path, monkeypatch: pytest.MonkeyPatch, setting: Any
) -> None:
    monkeypatch.setenv("LYRICGEN_DATA", str(file.parent / "kept"))
    monkeypatch.setattr(cache, "_SECTION", 101)

    def large(choice: Any) -> LargeText:
        return LargeText(file, "utf-8", choice, "keep", False, None, 10**6)

    with pytest.raises(UserError, match="control_characters=newline"):
        encode_large(large("refuse"), "pages")
    for choice in (setting, *CLEANED):  # each has its own entry
        found = encode_large(large(choice), "pages")
        assert found.vocabulary.decode(found.ids) == CLEANED[choice]


def test_own_text_gets_the_setting_of_the_models_training(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pages.txt"
    path.write_text((PAGES + "\n") * 40, "utf-8")
    trained = {}
    for setting in ("newline", "drop"):
        done = train(
            *(*SMALL, "data=text", "data.unit=text"),
            *(f"data.path={path}", f"data.control_characters={setting}"),
        )
        assert done.directory is not None, done.err
        trained[setting] = load(done.directory)
        read = own_text(PAGES, "it", trained[setting])
        assert read.text == CLEANED[setting]
        assert replace_controls(PAGES, "it", trained[setting]) == (CLEANED[setting], None)
    done = train(*SMALL, "data.max_chars=600")
    assert done.directory is not None
    refusing = load(done.directory)
    known = refusing.vocabulary.characters[-3:]
    with pytest.raises(UserError, match=r"U\+000C .* or say --unknown skip"):
        own_text(f"{known}\x0c{known}", "it", refusing)
    with pytest.raises(UserError, match=r"data\.encoding=utf-16-le"):
        own_text("\0".join(" " * 99), "it", refusing)
    assert own_text(f"{known}\x0c{known}", "it", refusing, "skip").left_out == "\x0c"


@pytest.mark.parametrize("setting", get_args(ControlCharacters))
def test_replaced_text_has_no_control_characters(setting: str) -> None:
    read = CLEANED.get(setting, "")
    assert not FORBIDDEN.search(read)


def strip(recorded: dict[str, Any], added: dict[str, Any]) -> None:
    """Remove the added settings, but keep a group of which only some settings are new."""
    for name, value in added.items():
        inner = recorded.get(name)
        if isinstance(value, dict) and isinstance(inner, dict) and inner.keys() - value.keys():
            strip(inner, value)
        else:
            recorded.pop(name, None)


def test_a_run_older_than_a_setting_resumes(train: Train) -> None:
    """Its checkpoint and its records lack the setting, and name no filled settings."""
    directory = train(
        *SMALL, "sampler=random", "sampler.drop_last=true", "trainer.max_epochs=1"
    ).directory
    assert directory is not None
    for path in (directory / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        for name in OLDER:
            del content["lyricgen"]["options"][name]
        for group, _, added in ADDED:
            strip(content["lyricgen"]["options"][group], added)
            strip(content["lyricgen"]["architecture"].get(group, {}), added)
        torch.save(content, path)
        checkpoint_io._sums(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest(), "utf-8")
    summary = json.loads((directory / "summary.json").read_text("utf-8"))
    recorded = summary["options"]
    del summary["filled"]
    for name in OLDER:
        del recorded[name]
    for group, _, added in ADDED:
        strip(recorded[group], added)
    (directory / "summary.json").write_text(json.dumps(summary), "utf-8")
    now = complete(recorded)
    assert forbidden_changes(recorded, now) == []
    assert (
        forbidden_changes(recorded, {**now, "data": {**now["data"], "control_characters": "drop"}})
        != []
    )
    done = train(f"resume={directory}", "trainer.max_epochs=2")
    assert done.status == 0, done.err
    parse(load(directory).options)
