"""Every corpus has one place; a published one must be the pinned file."""

import errno
import functools
import hashlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pooch
import pytest

import lyricgen
from lyricgen.data import options
from lyricgen.data.options import KINDS, PUBLISHED, PublishedText
from lyricgen.data.text_files import corpus_path
from lyricgen.errors import UserError
from tests.conftest import need_published

CONTENT = b"Zuul\nZupaysaurus\n"
SUM = hashlib.sha256(CONTENT).hexdigest()
URL = "https://example.invalid/names.txt"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty directory of published files, with a small file pinned as ``jaychou``."""
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLISHED, "jaychou", PublishedText("names.txt", URL, SUM))
    return tmp_path / "cache"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | Exception], list[str]]:
    """Answer every url with a content or an error; the rest of ``pooch`` is unchanged."""

    def serve(answer: bytes | Exception) -> list[str]:
        asked = []

        def download(url: str, output_file: str, _: object) -> None:
            asked.append(url)
            if isinstance(answer, Exception):
                raise answer
            Path(output_file).write_bytes(answer)

        monkeypatch.setattr(
            pooch, "retrieve", functools.partial(pooch.retrieve, downloader=download)
        )
        return asked

    return serve


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        pytest.fail("asked the network for a file")

    monkeypatch.setattr(pooch, "retrieve", refuse)


def refusal(kind: str, path: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        corpus_path(kind, path)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_the_kinds_are_the_documented_ones() -> None:
    assert sorted(KINDS) == ["coursera_dino", "dino", "jaychou", "lyrics", "text"]


@pytest.mark.parametrize("kind", ["lyric", "", "text ", "\x1b[31m"])
def test_refusal_of_an_unknown_kind_names_the_known_kinds(kind: str) -> None:
    message = refusal(kind)
    assert f"data={kind!r}" in message
    assert all(known in message for known in KINDS)


def test_own_text_has_the_given_path(tmp_path: Path) -> None:
    assert corpus_path("text", "songs/歌词.txt") == Path("songs/歌词.txt")
    assert corpus_path("text", tmp_path) == tmp_path


@pytest.mark.parametrize("path", [None, ""])
def test_own_text_needs_a_path(path: str | None) -> None:
    assert refusal("text", path) == "data=text needs data.path=FILE"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "text"])
def test_no_other_kind_takes_a_path(kind: str, no_network: None) -> None:
    message = refusal(kind, "mine\n.txt")
    for part in (f"data={kind} ", r"'mine\n.txt'", "data=text"):
        assert part in message


@pytest.mark.parametrize(("kind", "name"), [("lyrics", "lyrics.txt"), ("dino", "dino.txt")])
def test_bundled_texts_are_in_the_package(kind: str, name: str, no_network: None) -> None:
    path = corpus_path(kind)
    assert path == Path(lyricgen.__file__).parent / "data" / "corpora" / name
    assert path.is_file()


def test_the_pinned_file_is_used_without_the_network(cache: Path, no_network: None) -> None:
    cache.mkdir()
    (cache / "names.txt").write_bytes(CONTENT)
    assert corpus_path("jaychou") == cache / "names.txt"


def test_a_file_with_another_digest_stays_untouched(cache: Path, no_network: None) -> None:
    cache.mkdir()
    theirs = cache / "names.txt"
    theirs.write_bytes(b"mine")
    os.utime(theirs, ns=(1, 1))
    message = refusal("jaychou")
    for part in (SUM, hashlib.sha256(b"mine").hexdigest(), str(theirs), "LYRICGEN_DATA"):
        assert part in message
    assert theirs.read_bytes() == b"mine"
    assert theirs.stat().st_mtime_ns == 1
    assert list(cache.iterdir()) == [theirs]


def test_a_directory_in_place_of_the_file_stays_untouched(cache: Path, no_network: None) -> None:
    (cache / "names.txt").mkdir(parents=True)
    message = refusal("jaychou")
    assert str(cache / "names.txt") in message
    assert "directory" in message
    assert (cache / "names.txt").is_dir()


def test_a_broken_link_stays_untouched(cache: Path, no_network: None) -> None:
    cache.mkdir()
    (cache / "names.txt").symlink_to(cache / "not mounted")
    message = refusal("jaychou")
    assert str(cache / "names.txt") in message
    assert "No such file" in message
    assert (cache / "names.txt").is_symlink()


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may read a file of mode 000; the next test simulates it"
)
def test_a_file_without_read_permission_is_refused(cache: Path, no_network: None) -> None:
    cache.mkdir()
    (cache / "names.txt").write_bytes(CONTENT)
    (cache / "names.txt").chmod(0)
    assert "Permission denied" in refusal("jaychou")


def test_a_file_that_the_system_denies_is_refused(
    cache: Path, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *arguments: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    cache.mkdir()
    (cache / "names.txt").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "open", refuse)
    message = refusal("jaychou")
    for part in (str(cache / "names.txt"), "Permission denied", "LYRICGEN_DATA"):
        assert part in message


def test_a_missing_file_is_fetched_once_without_messages(
    cache: Path,
    serve: Callable[[bytes | Exception], list[str]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = serve(CONTENT)
    # pooch's logger has no parent, so caplog does not hear it
    monkeypatch.setattr(pooch.get_logger(), "handlers", [caplog.handler])
    pooch.get_logger().setLevel(logging.INFO)
    assert corpus_path("jaychou") == corpus_path("jaychou") == cache / "names.txt"
    assert asked == [URL]
    assert [path.name for path in cache.iterdir()] == ["names.txt"]
    assert (cache / "names.txt").read_bytes() == CONTENT
    assert caplog.messages == []


def offline() -> Exception:
    """Error as requests raises it: a long message around the system's short one."""
    error = ConnectionError(
        f"HTTPSConnectionPool: Max retries exceeded with url {URL}: " + "x" * 300
    )
    error.__context__ = RuntimeError("Failed to resolve")
    error.__context__.__cause__ = socket.gaierror(-2, "Name or service not known")
    return error


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>not found</html>", "hash"),
        (ConnectionError("no\nroute \x1b[31mto host"), "ConnectionError"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (ValueError("bad"), "bad"),
        (offline(), "(Name or service not known)"),
    ],
    ids=["another file", "no network", "disk full", "anything else", "offline"],
)
def test_a_failed_fetch_gives_advice_and_leaves_no_file(
    cache: Path,
    serve: Callable[[bytes | Exception], list[str]],
    answer: bytes | Exception,
    reason: str,
) -> None:
    serve(answer)
    message = refusal("jaychou")
    for part in (URL, reason, "by hand", str(cache / "names.txt")):
        assert part in message
    assert len(message.replace(URL, "").replace(str(cache), "")) < 250
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_refused(
    cache: Path, serve: Callable[[bytes | Exception], list[str]]
) -> None:
    asked = serve(CONTENT)
    cache.write_bytes(b"a file where the directory should be")
    message = refusal("jaychou")
    assert "by hand" in message
    assert str(cache) in message
    assert asked == []


@pytest.mark.parametrize("value", [None, ""])
def test_without_lyricgen_data_the_users_cache_is_used(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: None,
    value: str | None,
) -> None:
    if value is None:
        monkeypatch.delenv("LYRICGEN_DATA")
    else:
        monkeypatch.setenv("LYRICGEN_DATA", value)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "home" / project)
    (tmp_path / "home" / "lyricgen").mkdir(parents=True)
    (tmp_path / "home" / "lyricgen" / "names.txt").write_bytes(CONTENT)
    assert corpus_path("jaychou") == tmp_path / "home" / "lyricgen" / "names.txt"


def test_a_tilde_in_lyricgen_data_means_home(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[[bytes | Exception], list[str]],
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LYRICGEN_DATA", "~/kept")
    serve(CONTENT)
    assert corpus_path("jaychou") == tmp_path / "kept" / "names.txt"


@pytest.mark.parametrize(("kind", "size"), [("jaychou", 52_607), ("coursera_dino", 19_909)])
def test_the_published_files_equal_those_of_the_notebooks(
    kind: str, size: int, no_network: None
) -> None:
    need_published(kind)
    path = corpus_path(kind)
    assert path.parent == Path(os.environ["LYRICGEN_DATA"])
    assert path.stat().st_size == size


def test_published_files_are_pinned_to_one_revision_each() -> None:
    assert options.PUBLISHED.keys() == {"jaychou", "coursera_dino"}
    for published in options.PUBLISHED.values():
        assert published.url.startswith("https://raw.githubusercontent.com/")
        assert published.url.endswith("/" + published.file_name)
        assert any(len(part) == 40 and int(part, 16) for part in published.url.split("/"))
        assert len(bytes.fromhex(published.sha256)) == 32
