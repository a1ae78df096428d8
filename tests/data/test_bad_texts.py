"""Each bad text of the user gets one line that names the place; most kinds are tried here."""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lyricgen.data.build import build_corpus, build_splits
from lyricgen.data.splits import Layout
from lyricgen.errors import UserError
from tests.helpers.text_options import options_of, write

SONG = "想要有直升机\n想要和你飞到宇宙去\n想要和你融化在一起\n" * 20
BYTES = SONG.encode()
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(99)
LAYOUTS: dict[str, Layout] = {"text": "stream", "line": "lines", "document": "documents"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))


def refusal(path: str | list[str], **settings: Any) -> str:
    """The line about a text that cannot be trained on; it comes soon, and nothing is written."""
    before, begin = sorted(Path.cwd().rglob("*")), time.process_time()
    with pytest.raises(UserError) as caught:
        options = options_of(path, **settings)
        corpus = build_corpus(options)
        build_splits(options, corpus, LAYOUTS[corpus.unit])
    assert time.process_time() - begin < 5
    assert sorted(Path.cwd().rglob("*")) == before
    assert str(caught.value).isprintable()
    return str(caught.value)


def zipped(method: int = zipfile.ZIP_DEFLATED, **files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = len(BYTES)
        archive.addfile(member, io.BytesIO(BYTES))
    return stream.getvalue()


def with_method(archive: bytes, method: int) -> bytes:
    """Replace the method by which the first file of a zip archive is packed."""
    changed = bytearray(archive)
    struct.pack_into("<H", changed, 8, method)
    struct.pack_into("<H", changed, changed.index(b"PK\x01\x02") + 10, method)
    return bytes(changed)


PACKED = {
    "gz": gzip.compress(BYTES),
    "xz": lzma.compress(BYTES),
    "bz2": bz2.compress(BYTES),
    "zip": zipped(a=BYTES),
    "many.zip": zipped(a=BYTES, b=SONG[::-1].encode()),
}


@pytest.mark.parametrize("end", PACKED)
def test_an_archive_that_is_cut_anywhere_is_damaged(end: str) -> None:
    whole = PACKED[end]
    for size in {12, 20, 30, *range(40, len(whole), 9), len(whole) - 4, len(whole) - 1}:
        write(f"cut.{end}", whole[:size])
        assert refusal(f"cut.{end}").startswith(f"'cut.{end}' is a damaged ")


ARCHIVES = {
    "tar.gz": (tarred(), "is a tar archive"),
    "gz.gz": (gzip.compress(PACKED["gz"]), "packed twice"),
    "in.gz": (gzip.compress(PACKED["zip"]), "packed twice"),
    "in.zip": (
        zipped(a=PACKED["zip"], b=PACKED["bz2"]),
        "holds no text (2 files: 'x.in.zip/a' (pa",
    ),
    "empty.xz": (lzma.compress(b""), "is empty"),
    "empty.zip": (zipped(a=b"", b=b""), "holds no text (2 files: 'x.empty.zip/a' (empty)"),
    "blank.zip": (zipped(a=b"\n", b=b" "), "holds only white space"),
    "pictures.zip": (zipped(a=PICTURE, b=PICTURE), "'x.pictures.zip/a' (a picture)"),
    "utf8.zip": (zipped(a=BYTES, b=BYTES + b"\xff" + BYTES), "'x.utf8.zip/b' is not in the enco"),
    "lzma.zip": (zipped(zipfile.ZIP_LZMA, a=BYTES), "method 14"),
    "aes.zip": (with_method(PACKED["zip"], 99), "method 99"),
    "exe": (b"MZ\x90\0" + bytes(99) + PACKED["zip"], "is a program"),
}


@pytest.mark.parametrize("end", ARCHIVES)
def test_an_archive_without_a_plain_text_is_refused(end: str) -> None:
    content, shown = ARCHIVES[end]
    write(f"x.{end}", content)
    assert shown in refusal(f"x.{end}")
    assert f"x.{end}" in refusal(f"x.{end}")


SHORT = "t: data.val_fraction=0.1 and data.test_fraction=0.1 leave 0 of "
CONTENTS: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "byte-order mark": (b"\xef\xbb\xbf", {}, "'t' is empty"),
    "other mark": (b"\xff\xfe", {}, "'t' is empty"),
    "ideographic spaces": ("\u3000\n" * 99, {}, "'t' holds only white space"),
    "zero width": ("\u200b" * 99, {}, "one single symbol"),
    "NULs": (bytes(999), {}, "data.control_characters=drop"),
    "too short": ("ab", {}, f"{SHORT}2 characters"),
    "first byte": (b"\xff" + BYTES, {}, "offset 0 (invalid start byte); the rest"),
    "last byte": (BYTES + b"\xe6\x83", {}, "offset 1500 (unexpected end of data)"),
    "half a character": (BYTES + b"\xed\xa0\x80", {}, "mend the 3 such places"),
    "UTF-16 without mark": (SONG.encode("utf-16-le"), {}, "data.encoding=utf-16-le"),
    "odd UTF-16": (SONG.encode("utf-16") + b"x", {}, "offset 1082 (truncated data)"),
    "domain names": (SONG, {"encoding": "idna"}, "data.encoding='idna' is not"),
    "punycode": (SONG, {"encoding": "punycode"}, "data.encoding='punycode' is not"),
    "no codec of texts": (SONG, {"encoding": "base64"}, "data.encoding='base64' is not"),
    "one document": (SONG, {"unit": "document"}, f"{SHORT}1 distinct documents"),
    "equal documents": ("ab\n\n" * 9, {"unit": "document"}, f"{SHORT}1 distinct documents"),
    "two lines": ("ab\ncd\n", {"unit": "line"}, f"{SHORT}2 distinct lines"),
    "separators alone": ("***\n" * 9, {"separator": "***"}, "holds only white space"),
    "no separator": (SONG, {"separator": "*"}, "data.separator='*' is no line of corpus 't'"),
    "header alone": ("id,text\n", {"column": "text"}, "no text in data.column=text: choose"),
    "empty rows": ("id,text\n1,\n", {"column": "text"}, "data.column=text (1 empty row)"),
    "no table": (SONG, {"column": "text"}, "data.column=text: 't' has no such column"),
    "open quotation": ('text\n"a\nb\n', {"column": "text"}, "in line 2 is never closed"),
    "NUL in a table": ("text\na\0b\n", {"column": "text"}, "U+0000 (NUL)"),
    "one text": ("text\naaa\n", {"column": "text"}, "corpus 't' holds one single symbol"),
    "number": ("3", {"key": "text"}, "data.key=text: 't' has no such field"),
    "no records": ("[]", {"key": "text"}, "'t' holds no text in data.key=text: choose"),
    "nulls": ("[null, null]", {"key": "text"}, "data.key=text: 't' has no such field"),
    "comma at the end": ('[{"text": "a"},]', {"key": "text"}, "is no JSON: Expecting value"),
    "objects": (
        '[{"a": {"b": "c"}}]',
        {"key": "a"},
        "record 1 has no text there; it has a.b)",
    ),
    "through a text": ('[{"a": "b"}]', {"key": "a.c"}, "'t' has no such field; it has a"),
    "half a pair": ('[{"a": "b\\ud800"}]', {"key": "a"}, "data.key=a: 't', record 1 has control"),
    "two records": ('[{"a": "bc"}, {"a": "de"}]', {"key": "a"}, "t: data.val_fraction=0.1"),
    "stamps alone": ("[00:01.00]\n" * 9, {}, "corpus 't' holds only white space"),
    "times alone": ("1\n00:00:01,000 --> 00:00:02,000\n\n" * 9, {}, "holds only white space"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_a_bad_text_is_named_with_a_remedy(case: str) -> None:
    content, settings, shown = CONTENTS[case]
    write("t", content)
    assert shown in refusal("t", **settings)


def bind(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path)


PATHS: dict[str, tuple[Callable[[], Any], str]] = {
    "pipe": (lambda: os.mkfifo("pipe"), "'pipe' is no ordinary file"),
    "socket": (lambda: bind("socket"), "'socket' is no ordinary file"),
    "/dev/zero": (lambda: None, "'/dev/zero' is no ordinary file"),
    "zero": (lambda: Path("zero").symlink_to("/dev/zero"), "'zero' is no ordinary file"),
    "loop": (lambda: Path("loop").symlink_to("loop"), "cannot read 'loop': Too many levels of"),
    "gone": (lambda: Path("gone").symlink_to("nothing"), "cannot read 'gone': No such file"),
    "file/below": (lambda: write("file"), "cannot read 'file/below': Not a directory"),
    "y" * 300: (lambda: None, "File name too long"),
    "f": (
        lambda: os.mkfifo(write("f/.x").with_name("pipe")),
        "'f' holds no text (1 file: 'f/pipe'",
    ),
    "deep": (lambda: Path("deep" + "/d" * 90).mkdir(parents=True), "'deep' holds no text: name"),
    "[z-a]": (lambda: None, "'[z-a]' matches no file"),
    "**/*.log": (lambda: write("outputs/runs/train.log"), "'**/*.log' matches no file"),
    "*.png": (
        lambda: (write("a.png", PICTURE), write("b.png", PICTURE)),
        "'*.png' holds no text (2",
    ),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_without_a_text_is_refused(path: str) -> None:
    make, shown = PATHS[path]
    make()
    assert shown in refusal(path)


def test_the_bad_one_of_several_files_is_named() -> None:
    write("good.txt", SONG)
    for name, content in {"e": "", "p.png": PICTURE, "c.gz": PACKED["gz"][:-9]}.items():
        write(name, content)
        assert repr(name) in refusal(["good.txt", name])
    write("good.json", json.dumps([{"text": SONG[n:]} for n in range(20)]))
    write("other.json", "{}")
    assert "'other.json' has no such field" in refusal(["good.json", "other.json"], key="text")
    assert "'good.txt' is no JSON" in refusal(["good.json", "good.txt"], key="text")
    assert "'good.txt and 1 more' holds more" in refusal(["good.txt", "good.json"], max_bytes=9000)


@pytest.mark.parametrize("value", ["", [], ["a", ""]])
def test_a_path_without_characters_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="name a file, or leave it out"):
        options_of(value)


def test_standard_input_is_named_as_such() -> None:
    kept = write(f"cache/stdin/{'0' * 64}/stdin.txt", PICTURE)
    assert refusal(str(kept)).startswith("'standard input' is a picture")
    kept.write_bytes(b"ab")
    assert refusal(str(kept)).startswith("standard input: data.val_fraction=0.1")


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="a file of Linux")
def test_a_file_of_the_system_that_waits_for_more_is_refused() -> None:
    assert "'/proc/kmsg'" in refusal("/proc/kmsg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize(
    ("mode", "shown"), [(0, "'f': Permission denied"), (0o444, "'f' holds no")]
)
def test_a_closed_folder_is_refused(mode: int, shown: str) -> None:
    write("f/a.txt", SONG)
    Path("f").chmod(mode)
    try:
        assert shown in refusal("f")
        assert "'f/a.txt': Permission denied" in refusal("f/a.txt")
    finally:
        Path("f").chmod(0o755)
