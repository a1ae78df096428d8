"""Files of folders, archives, patterns and lists become the parts of a text, in order."""

import bz2
import gzip
import lzma
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lyricgen.data import cache as text_cache
from lyricgen.data import sources
from lyricgen.data.build import build_corpus, find_corpus
from lyricgen.data.options import DataOptions
from lyricgen.data.sources import read_parts, settle_field
from lyricgen.errors import UserError
from tests.helpers.text_options import options_of, text_defaults, write

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(100)
BINARY = bytes(range(256)) * 20


def parts_of(path: str | Path | list[Any], **changed: Any) -> list[str]:
    return read_parts(settle_field(options_of(path, **changed)))


def refusal(path: str | Path | list[Any], **changed: Any) -> str:
    with pytest.raises(UserError) as caught:
        parts_of(path, **changed)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Messages of `read_parts`."""
    heard: list[str] = []
    monkeypatch.setattr(sources.log, "info", lambda form, *values: heard.append(form % values))
    return heard


def write_zip(name: str, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return Path(name)


def test_a_single_file_is_one_part_and_needs_no_message(said: list[str]) -> None:
    write("a.txt", "one\ntwo\n")
    assert parts_of("a.txt") == ["one\ntwo\n"]
    assert said == []


def test_several_files_keep_their_order_and_are_read_once(said: list[str]) -> None:
    for name in "abc":
        write(f"{name}, = '歌.txt", name)
    names = [f"{name}, = '歌.txt" for name in "cab"]
    assert parts_of([*names, names[0], f"./{names[1]}"]) == ["c", "a", "b"]
    assert said == ["c, = '歌.txt and 4 more: read 3 files"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_folder_is_read_recursively_in_sorted_order(pack: Any, said: list[str]) -> None:
    write("songs/b.txt", "2")
    write("songs/a/z.txt", "1")
    write("songs/c.packed", pack(b"3"))
    write_zip("songs/d.zip", {"y.txt": "5", "x.txt": "4", "p.png": PICTURE})
    write("songs/.hidden.txt", "no")
    write("songs/.git/a.txt", "no")
    assert parts_of("songs") == parts_of("./songs/") == ["1", "2", "3", "4", "5"]
    assert said[0] == "songs: read 5 files; left out 1 file: 'songs/d.zip/p.png' (a picture)"


def test_files_without_text_in_a_folder_are_left_out_and_counted(said: list[str]) -> None:
    write("songs/a.txt", "text")
    for name, content in {
        "b.png": PICTURE,
        "c.bin": BINARY,
        "d.txt": b"",
        "e.7z": b"7z\xbc\xaf\x27\x1c",
    }.items():
        write(f"songs/{name}", content)
    os.mkfifo("songs/pipe")
    write_zip("songs/book.epub", {"META-INF/container.xml": "<x/>"})
    assert parts_of("songs") == ["text"]
    [line] = said
    assert line.startswith("songs: read 1 file; left out 6 files: ")
    assert line.endswith("and 3 more")
    assert "'songs/b.png' (a picture)" in line
    # the same files by their names are refused
    for name in ("b.png", "c.bin", "d.txt", "e.7z", "pipe", "book.epub"):
        assert name in refusal(f"songs/{name}")


def test_a_text_in_another_encoding_is_not_left_out() -> None:
    write("songs/a.txt", "text")
    write("songs/b.txt", "直升机".encode("gb18030"))
    message = refusal("songs")
    assert "songs/b.txt" in message
    assert "data.encoding=gb18030" in message
    write("songs/b.txt", "想要有直升机，想要和你飞到宇宙去".encode("gb18030"))
    assert parts_of("songs") == ["text", "想要有直升机，想要和你飞到宇宙去"]
    write("songs/a.txt", "歌".encode("gb18030"))
    assert len(parts_of("songs", encoding="gb18030")) == 2


def test_links_stay_in_the_folder(tmp_path: Path, said: list[str]) -> None:
    write("secret.txt", "secret")
    write("songs/a.txt", "a")
    write("songs/.store/b", "b")
    for name, target in {
        **{"out.txt": "../secret.txt", "folder": "..", "same.txt": "a.txt", "self": "self"},
        **{"b.txt": ".store/b", "absolute.txt": str(tmp_path / "secret.txt"), "gone": "nothing"},
        **{"loop": ".", "etc": "/etc"},
    }.items():
        Path("songs", name).symlink_to(target)
    assert parts_of("songs") == ["a", "b"]
    assert "left out 4 files" in said[0]
    assert "'songs/absolute.txt' (a link that leads out of the folder)" in said[0]
    # a link that the user names is followed
    Path("link").symlink_to("songs")
    assert parts_of("link") == ["a", "b"]
    assert parts_of("songs/out.txt") == ["secret"]


def test_a_pattern_follows_no_links_to_folders() -> None:
    write("songs/a.txt", "a")
    write("songs/sub/b.txt", "b")
    write("songs/.store/c.txt", "c")
    for name, target in {"loop": ".", "again": ".", "up": "..", "out.txt": "../x.txt"}.items():
        Path("songs", name).symlink_to(target)
    write("x.txt", "x")
    assert parts_of("songs/**/*.txt") == ["a", "x", "b"]
    assert parts_of("**/b.txt") == ["b"]
    assert parts_of("s*s/**") == ["a", "b"]
    assert parts_of("songs/.store/*.txt") == parts_of("songs/.s*/*.txt") == ["c"]
    assert parts_of(str(Path("songs/s?b/[b].txt").absolute())) == ["b"]


def test_a_pattern_reads_its_matches_in_sorted_order(said: list[str]) -> None:
    for name in ("b.txt", "a.txt", "c.lrc", "[x].txt", "sub/d.txt", ".h.txt", "e.txt"):
        write(f"songs/{name}", "" if name == "e.txt" else name)
    assert parts_of("songs/*.txt") == ["[x].txt", "a.txt", "b.txt"]
    assert "left out 1 file: 'songs/e.txt' (empty)" in said[0]
    assert parts_of("songs/**/*.txt") == ["[x].txt", "a.txt", "b.txt", "sub/d.txt"]
    assert parts_of("songs/**") == ["[x].txt", "a.txt", "b.txt", "c.lrc", "sub/d.txt"]
    assert parts_of("songs/[x].txt") == ["[x].txt"]  # a file of this name
    assert "'songs/*.md' matches no file" in refusal("songs/*.md")


def test_an_empty_folder_and_a_folder_without_texts_are_refused() -> None:
    Path("songs").mkdir()
    assert refusal("songs").startswith("'songs' holds no text: ")
    write("songs/a.png", PICTURE)
    write("songs/b.bin", BINARY)
    message = refusal("songs")
    assert "'songs' holds no text (2 files: 'songs/a.png' (a picture), 'songs/b.bin'" in message
    assert "'nowhere': No such file" in refusal("nowhere")
    assert "no/such\\udcff" in refusal("no/such\udcff")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_or_folder_is_refused() -> None:
    write("songs/a.txt", "a")
    write("songs/b.txt", "b").chmod(0)
    assert "'songs/b.txt': Permission denied" in refusal("songs")
    Path("songs/b.txt").chmod(0o600)
    Path("songs/closed").mkdir(mode=0)
    assert "'songs/closed': Permission denied" in refusal("songs")


def test_the_directory_of_outputs_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.txt", "a")
    write("outputs/runs/x/train.log", "log")
    write("moved/latest.txt", "runs/x")
    write("moved/runs/x/train.log", "log")
    assert parts_of(".") == ["a"]


def test_max_bytes_bounds_the_sum_of_all_files() -> None:
    for name in "abc":
        write(f"songs/{name}.txt", "歌" * 10)  # 30 bytes
    assert len(parts_of("songs", max_bytes=90)) == 3
    message = refusal("songs", max_bytes=89)
    assert "'songs' holds more than the 89 bytes allowed" in message
    assert "data.max_bytes=178" in message
    assert "'songs/a.txt' holds more than the 29 bytes" in refusal("songs", max_bytes=29)
    for number in range(5):
        write(f"short/{number}", "x")
    assert len(parts_of("short", max_bytes=5)) == 5
    assert "'short' holds more than the 3 bytes" in refusal("short", max_bytes=3)


def test_a_bomb_in_a_folder_or_an_archive_is_stopped_at_the_limit() -> None:
    write("songs/a.gz", gzip.compress(b"ab " * 10**6))
    write_zip("two.zip", {"a.txt": "a" * 10**6 + "b", "b.txt": "ab" * 10**6})
    assert Path("songs/a.gz").stat().st_size < 10_000
    for path in ("songs", "two.zip"):
        assert "more than the 2000000 bytes" in refusal(path, max_bytes=2_000_000)
    assert len(parts_of("two.zip", max_bytes=3_000_001)) == 2


def test_an_archive_with_several_texts_is_read_as_a_folder(said: list[str]) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile("two.zip", "w") as archive:
        for name in ("b.txt", "a/z.txt", "__MACOSX/b.txt", ".hidden", "a/.git/c", "empty.txt"):
            archive.writestr(name, "" if name == "empty.txt" else name)
        archive.writestr(link, "/etc/passwd")
        archive.writestr("binary", BINARY)
    assert parts_of("two.zip") == ["a/z.txt", "b.txt"]
    assert "read 2 files; left out 2 files: 'two.zip/binary' (no text)" in said[0]


def test_a_damaged_or_encrypted_archive_with_several_texts_is_refused() -> None:
    content = bytearray(write_zip("two.zip", {"a.txt": "a" * 99, "b.txt": "b" * 99}).read_bytes())
    write("cut.zip", bytes(content[:-30]))
    assert "cut.zip" in refusal("cut.zip")
    content[content.index(b"PK\x01\x02") + 8] |= 1
    write("locked.zip", bytes(content))
    assert "encrypted" in refusal("locked.zip")
    damaged = write_zip("two.zip", {"a.txt": os.urandom(60).hex(), "b.txt": "b" * 99}).read_bytes()
    write("bad.zip", damaged.replace(damaged[40:60], bytes(20)))
    assert "'bad.zip/a.txt' is a damaged zip archive" in refusal("bad.zip")


def test_a_large_archive_or_file_with_timestamps_is_not_mapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_cache, "LARGE", 100)
    monkeypatch.setattr(text_cache, "LARGE_PACKED", 100)
    write("a.txt", "text to map\n" * 30)
    write("a.lrc", "".join(f"[00:{second}.00]sung\n" for second in range(10, 60)))
    write_zip("two.zip", {"a.txt": os.urandom(99).hex(), "b.txt": "b"})
    assert build_corpus(options_of("a.txt")).mapping is not None
    assert build_corpus(options_of(["a.txt", "a.lrc"])).mapping is None
    for path in ("two.zip", "a.lrc"):
        assert build_corpus(options_of(path)).mapping is None


def test_files_are_joined_by_newlines_and_digests_tell_texts_apart() -> None:
    write("a.txt", "one two")
    write("b.txt", "three\nfour")
    write("joined.txt", "one two\nthree\nfour")
    joined, several = (
        build_corpus(options_of(path)) for path in ("joined.txt", ["a.txt", "b.txt"])
    )
    assert several.vocabulary.decode(several.ids) == "one two\nthree\nfour"
    assert several.digest == joined.digest
    other = build_corpus(options_of(["b.txt", "a.txt"]))
    assert other.digest != joined.digest
    lines = build_corpus(options_of(["a.txt", "b.txt"], unit="line"))
    assert lines.lines == ["one two", "three", "four"]


@settings(deadline=None, max_examples=30)
@given(
    texts=st.dictionaries(
        st.text("aé歌 '\"=,[]*?", min_size=1, max_size=9),
        st.text("ab", min_size=1),
        min_size=1,
        max_size=5,
    )
)
def test_any_names_of_files_are_read(
    tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("songs")
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
        assert parts_of(folder / name) == [text]
    assert parts_of(folder) == [texts[name] for name in sorted(texts)]


def test_newlines_in_a_row_are_spaces_in_a_list_of_lines_alone(said: list[str]) -> None:
    write("a.csv", 'text,id\n"one\r\ntwo\n",1\n,2\n three,3\n4\n')
    lines = build_corpus(options_of("a.csv", column="text", unit="line"))
    assert lines.lines == ["one two", "three"]
    running = build_corpus(options_of("a.csv", column="text"))
    assert running.vocabulary.decode(running.ids) == "one\ntwo\n\n three"
    left_out = "left out 1 empty row, 1 broken row (first: line 7 has 1 instead of 2 fields)"
    assert said == [f"a.csv: read 2 texts of data.column=text; {left_out}"] * 2


def test_a_folder_of_tables_or_lyrics_is_read_whole(said: list[str]) -> None:
    for name in "ab":
        write(f"tables/{name}.csv", f"n,text\n1,{name}\n2,{name * 2}\nx\n")
        write(f"songs/{name}.lrc", f"[ti:{name}]\n[00:01.00]{name}\n[00:02.00]la\n")
    write("songs/c.txt", "plain")
    assert parts_of("tables", column="text") == ["a", "aa", "b", "bb"]
    assert parts_of("songs") == ["a\nla\n", "b\nla\n", "plain"]
    assert parts_of("songs", timestamps="keep")[0] == "[ti:a]\n[00:01.00]a\n[00:02.00]la\n"
    assert said == [
        "tables: read 2 files, 4 texts of data.column=text; left out 2 broken rows "
        "(first: 'tables/a.csv', line 4 has 1 instead of 2 fields)",
        "songs: read 3 files, without the timestamps of 2 files (data.timestamps=keep keeps them)",
        "songs: read 3 files",
    ]
    assert "'tables/a.csv' has no such column" in refusal("tables", column="lyrics")


def test_a_table_without_texts_is_refused() -> None:
    write("a.csv", "id,text\n")
    where = "'a.csv' holds no text in data.column=text"
    assert refusal("a.csv", column="text").startswith(f"{where}: choose another field")
    write("a.csv", "id,text\n1,\n2\n")
    assert f"{where} (1 empty row, 1 broken row" in refusal("a.csv", column="text")
    write("a.json", '[{"text": 5}]')
    assert "holds no text in data.key=text (1 broken record" in refusal("a.json", key="text")
    with pytest.raises(ValueError, match="leave one of them out"):
        options_of("a.csv", column="text", key="text")
    with pytest.raises(ValueError, match="not with data=lyrics"):
        DataOptions.model_validate({**text_defaults(), "kind": "lyrics", "column": "text"})


def test_a_text_whose_timestamps_an_earlier_version_has_learnt_is_found() -> None:
    write("a.lrc", "".join(f"[00:{second}.00]sung\n" for second in range(10, 60)))
    before = build_corpus(options_of("a.lrc", timestamps="keep"))
    now = build_corpus(options_of("a.lrc"))
    for known, found in ((before.digest, before), (now.digest, now), (None, now), ("0" * 64, None)):
        corpus = find_corpus(options_of("a.lrc"), known, None)
        assert found is None or corpus.digest == found.digest


def test_the_evident_field_of_a_single_file_is_read() -> None:
    def found(*paths: str, **changed: Any) -> tuple[str | None, str | None]:
        settled = settle_field(options_of(list(paths), **changed))
        return settled.column, settled.key

    write("a.csv", "lyrics,n\n" + "la la,1\n" * 9)
    write("b.jsonl", '{"song": {"words": "some more words than in the name"}}\n' * 3)
    write("c.txt", "plain\n" * 9)
    write("d.csv", "first,last\nAda,Byron\nEmmy,Noether\nJane,Austen\n")
    assert found("a.csv") == ("lyrics", None)
    assert found("b.jsonl") == (None, "song.words")
    assert found("c.txt") == found("d.csv") == (None, None)
    assert found("a.csv", "c.txt") == (None, None)
    assert found("a.csv", column=None) == found("a.csv", key=None) == (None, None)
    assert found("a.csv", column="n") == ("n", None)
    assert found("a.csv", max_bytes=9) == (None, None)
    assert build_corpus(options_of("a.csv", unit="line")).lines == ["la la"] * 9
    assert (
        build_corpus(options_of("b.jsonl", key=None, unit="line")).lines[0].startswith('{"song": ')
    )
