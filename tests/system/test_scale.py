"""Long texts train in little memory; a second start does not encode them again."""

import itertools
import mmap
import os
import re
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from lyricgen.data import cache
from lyricgen.data.corpus import BLOCK, CheckedMapping
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.samplers import RandomSampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from tests.conftest import TINY, Train
from tests.helpers.datamodules import stub_trainer
from tests.helpers.scripts import benchmark

STATUS = Path("/proc/self/status")
LENGTH = 800_000_000


def mapped_megabytes() -> float:
    """Megabytes of mapped files that count as this process's memory."""
    found = re.search(r"RssFile:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1000


@pytest.mark.slow
@pytest.mark.skipif(
    not STATUS.exists() or not hasattr(mmap, "MADV_DONTNEED"), reason="needs Linux to be measured"
)
@pytest.mark.parametrize("rows", [8, 64])
def test_memory_of_a_mapped_text_is_returned_after_reading(tmp_path: Path, rows: int) -> None:
    """Each row maps up to two megabytes around it, even if it is short."""
    path = tmp_path / "ids"
    path.touch()
    os.truncate(path, LENGTH)
    with path.open("rb") as stream:
        while stream.read(1 << 24):  # pages in the system's cache are mapped around a row
            pass
        pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    ids = torch.from_numpy(np.frombuffer(pages, np.uint8))
    sums = [zlib.crc32(block) for block in np.split(ids.numpy(), range(BLOCK, LENGTH, BLOCK))]
    mapping = CheckedMapping(pages, sums, LENGTH, pytest.fail)
    sampler = RandomSampler(LENGTH, rows, 100, seed=0, drop_last=True)

    def most_megabytes(split: Split) -> float:
        data = CharacterDataModule(Vocabulary("ab"), {"train": split, "val": split}, sampler)
        data.trainer = stub_trainer()  # type: ignore[assignment]
        before = mapped_megabytes()
        batches = itertools.islice(data.train_dataloader(), 8000 // rows)
        assert data.evaluation_loader("val")._mapping is split.mapping
        return max(mapped_megabytes() - before for _ in batches)

    assert most_megabytes(Split(ids, None, mapping=mapping)) < 400
    assert most_megabytes(Split(ids, None)) > 600  # so there was memory to return


@pytest.mark.slow
def test_a_mapped_text_trains_as_one_in_memory(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LYRICGEN_DATA", str(tmp_path / "kept"))
    path = tmp_path / "song.txt"
    path.write_text("Σ想要 有直升机\r\nAnd cafe\u0301 too\n" * 200, encoding="utf-8")
    overrides = (*TINY, "data=text", f"data.path={path}", "data.lowercase=true")
    in_memory = train(*overrides)
    assert not (tmp_path / "kept").exists()
    monkeypatch.setattr(cache, "LARGE", 100)
    monkeypatch.setattr(cache, "LARGE_PACKED", 100)
    for message in ("encoded into", ""):
        mapped = train(*overrides)
        assert ("encoded into" in mapped.out) == bool(message)
        for figure in ("train/loss", "val/loss", "test/mixture_perplexity", "samples"):
            assert mapped.summary[figure] == in_memory.summary[figure]
    assert len(list((tmp_path / "kept" / "encoded").glob("*.ids"))) == 1
    refused = train(*overrides, "data.max_bytes=1000")
    assert refused.status == 2
    assert "data.max_bytes=2000" in refused.err


def test_the_table_says_how_many_characters_were_counted(train: Train) -> None:
    done = train(*TINY, "callbacks.baseline.max_chars=700")
    assert done.summary["ngram_characters"] == 700
    assert done.summary["ngram_sampled"]
    assert "n-grams of the last 700 characters of the training split" in done.out
    assert "n-grams of the last" not in train(*TINY).out


@pytest.mark.slow
def test_the_command_on_a_long_text(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "long.txt"
    with path.open("wb") as stream:
        while stream.tell() < 100_000_000:
            codes = 0x4E00 + (3000 * generator.random(1 << 20) ** 3).astype("<u4")
            codes[::31] = 10
            stream.write(codes.tobytes().decode("utf-32-le").encode())
    size = path.stat().st_size
    overrides = [
        *("recipe=none", "data=text", "data.max_held_out=2000", "sampler=random", "hidden_size=16"),
        *("trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=70"),
        "callbacks.baseline.max_chars=50000",
    ]
    figures = []
    for start in ("first", "second"):
        outputs = tmp_path / start
        log_path = tmp_path / f"{start}.txt"
        with log_path.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "lyricgen.train", *overrides, f"data.path={path}"],
                env=os.environ
                | {"LYRICGEN_DATA": str(tmp_path / "cache"), "LYRICGEN_OUTPUTS": str(outputs)},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            peak = peak_of(process)
        log = log_path.read_text()
        assert process.returncode == 0, log
        assert 1e8 < peak < 1.5e9
        assert ("encoded into" in log) == (start == "first")
        assert "data.max_held_out=2000" in log
        assert "n-grams are counted on the last 50,000 characters" in log
        [metrics] = outputs.rglob("metrics.csv")
        figures.append(losses(metrics))
    assert figures[0] == figures[1]
    [entry] = (tmp_path / "cache" / "encoded").glob("*.ids")
    assert entry.stat().st_size < size  # two bytes instead of three per character


def peak_of(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process; return its peak memory in bytes.

    The system's own figure for a child that has ended begins with the parent's.
    """
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        known = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        peak = max(peak, 1024 * int(known[1])) if known else peak
        time.sleep(0.02)
    return peak


def losses(metrics: Path) -> str:
    names, row = (line.split(",") for line in metrics.read_text("utf-8").splitlines())
    return str({name: value for name, value in zip(names, row, strict=True) if "loss" in name})


@pytest.mark.slow
def test_the_benchmark_fills_its_table(tmp_path: Path) -> None:
    sizes = ["--sizes", "0.1", "0.2", "--rounds", "1", "--steps", "2", "--threads", "1"]
    out = benchmark(tmp_path, "--scale", *sizes)
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:3]] for row in rows}
    assert len(cells) == 9
    assert all(float(cell.replace(",", "")) >= 0 for row in cells.values() for cell in row)
    assert cells["random, against"][0] == "1.000"
