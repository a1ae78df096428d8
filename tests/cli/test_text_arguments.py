"""The texts of `evaluate`: how --text is read."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from lyricgen.cli.text_arguments import MAX_BYTES, read_text_argument
from lyricgen.errors import UserError


def test_a_file_or_the_text_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("歌").write_text("\ufeff分开\r\n", "utf-8")
    assert read_text_argument("歌").text == "分开\r\n"
    assert read_text_argument("歌").name == "'歌'"
    assert (read_text_argument("分开").text, read_text_argument("分开").file) == ("分开", None)
    assert read_text_argument("a/b\nc.txt").file is None  # no file has a name of two lines
    assert read_text_argument("分" * 5000).file is None  # nor a name of this length
    assert read_text_argument("and/or").file is None  # no directory has this name
    assert read_text_argument("分/开/\0").file is None
    assert read_text_argument("").file is None


def test_a_packed_file_and_another_encoding(tmp_path: Path) -> None:
    packed, other = tmp_path / "a.gz", tmp_path / "b.txt"
    packed.write_bytes(gzip.compress("分开".encode()))
    other.write_bytes("分开".encode("gb18030"))
    assert read_text_argument(str(packed)).text == "分开"
    assert read_text_argument(str(other), "gb18030").text == "分开"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("没有/text.txt", "'没有/text.txt' is not there"),
        ("folder/text", "'folder/text' is not there"),
        ("./text", "'./text' is not there"),
        ("~/没有text", "is not there"),
        ("/没有/text", "is not there"),
        ("song.txt", "has to be in a file"),
        ("Song.MD", "is not there"),
        ("folder", "is a directory"),
        ("gb", "--encoding gb18030"),
        ("empty", "(--text FILE)"),
    ],
)
def test_unreadable_arguments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("gb").write_bytes("分开".encode("gb18030"))
    Path("empty").touch()
    with pytest.raises(UserError) as caught:
        read_text_argument(argument)
    assert message in str(caught.value)
    assert "data." not in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_text_past_the_size_limit_is_refused(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "song"
    path.write_bytes(pack(b"a b\n" * (MAX_BYTES // 4)))
    assert len(read_text_argument(str(path)).text) == MAX_BYTES
    path.write_bytes(pack(b"a b\n" * (4 * MAX_BYTES)))
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        read_text_argument(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"holds more than the {MAX_BYTES} bytes allowed; score it in parts" in str(caught.value)
    assert peak < 4 * MAX_BYTES
