"""Refusal of a file in another encoding lists its plausible encodings."""

import bz2
import codecs
import lzma
import re
import zipfile
from pathlib import Path

import pytest

from lyricgen.data import reading
from lyricgen.data.cache import is_large
from lyricgen.data.reading import read_text
from lyricgen.errors import UserError

CHINESE = "想要有直升机\n想要和你飞到宇宙去\n想要和你融化在一起\n我每天每天每天在想你\n"
PUNCTUATED = "床前明月光，疑是地上霜。举头望明月，低头思故乡。\n" * 3
TRADITIONAL = "雨燈橋風春夜\n" * 40
JAPANESE = "古池や蛙飛びこむ水の音\n夏草や兵どもが夢の跡\n静けさや岩にしみ入る蝉の声\n"
KOREAN = "동해물과 백두산이 마르고 닳도록\n하느님이 보우하사 우리나라 만세\n"
RUSSIAN = "Я помню чудное мгновенье:\nПередо мной явилась ты,\n"
FRENCH = "Où est le garçon? Il était déjà là, à côté de la fenêtre.\n"
SMART = "Plain words.\n" * 50 + "He said “hello” – and she didn’t answer…\n"
GREEK = "Τη γλώσσα μου έδωσαν ελληνική\nτο σπίτι φτωχικό στις αμμουδιές\n"
CZECH_VERSE = (
    "Byl pozdní večer – první máj –\nvečerní máj – byl lásky čas.\nHrdliččin zval ku lásce hlas\n"
)
TURKISH = (
    "Korkma, sönmez bu şafaklarda yüzen al sancak;\nSönmeden yurdumun üstünde tüten en son ocak\n"
)
HUNGARIAN = "Itt az idő, most vagy soha!\nKik szabadon éltek-haltak,\nszolgaföldben nem fűznek\n"
LITHUANIAN = "Lietuva, Tėvyne mūsų, tu didvyrių žeme,\niš praeities tavo sūnūs te stiprybę semia\n"
GERMAN = "Über allen Gipfeln ist Ruh,\nkaum einen Hauch; süß\n"
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy\n"


@pytest.fixture(autouse=True)
def advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no encoding be sure, so that the error names all of them."""
    monkeypatch.setattr(reading, "MOST_ODDITY", -1.0)


def refusal(path: Path, encoding: str = "utf-8", **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read_text(path, encoding, **options)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()
    return str(caught.value)


def named_encodings(message: str) -> list[str]:
    return re.findall(r"data\.encoding=(\S+) \('", message)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "song.txt"


@pytest.mark.parametrize(
    ("text", "encoding", "first"),
    [
        (CHINESE, "gb18030", "gb18030"),
        (PUNCTUATED, "gb18030", "gb18030"),
        (TRADITIONAL, "big5", "big5"),
        (JAPANESE, "shift_jis", "shift_jis"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (KOREAN, "euc_kr", "euc_kr"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8_r", "koi8_r"),
        (SMART, "cp1252", "cp1252"),
        (FRENCH, "latin-1", "cp1252"),  # cp1252 reads the same
        (FRENCH, "mac_roman", "mac_roman"),
        (GREEK, "cp1253", "cp1253"),
        (CZECH, "cp1250", "cp1250"),
        (CZECH_VERSE, "cp1250", "cp1250"),
        (TURKISH, "cp1254", "cp1254"),
        (HUNGARIAN, "cp1250", "cp1250"),
        (LITHUANIAN, "cp1257", "cp1257"),
        (GERMAN, "cp1252", "cp1252"),
        (CHINESE, "utf-16-le", "utf-16-le"),
        (CHINESE, "utf-16-be", "utf-16-be"),
        (CHINESE, "utf-32-le", "utf-32-le"),
    ],
)
@pytest.mark.parametrize("chunk", [1 << 20, 7])
def test_the_most_plausible_encoding_comes_first_and_reads_the_text(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str, encoding: str, first: str, chunk: int
) -> None:
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    content = text.encode(encoding)
    file.write_bytes(content)
    message = refusal(file)
    if chunk > 7:  # small pieces leave too few characters to tell
        assert named_encodings(message)[0] == first
    for name in named_encodings(message):
        content.decode(name)  # raises no error
    excerpts = re.findall(r" \('(.*?)'\)", message)
    assert any(excerpt in " ".join(text.split()) for excerpt in excerpts)
    assert read_text(file, first) == text


@pytest.mark.parametrize("tried", ["gb18030", "GBK", "euc_kr", "utf-8", "cp1252", "ascii"])
def test_the_encoding_just_tried_is_never_advised(file: Path, tried: str) -> None:
    file.write_bytes(TRADITIONAL.encode("big5") + b"\xff\x81\n")
    found = named_encodings(refusal(file, tried))
    assert codecs.lookup(tried).name not in [codecs.lookup(name).name for name in found]


@pytest.mark.parametrize(
    ("text", "encoding", "tried"),
    [(SMART, "cp1252", "latin-1"), (RUSSIAN, "utf-8", "latin-1"), (GREEK, "utf-8", "iso8859-15")],
)
def test_an_encoding_that_reads_control_characters_is_refused(
    file: Path, text: str, encoding: str, tried: str
) -> None:
    file.write_bytes(text.encode(encoding))
    message = refusal(file, tried)
    assert "control characters: U+00" in message
    assert named_encodings(message)[0] == encoding
    assert "data.control_characters" not in message
    file.write_bytes(b"one\x85two\x0cthree\n")  # next line (U+0085) and a form feed
    assert "data.control_characters=newline" in refusal(file, tried)


def test_an_ideograph_inside_a_word_is_not_plausible(file: Path) -> None:
    file.write_bytes(FRENCH.replace(" ", "").encode("cp1252") * 20)
    found = named_encodings(refusal(file))
    assert found[0] == "cp1252"
    file.write_bytes("wörd ünd \n".encode("latin-1") * 20)
    assert named_encodings(refusal(file, "ascii"))[0] == "cp1252"


def test_bytes_of_no_encoding_are_refused_without_advice(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 3)
    assert "no encoding known here" in refusal(file)


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_damaged_place_is_not_another_encoding(file: Path, encoding: str) -> None:
    file.write_bytes((CHINESE * 9).encode(encoding) + b"\xff\n" + CHINESE.encode(encoding))
    message = refusal(file, encoding)
    assert named_encodings(message) == []
    assert "the rest of the file is in it: mend this place" in message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("asked", ["utf-8", "gb18030", "latin-1", "utf-16-be", "utf-32"])
def test_a_byte_order_mark_decides(file: Path, encoding: str, asked: str) -> None:
    file.write_bytes(CHINESE.encode(encoding))
    assert read_text(file, asked) == CHINESE
    if encoding == "utf-16":
        file.write_bytes(codecs.BOM_UTF16_BE + CHINESE.encode("utf-16-be"))
        assert read_text(file, asked) == CHINESE


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_bzip2_and_xz_are_read(
    file: Path, monkeypatch: pytest.MonkeyPatch, pack, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    packed = pack(CHINESE.encode())
    file.write_bytes(packed + pack(CHINESE.encode()))  # both formats allow joined files
    assert read_text(file) == CHINESE * 2
    file.write_bytes(packed[:-9])
    assert "is a damaged" in refusal(file)
    file.write_bytes(packed[:20] + b"!!!!" + packed[24:])
    assert "is a damaged" in refusal(file)
    file.write_bytes(pack(b"a b\n" * 1000))
    assert "999 bytes" in refusal(file, max_bytes=999)
    monkeypatch.setattr("lyricgen.data.cache.LARGE_PACKED", 10)
    assert is_large(file)


def _zip(tmp_path: Path, name: str) -> bytes:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr(name, "<a/>")
    return (tmp_path / "archive").read_bytes()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4 and so on", "7z"),
        (b"Rar!\x1a\x07\x01\0", "RAR"),
        (b"\x28\xb5\x2f\xfd\x24", "Zstandard"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        (b"{\\rtf1\\ansi hello}", "RTF"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html>\n<p>hello", "HTML"),
        (b"<HTML><p>hello", "HTML"),
        (b"<head><title>a</title></head><body>hello", "HTML"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "Office"),
        (b"\x89PNG\r\n\x1a\n\0", "picture"),
        (b"SQLite format 3\0", "SQLite"),
        (b"song.txt" + bytes(249) + b"ustar\0" + b"00hello", "tar"),
        (b"word/document.xml", "docx"),
        (b"xl/workbook.xml", "xlsx"),
        (b"META-INF/container.xml", "EPUB"),
        (b"content.xml", "OpenDocument"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, bz2.compress])
def test_refusal_names_the_format_of_a_file_that_is_no_plain_text(
    tmp_path: Path, content: bytes, kind: str, pack
) -> None:  # type: ignore[no-untyped-def]
    if content.endswith(b".xml"):
        content = _zip(tmp_path, content.decode())
        kind = kind if pack is bytes else "packed twice"
    file = tmp_path / "song.txt"
    file.write_bytes(pack(content))
    message = refusal(file)
    assert kind in message
    assert "data.path=FILE" in message
    assert "data.encoding" not in message
