"""A text too long for memory is encoded once into a file and read from it."""

import gzip
import io
import json
import logging
import os
import random
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lyricgen import files
from lyricgen.data import cache, reading
from lyricgen.data import corpus as corpora
from lyricgen.data.batch import BatchLoader
from lyricgen.data.cache import LargeText, encode_large, is_large
from lyricgen.data.corpus import CheckedMapping, EncodedCorpus, encode
from lyricgen.data.preparation import prepare
from lyricgen.data.samplers import RandomSampler
from lyricgen.data.splits import Split, make_splits
from lyricgen.errors import UserError
from tests.conftest import until
from tests.helpers.processes import start_process

TEXT = "\ufeffΑΣ café 分开\r\n想要有直升机, e\u0301\u0323 🚀 END OF LINE\n\r\n" * 40


@pytest.fixture(autouse=True)
def cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of the cache; pieces are so small that a text has many."""
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "kept"))
    monkeypatch.setattr(reading, "_CHUNK", 97)
    monkeypatch.setattr(cache, "_SECTION", 101)
    monkeypatch.setattr(cache, "_BLOCK", 13)
    return tmp_path / "kept" / "encoded"


def large_text(path: Path, **options: object) -> LargeText:
    settings: dict[str, object] = {"encoding": "utf-8", "newline": "keep", "lowercase": False}
    settings["control_characters"] = "refuse"
    return LargeText(path, **{**settings, "max_chars": None, "max_bytes": 10**6, **options})  # type: ignore[arg-type]


@pytest.fixture
def text(tmp_path: Path) -> LargeText:
    path = tmp_path / "song.txt"
    path.write_bytes(TEXT.encode())
    return large_text(path)


def entries(directory: Path) -> list[str]:
    return sorted(
        path.name
        for path in directory.iterdir()
        if path.suffix == ".ids" or path.name.startswith(".")
    )


def same(one: EncodedCorpus, other: EncodedCorpus) -> bool:
    return (
        (one.name, one.unit, one.vocabulary) == (other.name, other.unit, other.vocabulary)
        and one.ids.dtype == other.ids.dtype
        and torch.equal(one.ids, other.ids)
        and torch.equal(one.counts, other.counts)
        and one.digest == other.digest
    )


def encode_in_memory(**options: object) -> EncodedCorpus:
    return encode(prepare([TEXT.removeprefix("\ufeff")], name="a", unit="text", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("packing", ["plain", "gzip", "zip"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": True},
        {"newline": "space"},
        {"max_chars": 100},
        {"lowercase": True, "newline": "space", "max_chars": 1001},
    ],
)
def test_mapped_corpus_equals_corpus_in_memory(
    tmp_path: Path, packing: str, options: dict[str, object]
) -> None:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("song.txt", TEXT.encode())
    contents = {"plain": TEXT.encode(), "gzip": gzip.compress(TEXT.encode())}
    path = tmp_path / "song"
    path.write_bytes(contents.get(packing, zipped.getvalue()))
    for _ in range(2):  # first written, then found
        corpus = encode_large(large_text(path, **options), "a")
        assert same(corpus, encode_in_memory(**options))
        assert corpus.mapping is not None


def test_the_second_start_reads_no_text(text: LargeText, monkeypatch: pytest.MonkeyPatch) -> None:
    encode_large(text, "a")
    monkeypatch.setattr(cache, "text_pieces", None)
    assert same(encode_large(text, "a"), encode_in_memory())


def test_an_unchanged_file_is_not_hashed_again(
    text: LargeText, cache_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file just written is hashed: within one tick of the clock it may change unnoticed."""
    hashed: list[int] = []
    original = LargeText._hash

    def count(self: LargeText, size: int, passed: Callable[[int], object]) -> str:
        hashed.append(size)
        return original(self, size, passed)

    monkeypatch.setattr(LargeText, "_hash", count)
    for _ in range(2):
        encode_large(text, "a")
    assert len(hashed) == 2  # it has only just been written
    monkeypatch.setattr(cache, "SETTLED", -(10**18))
    for _ in range(3):
        assert same(encode_large(text, "a"), encode_in_memory())
    assert len(hashed) == 3
    path = Path(text.path)
    before = path.stat()
    path.write_bytes(TEXT.replace("café", "thé!").encode()[: before.st_size].ljust(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # its ctime still differs
    assert not same(encode_large(text, "a"), encode_in_memory())
    assert len(hashed) == 4
    for memory in cache_directory.glob("*.sum"):
        memory.write_text("[", "utf-8")
    encode_large(text, "a")
    assert len(hashed) == 5


@pytest.mark.parametrize("symbols", [3, 255, 256, 32_767, 32_768])
def test_ids_of_every_size(tmp_path: Path, symbols: int) -> None:
    path = tmp_path / "song.txt"
    characters = [chr(0x100 + i) for i in range(symbols + 0x800) if not 0xD700 <= i < 0xDF00]
    drawn = characters[:symbols] + random.Random(0).choices(characters[:symbols], k=500)
    path.write_text("".join(drawn), encoding="utf-8")
    corpus = encode_large(large_text(path), "a")
    expected = encode(prepare(["".join(drawn)], name="a", unit="text"))
    assert len(corpus.vocabulary) == len(expected.vocabulary)
    assert same(corpus, expected)


def test_training_split_is_counted_without_reading_its_ids(text: LargeText) -> None:
    corpus = encode_large(text, "a")
    splits = make_splits(corpus, layout="stream", val_fraction=0.2, test_fraction=0.1, split_seed=0)
    size = len(corpus.vocabulary)
    for split in splits.values():
        expected = np.bincount(split.ids.numpy(), minlength=size)
        np.testing.assert_array_equal(split.character_counts(size), expected)
        assert split.mapping is corpus.mapping


def test_other_content_or_options_make_another_entry(
    text: LargeText, cache_directory: Path
) -> None:
    changes: list[dict[str, object]] = [
        {},
        {"lowercase": True},
        {"newline": "space"},
        {"max_chars": 50},
        {"encoding": "utf-8-sig"},
    ]
    for number, change in enumerate(changes, 1):
        encode_large(replace(text, **change), "a")  # type: ignore[arg-type]
        assert len(entries(cache_directory)) == number
    encode_large(replace(text, max_bytes=10**5), "b")  # no change of the content
    assert len(entries(cache_directory)) == len(changes)
    content = TEXT.encode()
    for number, changed in enumerate(
        (
            content + b"!",
            content[:-1] + b"!",
            b"A" + content[5:],
            content.replace(b"END", b"ENE", 1),
        ),
        1,
    ):
        Path(text.path).write_bytes(changed)
        encode_large(text, "a")
        assert len(entries(cache_directory)) == len(changes) + number


def damages(content: bytes) -> Iterator[bytes]:
    yield b""
    yield content[:-1]
    yield content[1:]
    yield content[: len(content) // 2]
    yield content + b"\0"
    yield content[:-8] + b"notouurs"
    yield content[:-16] + b"\xff" * 8 + content[-8:]
    yield content[:-48] + bytes(32) + content[-16:]
    yield content.replace(b'"counts"', b'"amount"')
    yield content.replace(b'"counts": [', b'"counts": [1')


def test_a_damaged_entry_is_encoded_again(text: LargeText, cache_directory: Path) -> None:
    encode_large(text, "a")
    [name] = entries(cache_directory)
    whole = (cache_directory / name).read_bytes()
    for damaged in damages(whole):
        assert damaged != whole
        (cache_directory / name).write_bytes(damaged)
        assert same(encode_large(text, "a"), encode_in_memory())
        assert (cache_directory / name).read_bytes() == whole


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_encoding_leaves_no_entry(
    text: LargeText,
    cache_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    def stop(_: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", stop)
        with pytest.raises((KeyboardInterrupt, UserError)) as caught:
            encode_large(text, "a")
    if isinstance(error, OSError):
        message = str(caught.value)
        assert message.isprintable()
        for phrase in ("No space left", "LYRICGEN_DATA", str(cache_directory)):
            assert phrase in message
    assert entries(cache_directory) == []
    assert same(encode_large(text, "a"), encode_in_memory())


def encode_and_print(path: Path) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s", force=True)
    corpus = encode_large(LargeText(str(path), "utf-8", "refuse", "keep", False, None, 10**9), "a")
    counts = corpus.counts.square().sum().item()
    print(len(corpus), corpus.ids.long().sum().item(), counts, flush=True)


@pytest.mark.slow
def test_the_next_start_clears_what_a_killed_process_left(
    tmp_path: Path, cache_directory: Path
) -> None:
    path, output = tmp_path / "long.txt", tmp_path / "printed.txt"
    path.write_bytes(TEXT.encode() * 8000)
    process = start_process(encode_and_print, path, output=output)
    until(lambda: not process.is_alive() or list(cache_directory.glob(".*.ids.*")), 60, 0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [left] = entries(cache_directory)
    assert left.startswith(".")
    path.write_bytes(path.read_bytes())  # the same content has the same entry
    process = start_process(encode_and_print, path, output=output)
    process.join()
    assert process.exitcode == 0, output.read_text("utf-8")
    assert output.read_text("utf-8").splitlines()[-1].split()[0] == str(
        len(encode_in_memory()) * 8000 + 7999
    )
    [entry] = entries(cache_directory)
    assert not entry.startswith(".")


@pytest.mark.slow
def test_eight_processes_write_one_entry(tmp_path: Path, cache_directory: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(TEXT.encode() * 1000)
    outputs = [tmp_path / f"printed {number}.txt" for number in range(8)]
    processes = [start_process(encode_and_print, path, output=output) for output in outputs]
    for process in processes:
        process.join()
    printed = [output.read_text("utf-8").splitlines() for output in outputs]
    assert len({lines[-1] for lines in printed}) == 1
    messages = [line for lines in printed for line in lines[:-1]]
    assert sum("encoded into" in message for message in messages) == 1
    assert len(entries(cache_directory)) == 1


def test_a_process_that_waits_for_another_logs_it(
    text: LargeText, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acquired: list[object] = []

    class Held:
        def __init__(self, path: Path) -> None:
            assert path.suffix == ".lock"

        def acquire(self, **options: object) -> None:
            acquired.append(options)
            if options:
                raise cache.Timeout("held")
            encode_elsewhere()  # during the wait

        def release(self) -> None:
            acquired.append("released")

    def encode_elsewhere() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(cache, "FileLock", real)
            encode_large(text, "a")

    real = cache.FileLock
    monkeypatch.setattr(cache, "FileLock", Held)
    with caplog.at_level(logging.INFO):
        assert same(encode_large(text, "a"), encode_in_memory())
    assert acquired == [{"timeout": 0}, {}, "released"]
    assert "another process" in caplog.text
    assert caplog.text.count("encoded into") == 1


@pytest.mark.parametrize("added", ["新", "分"])  # a new character and a known one
def test_a_file_that_grows_while_it_is_read_is_refused(
    text: LargeText, cache_directory: Path, added: str
) -> None:
    class Growing(LargeText):
        def pieces(self, passed):  # type: ignore[no-untyped-def]
            yield from super().pieces(passed)
            with Path(self.path).open("ab") as stream:
                stream.write(added.encode())

    growing = Growing(**vars(text))
    with pytest.raises(UserError, match=r"was changed while it was read"):
        encode_large(growing, "a")
    assert entries(cache_directory) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the next test simulates it")
def test_a_cache_without_write_permission_is_refused(
    text: LargeText, cache_directory: Path
) -> None:
    cache_directory.mkdir(parents=True)
    cache_directory.chmod(0o500)
    with pytest.raises(UserError, match=r"Permission denied.*LYRICGEN_DATA"):
        encode_large(text, "a")


def test_a_cache_that_cannot_be_made_is_refused(text: LargeText, cache_directory: Path) -> None:
    cache_directory.parent.mkdir()
    cache_directory.write_bytes(b"a file")
    with pytest.raises(UserError, match=r"LYRICGEN_DATA") as caught:
        encode_large(text, "a")
    assert str(caught.value).isprintable()


def test_an_entry_in_a_read_only_cache_is_found(
    text: LargeText, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_large(text, "a")
    monkeypatch.setattr(cache, "FileLock", None)
    monkeypatch.setattr(Path, "mkdir", None)
    assert same(encode_large(text, "a"), encode_in_memory())


@pytest.mark.parametrize(
    ("content", "options", "phrase"),
    [
        (b"", {}, "is empty"),
        (b" \n \n", {}, "only white space"),
        (b"aaaa", {}, "one single symbol, 'a'"),
        (b"ab\xff", {}, "offset 2 "),
        (b"ab\ncd\0", {}, "line 2, column 3"),
        (b"abc", {"max_bytes": 2}, "data.max_bytes=4"),
        (b"abc", {"encoding": "hex"}, "data.encoding='hex'"),
        (gzip.compress(b"abc", mtime=0)[:-5], {}, "damaged gzip file"),
    ],
)
def test_a_faulty_large_text_is_refused_with_the_usual_message(
    tmp_path: Path, cache_directory: Path, content: bytes, options: dict[str, object], phrase: str
) -> None:
    path = tmp_path / "song.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        encode_large(large_text(path, **options), "a")
    assert phrase in str(caught.value)
    assert str(caught.value).isprintable()
    assert not cache_directory.exists() or entries(cache_directory) == []


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        encode_large(large_text(tmp_path / "none.txt"), "a")


def test_size_on_disk_decides_which_text_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LARGE", 2000)
    monkeypatch.setattr(cache, "LARGE_PACKED", 500)
    path = tmp_path / "song"
    for content, expected in (
        (b"a" * 2000, False),
        (b"a" * 2001, True),
        (gzip.compress(random.Random(0).randbytes(1000)), True),
        (gzip.compress(b"a" * 5000), False),
        (b"a" * 501, False),
    ):
        path.write_bytes(content)
        assert is_large(path) == is_large(str(path)) == expected
    assert not is_large(tmp_path / "none")
    assert not is_large(tmp_path)
    assert not is_large("a\0b")


def test_an_entry_describes_its_content_in_plain_json(
    text: LargeText, cache_directory: Path
) -> None:
    corpus = encode_large(text, "a")
    [name] = entries(cache_directory)
    content = (cache_directory / name).read_bytes()
    ids = np.frombuffer(content, np.uint8, len(corpus))
    described = json.loads(content[len(corpus) : -48])
    assert (
        "".join(described["characters"][i] for i in ids)
        == prepare([TEXT.removeprefix("\ufeff")], name="a", unit="text").text
    )


@pytest.fixture
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(corpora, "BLOCK", 256)
    return 256


def overwrite(path: Path, start: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(content)


@pytest.mark.parametrize("content", [b"\xff" * 9, b"\x01" * 9], ids=["no ids", "other ids"])
@pytest.mark.parametrize("when", ["before", "while mapped"])
def test_changed_ids_are_encoded_again_before_a_batch_reads_them(
    text: LargeText,
    cache_directory: Path,
    several_blocks: int,
    caplog: pytest.LogCaptureFixture,
    content: bytes,
    when: str,
) -> None:
    expected = encode_large(text, "a").ids.clone()
    [name] = entries(cache_directory)
    whole = (cache_directory / name).read_bytes()
    mapped = encode_large(text, "a") if when == "while mapped" else None
    overwrite(cache_directory / name, 2 * several_blocks + 5, content)
    corpus = mapped or encode_large(text, "a")
    assert corpus.mapping is not None
    sampler = RandomSampler(len(corpus), 4, 10, seed=0, drop_last=True)
    loader = BatchLoader(corpus.ids, sampler, torch.device("cpu"), mapping=corpus.mapping)
    for batch in loader:
        positions = batch.starts[:, None] + torch.arange(10)
        assert torch.equal(batch.inputs, expected[positions].long())
    assert (cache_directory / name).read_bytes() == whole
    assert caplog.text.count("is damaged; it is encoded anew") == 1


def test_each_block_is_checked_once_when_it_is_read(
    text: LargeText, several_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = encode_large(text, "a")
    summed: list[int] = []
    original = CheckedMapping._is_sound

    def count(self: CheckedMapping, block: int) -> bool:
        summed.append(block)
        return original(self, block)

    monkeypatch.setattr(CheckedMapping, "_is_sound", count)
    assert corpus.mapping is not None
    for _ in range(3):
        corpus.mapping.check(corpus.ids, torch.tensor([several_blocks - 3]), 7)
        corpus.mapping.check(corpus.ids[4 * several_blocks + 1 :], torch.tensor([0]), 7)
    assert sorted(summed) == [0, 1, 4]
    corpus.mapping.check(torch.zeros(9))  # not in the mapping
    for _ in range(3):
        corpus.mapping.check(corpus.ids)
    blocks = -(-corpus.ids.nbytes // several_blocks)
    assert sorted(summed) == list(range(blocks))


def test_every_reader_of_a_split_reads_sound_ids(
    text: LargeText, cache_directory: Path, several_blocks: int
) -> None:
    expected = encode_in_memory()
    size = len(expected.vocabulary)
    fractions: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.1, "split_seed": 0}
    readers: list[Callable[[EncodedCorpus], object]] = [
        lambda corpus: corpus.decode_opening(1000),
        lambda corpus: Split(corpus.ids, None, mapping=corpus.mapping).text(corpus.vocabulary),
        lambda corpus: Split(corpus.ids, None, mapping=corpus.mapping).last(50).tolist(),
        lambda corpus: Split(corpus.ids, None, mapping=corpus.mapping).sound_ids.tolist(),
        lambda corpus: (
            make_splits(corpus, layout="stream", **fractions)["train"]
            .character_counts(size)
            .tolist()
        ),
        lambda corpus: (
            make_splits(corpus, layout="stream", **fractions)["val"].character_counts(size).tolist()
        ),
    ]
    for read in readers:
        encode_large(text, "a")
        [name] = entries(cache_directory)
        content = bytearray((cache_directory / name).read_bytes())
        content[: len(expected)] = bytes(len(expected))
        (cache_directory / name).write_bytes(content)
        assert read(encode_large(text, "a")) == read(expected)


def test_a_mapped_file_cut_short_does_not_kill_the_process(
    text: LargeText, cache_directory: Path, several_blocks: int
) -> None:
    """A read beyond the end of a mapped file would kill the process by SIGBUS."""
    corpus = encode_large(text, "a")
    assert corpus.mapping is not None
    corpus.mapping.check(corpus.ids)
    expected = corpus.ids.clone()
    [name] = entries(cache_directory)
    for length in (several_blocks, 0):
        os.truncate(cache_directory / name, length)
        corpus.mapping.check(corpus.ids, torch.tensor([len(corpus) - 20]), 10)
        assert torch.equal(corpus.ids, expected)
    os.truncate(cache_directory / name, 0)
    Path(text.path).write_text("another text", "utf-8")
    with pytest.raises(UserError, match=r"is damaged, and 'a', .*: bring that text back"):
        corpus.mapping.check(corpus.ids)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("ending", [".ids", ".sum"])
def test_an_entry_of_another_user_is_refused(
    text: LargeText, cache_directory: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(cache, "SETTLED", -(10**18))
    encode_large(text, "a")
    [path] = cache_directory.glob(f"*{ending}")
    os.chown(path, 65534, -1)
    with pytest.raises(UserError, match=r"belongs to another user \(number 65534\): remove it"):
        encode_large(text, "a")
    path.unlink()
    assert same(encode_large(text, "a"), encode_in_memory())


def test_a_pipe_in_place_of_an_entry_does_not_block(text: LargeText, cache_directory: Path) -> None:
    encode_large(text, "a")
    [name] = entries(cache_directory)
    (cache_directory / name).unlink()
    os.mkfifo(cache_directory / name)
    assert same(encode_large(text, "a"), encode_in_memory())
