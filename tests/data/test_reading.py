"""Reading any file gives its text, or a refusal of one line."""

import codecs
import errno
import gzip
import io
import logging
import os
import random
import stat
import sys
import tempfile
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lyricgen.data import reading
from lyricgen.data.file_kinds import TextFile
from lyricgen.data.reading import read_text, text_pieces
from lyricgen.errors import UserError

MEBIBYTE = 1 << 20
LYRICS = "想要有直升机\r\n想要和你飞到宇宙去\n\tzu mir 🚀\n"

clean_texts = st.text(
    st.one_of(st.sampled_from("\n\r\t"), st.characters(exclude_categories=["Cc", "Cs"])),
    min_size=1,
).filter(lambda text: not text.startswith("\ufeff"))


def zip_files(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def write(directory: Path, content: bytes | bytearray, name: str = "song.txt") -> Path:
    path = directory / name
    path.write_bytes(content)
    return path


def refusal(path: str | os.PathLike[str], *needed: str, **settings: object) -> str:
    """Message of a file that ``read_text`` refuses: one printable line with all of `needed`."""
    with pytest.raises(UserError) as caught:
        read_text(path, **settings)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.isprintable()
    for part in (os.fspath(path), *needed):
        assert part in message
    return message


@settings(deadline=None, max_examples=60)
@given(text=clean_texts, packing=st.sampled_from(["plain", "gzip", "deflated", "stored"]))
def test_reading_returns_any_clean_text_as_written(text: str, packing: str) -> None:
    content = text.encode()
    packed = {
        "plain": lambda: content,
        "gzip": lambda: gzip.compress(content),
        "deflated": lambda: zip_files({"a": content}),
        "stored": lambda: zip_files({"a": content}, zipfile.ZIP_STORED),
    }[packing]()
    with tempfile.TemporaryDirectory() as directory:
        assert read_text(write(Path(directory), packed)) == text


def test_first_bytes_decide_the_packing_whatever_the_name(tmp_path: Path) -> None:
    plain = write(tmp_path, LYRICS.encode(), "plain.zip")
    packed = write(tmp_path, gzip.compress(LYRICS.encode()), "packed.txt")
    archive = write(tmp_path, zip_files({"song.gz": LYRICS.encode()}), "archive.gz")
    assert read_text(plain) == read_text(packed) == read_text(archive) == LYRICS


def test_nothing_is_written_to_disk(tmp_path: Path) -> None:
    path = write(tmp_path, zip_files({"../outside.txt": LYRICS.encode()}))
    before = sorted(tmp_path.parent.rglob("*"))
    assert read_text(str(path)) == LYRICS
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf-8-sig", "utf-16", "gb18030"])
def test_a_byte_order_mark_never_reaches_the_text(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, ("\ufeff" + LYRICS).encode(encoding.replace("-sig", "")))
    assert read_text(path, encoding) == LYRICS


def test_a_mark_inside_the_text_is_kept(tmp_path: Path) -> None:
    assert read_text(write(tmp_path, "a\ufeffb".encode())) == "a\ufeffb"


def test_another_encoding_is_read_when_named(tmp_path: Path) -> None:
    path = write(tmp_path, b"abc" + "飞到宇宙去".encode("gb18030"))
    assert read_text(path, "gb18030") == "abc飞到宇宙去"
    refusal(path, "'utf-8'", "0xB7", "offset 3 ", "data.encoding=gb18030 (")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("床前明月光，疑是地上霜。", "gb18030"),
        ("舉頭望明月，低頭思故鄉。", "big5"),
        ("吾輩は猫である。名前はまだ無い。", "shift_jis"),
        ("나는 오늘도 산에 올라가 노래를 부른다.", "euc_kr"),
        ("Как безгранична ограниченность!", "koi8_r"),
        ("Über die schöne grüne Straße fährt der König.", "cp1252"),
    ],
)
def test_another_encoding_is_found(
    text: str, encoding: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = write(tmp_path, f"plain\n{text}\n".encode(encoding) * 3)
    assert read_text(path) == f"plain\n{text}\n" * 3
    assert read_text(path) == f"plain\n{text}\n" * 3
    [said] = caplog.messages
    assert said == f"{str(path)!r}: read in the encoding {encoding} (data.encoding={encoding})"


def test_no_encoding_is_looked_for_in_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "床前明月光，疑是地上霜。".encode("gb18030"))
    monkeypatch.setattr("lyricgen.data.reading.MOST_SEARCHED", 20)
    refusal(path, "is not in the encoding 'utf-8'", "data.encoding=gb18030")


@pytest.mark.parametrize(
    "content",
    [bytes(range(32, 256)), "床前明月光，".encode() * 9 + b"\xff"],
)
def test_an_encoding_that_is_not_sure_is_refused(content: bytes, tmp_path: Path) -> None:
    refusal(write(tmp_path, content), "is not in the encoding 'utf-8'")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_error_offset_counts_from_the_start_of_the_file_with_a_mark(
    tmp_path: Path, encoding: str
) -> None:
    path = write(tmp_path, codecs.BOM_UTF8 + b"ab\xe9cd")
    refusal(path, repr(encoding), "0xE9", "offset 5 ", encoding=encoding)


@pytest.mark.parametrize(
    "encoding", ["utf-9", "", "hex", "rot13", "undefined", "中文", "a\0b", "\ud800", "utf\n9"]
)
def test_an_unknown_encoding_is_refused_by_name(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, b"abc")
    with pytest.raises(UserError) as caught:
        read_text(path, encoding)
    assert str(caught.value).isprintable()
    assert f"data.encoding={encoding!r}" in str(caught.value)
    assert "gb18030" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal("./no/歌词.txt", "No such file", "data.path=")
    assert str(tmp_path) not in message


@pytest.mark.parametrize("path", ["a\0b", "line\nbreak", "\x1b[31m", "x" * 5000])
def test_an_impossible_or_unprintable_name_is_refused_in_printable_text(path: str) -> None:
    with pytest.raises(UserError) as caught:
        read_text(path)
    assert str(caught.value).isprintable()
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/zero", "pipe"])
def test_pipes_and_devices_are_refused(tmp_path: Path, path: str) -> None:
    """A read of a pipe without a writer would block, and a device never ends."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="' is no ordinary file: name one with a text in it"):
        read_text(tmp_path / path)
    with pytest.raises(OSError, match="it is no ordinary file"):
        reading.file_kind(tmp_path / path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path, "directory", "data.path=")


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may read a file of mode 000; the next test simulates it"
)
def test_a_file_without_read_permission_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"abc")
    path.chmod(0)
    refusal(path, "Permission denied", "data.path=")


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.EACCES, "Permission denied"), (errno.EIO, "Input/output error")]
)
def test_a_file_that_the_system_denies_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def refuse(name: Path, *arguments: object) -> None:
        raise OSError(number, os.strerror(number), str(name))

    path = write(tmp_path, b"abc")
    monkeypatch.setattr(os, "open", refuse)
    refusal(path, reason, "data.path=")


@pytest.mark.parametrize(
    "content",
    [b"", codecs.BOM_UTF8, gzip.compress(b""), zip_files({"a.txt": b""})],
    ids=["nothing", "only a mark", "gzip of nothing", "zip of nothing"],
)
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    refusal(write(tmp_path, content), "is empty", "data.path=")


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda content: zip_files({"a": content})], ids=["", "gz", "zip"]
)
def test_max_bytes_is_the_largest_size_read(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    path = write(tmp_path, pack(b"0123456789" * 100))
    assert len(read_text(path, max_bytes=1000)) == 1000
    refusal(path, "999 bytes", "data.max_bytes=1998", max_bytes=999)


def test_a_limit_far_above_the_memory_reserves_no_memory(tmp_path: Path) -> None:
    assert read_text(write(tmp_path, b"abc"), max_bytes=10**30) == "abc"


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_byte_is_refused(limit: int) -> None:
    with pytest.raises(UserError, match=rf"^data\.max_bytes={limit}: .*at least 1$"):
        read_text("song.txt", max_bytes=limit)


@pytest.mark.parametrize("packing", ["plain", "gzip", "zip"])
def test_a_bomb_of_zeros_is_stopped_at_the_limit(tmp_path: Path, packing: str) -> None:
    path = tmp_path / "bomb"
    size = 64 * MEBIBYTE
    if packing == "plain":
        path.touch()
        os.truncate(path, size)
    elif packing == "gzip":
        path.write_bytes(gzip.compress(bytes(size), 1))
    else:
        path.write_bytes(zip_files({"zeros.txt": bytes(size)}))
    if packing != "plain":
        assert path.stat().st_size < MEBIBYTE
    tracemalloc.start()
    refusal(path, f"{MEBIBYTE} bytes", f"data.max_bytes={2 * MEBIBYTE}", max_bytes=MEBIBYTE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MEBIBYTE


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_cannot_be_unpacked_in_steps_is_refused(
    tmp_path: Path, compression: int
) -> None:
    path = write(tmp_path, zip_files({"zeros.txt": bytes(MEBIBYTE)}, compression))
    refusal(path, f"method {compression}", "deflate")


def test_system_files_in_an_archive_are_skipped(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.mkdir("songs")
        archive.writestr("songs/jay.txt", LYRICS)
        archive.writestr("__MACOSX/songs/jay.txt", "resource fork")
        archive.writestr("songs/.DS_Store", "folder view")
        archive.writestr(link, "/etc/passwd")
    assert read_text(write(tmp_path, packed.getvalue())) == LYRICS


def test_an_archive_of_several_texts_names_the_first_few(tmp_path: Path) -> None:
    members = {f"song{number}.txt": b"la" for number in range(9)} | {".hidden": b""}
    message = refusal(
        write(tmp_path, zip_files(members)), "9 text files", "exactly one", "'song0.txt'", "4 more"
    )
    assert "song5.txt" not in message
    assert ".hidden" not in message


def test_an_archive_with_one_name_twice_has_two_texts(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(packed, "w") as archive,
    ):
        archive.writestr("a.txt", "first")
        archive.writestr("a.txt", "second")
    refusal(write(tmp_path, packed.getvalue()), "2 text files", "'a.txt', 'a.txt'")


def test_refusal_of_an_archive_without_a_text_names_its_files(tmp_path: Path) -> None:
    refusal(write(tmp_path, zip_files({".DS_Store": b"x"})), "0 text files", "'.DS_Store'")
    refusal(write(tmp_path, zip_files({})), "0 text files", "nothing")


def test_names_in_an_archive_are_printed_escaped(tmp_path: Path) -> None:
    members = {"\x1b[2Ja.txt": b"la", "b\n.txt": b"la"}
    refusal(write(tmp_path, zip_files(members)), r"'\x1b[2Ja.txt'", r"'b\n.txt'")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_files({"a.txt": LYRICS.encode()}))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag "encrypted" of the directory entry
    refusal(write(tmp_path, content), "encrypted", "unpack")


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    letters = "".join(random.Random(0).choices("abcdefgh", k=3000)).encode()
    good_gzip, good_zip = gzip.compress(letters), zip_files({"a.txt": letters})
    stored = bytearray(zip_files({"a.txt": letters}, zipfile.ZIP_STORED))
    stored[500] ^= 1
    flipped = bytearray(good_gzip)
    flipped[len(flipped) // 2] ^= 1
    unchecked = bytearray(good_gzip)
    unchecked[-8] ^= 1
    contents: list[tuple[str, bytes | bytearray]] = [
        ("gzip file", good_gzip[:-20]),
        ("gzip file", good_gzip[:12]),
        ("gzip file", flipped),
        ("gzip file", unchecked),
        ("gzip file", b"\x1f\x8b"),
        ("zip archive", good_zip[:-1]),
        ("zip archive", good_zip[: len(good_zip) // 2]),
        ("zip archive", stored),
        ("zip archive", b"PK\x03\x04 and so on"),
    ]
    for kind, content in contents:
        refusal(write(tmp_path, content), f"damaged {kind}")


@pytest.mark.parametrize(
    "code", [code for code in range(0x110000) if unicodedata.category(chr(code)) == "Cc"]
)
def test_control_characters_are_refused_with_their_place(tmp_path: Path, code: int) -> None:
    path = write(tmp_path, f"一\r\n二\r三四{chr(code)}五".encode())
    if chr(code) in "\n\r\t":
        assert chr(code) in read_text(path)
    else:
        refusal(path, f"U+{code:04X}", "line 3, column 3;", "data.control_characters=newline")


def test_a_control_character_at_the_start_is_refused(tmp_path: Path) -> None:
    refusal(write(tmp_path, b"\0abc"), "U+0000", "line 1, column 1;")
    refusal(write(tmp_path, b"abc\n\x1b[31m"), "U+001B", "line 2, column 1;")


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"ab+2AA-")
    assert path.read_bytes().decode("utf-7") == "ab\ud800"
    refusal(path, "U+D800", "line 1, column 3", encoding="utf-7")


def test_a_utf_16_file_without_a_mark_gets_a_hint(tmp_path: Path) -> None:
    path = write(tmp_path, "love".encode("utf-16-le"))
    refusal(path, "U+0000", "line 1, column 2", "data.encoding=utf-16")


def check_text_or_refusal(content: bytes, encoding: str = "utf-8") -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), content)
        try:
            text = read_text(path, encoding, max_bytes=10_000)
        except UserError as error:
            assert str(error).isprintable()
        else:
            assert text
            assert not {c for c in text if unicodedata.category(c) == "Cc"} - set("\n\r\t")


@settings(deadline=None, max_examples=150)
@given(
    start=st.sampled_from([b"", b"\x1f\x8b\x08", b"PK\x03\x04", b"PK\x05\x06", codecs.BOM_UTF8]),
    rest=st.binary(max_size=200),
    encoding=st.sampled_from(["utf-8", "utf-16", "gb18030", "latin-1", "utf-7"]),
)
def test_any_bytes_give_a_text_or_one_line(start: bytes, rest: bytes, encoding: str) -> None:
    check_text_or_refusal(start + rest, encoding)


ARCHIVES = [gzip.compress(b"la " * 40), zip_files({"a.txt": b"la " * 40, "d/": b"", ".x": b"y"})]
# Offset of the length of the first name in the directory; the length of its comment is 4 further.
NAME_LENGTH = ARCHIVES[1].index(b"PK\x01\x02") + 28


@settings(deadline=None, max_examples=300)
@given(
    archive=st.sampled_from(ARCHIVES),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
@example(archive=ARCHIVES[1], changes=[(NAME_LENGTH, 0), (NAME_LENGTH + 4, 5)])
def test_any_damage_gives_a_text_or_one_line(
    archive: bytes, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(archive)
    for place, value in changes:
        content[place % len(content)] = value
    check_text_or_refusal(bytes(content))


# ---- in pieces

NASTY = "\ufeff一\r\n二\r三四\n\n\r\ncafe\u0301 🚀🚀\u1100\u1161 ΣΑΣ'ς \ufeff end\r"


@pytest.fixture(params=[1, 2, 3, 5, 7, 64])
def small_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(reading, "_CHUNK", request.param)
    return int(request.param)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda content: zip_files({"a": content})])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-7", "gb18030"])
def test_pieces_join_to_the_text(small_pieces: int, tmp_path: Path, encoding: str, pack) -> None:  # type: ignore[no-untyped-def]
    content = NASTY.encode(encoding)
    pieces = list(text_pieces(TextFile(write(tmp_path, pack(content))), encoding))
    assert "".join(pieces) == content.decode(encoding).removeprefix("\ufeff")
    assert (
        all(0 < len(piece) <= max(4, small_pieces + 1) for piece in pieces) or encoding == "utf-7"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_without_a_mark_the_byte_order_is_the_machines(
    small_pieces: int, tmp_path: Path, encoding: str
) -> None:
    content = "分开 abc".encode(f"{encoding}-{'le' if sys.byteorder == 'little' else 'be'}")
    assert content.decode(encoding) == "分开 abc"
    assert read_text(write(tmp_path, content), encoding) == "分开 abc"
    assert (
        read_text(write(tmp_path, content[:4]), encoding) == "分开 abc"[: 32 // int(encoding[4:])]
    )


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("utf-8", "一二".encode() + b"\xe4\xb8" + "三".encode()),
        ("utf-8", "一二".encode() + b"\xe4\xb8"),  # cut off
        ("utf-8", codecs.BOM_UTF8 + b"ab\xe9cd"),
        ("utf-8-sig", codecs.BOM_UTF8 + b"ab\xe9cd"),
        ("utf-8", b"abc" + "飞到".encode("gb18030") + b"\0 too"),
        ("gb18030", "飞到".encode("gb18030") + b"\xff\xff abc"),
        ("gb18030", "飞到".encode("gb18030")[:-1]),
        ("big5", "飞".encode("gb18030") + b"\xff\xff abc"),
        ("utf-16", "ab".encode("utf-16") + b"\x00"),
        ("utf-16-le", "ab".encode("utf-16-le") + b"\x00\xdca\0"),
        ("ascii", "abc 一".encode()),
    ],
)
def test_refusal_names_the_first_undecodable_byte_with_any_size_of_pieces(
    small_pieces: int, tmp_path: Path, encoding: str, content: bytes
) -> None:
    with pytest.raises(UnicodeDecodeError) as whole:
        content.decode(encoding)
    error = whole.value
    offset = error.start + len(content) - len(error.object)
    refusal(
        write(tmp_path, content),
        f"byte 0x{content[offset]:02X} at offset {offset} ({error.reason})",
        encoding=encoding,
    )


@pytest.mark.parametrize(
    "before", ["", "\r", "\r\n", "一\r\n二\r三四", "a\n\r\r\n\nbc", "\r\r\n\r"]
)
def test_a_control_character_has_the_same_place_with_any_size_of_pieces(
    small_pieces: int, tmp_path: Path, before: str
) -> None:
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    place = f"line {len(lines)}, column {len(lines[-1]) + 1};"
    refusal(write(tmp_path, f"{before}\x1b\0 and on\n".encode()), "U+001B", place)


def test_faults_of_the_bytes_are_reported_first(small_pieces: int, tmp_path: Path) -> None:
    content = b"\0" + b"abc" * 100
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1
    refusal(write(tmp_path, packed), "damaged gzip file")
    refusal(write(tmp_path, content), "holds more than", max_bytes=200)
    refusal(write(tmp_path, content + b"\xff"), "not in the encoding", "offset 301 ")


def test_progress_counts_the_bytes_of_the_file(small_pieces: int, tmp_path: Path) -> None:
    content = "想要有直升机\n".encode() * 100
    for packed in (content, gzip.compress(content)):
        passed: list[int] = []
        list(text_pieces(TextFile(write(tmp_path, packed)), passed=passed.append))
        assert passed == sorted(passed)
        assert passed[-1] == len(packed)
