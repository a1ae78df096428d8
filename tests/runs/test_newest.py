"""The newest run, which commands take if none is named, and their message about it."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from lyricgen import evaluate, export, generate
from lyricgen.errors import UserError
from lyricgen.runs.newest import newest_checkpoint
from tests.conftest import SMALL, Main, Train, run_main

OPTIONS: dict[str, Any] = {
    "model": {"kind": "recurrent"}, "cell": {"kind": "gru"}, "layers": 2, "hidden_size": 64,
    "objective": "next", "data": {"kind": "dino", "path": None},
}  # fmt: skip


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


def add_run(
    outputs: Path, second: int, age: float | None, changed: dict[str, Any] | None = None,
    **summary: Any,
) -> Path:  # fmt: skip
    """Make a run that began at a second of the day; its checkpoint has the age, if any."""
    run = outputs / "runs/2026-01-02" / f"00-00-{second:02}.000000_x"
    (run / "checkpoints").mkdir(parents=True)
    options = OPTIONS | (changed or {})
    text = json.dumps({"status": "finished", "options": options} | summary)
    (run / "summary.json").write_text(text, "utf-8")
    if age is not None:
        best = run / "checkpoints/best.ckpt"
        best.touch()
        os.utime(best, (time.time() - age,) * 2)
    return run


@pytest.mark.parametrize(
    ("age", "expected_age"),
    [(-50, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (185, "3 minutes"),
     (3600, "1 hour"), (7300, "2 hours"), (86_400 * 400, "400 days")],
)  # fmt: skip
def test_the_message_gives_the_age(
    outputs: Path, capsys: pytest.CaptureFixture[str], age: int, expected_age: str
) -> None:
    run = add_run(outputs, 1, age + 0.2)
    assert newest_checkpoint() == run / "checkpoints/best.ckpt"
    expected = f"from {run}/checkpoints/best.ckpt: gru 2x64 on dino, {expected_age} old\n"
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize(
    ("changed", "description"),
    [
        ({"model": {"kind": "ngram", "order": 5, "smoothing": "kneser_ney"}},
         "5-gram kneser_ney on dino, "),
        ({"data": {"kind": "text", "path": "/a/b/my song.txt"}}, "gru 2x64 on my song.txt, "),
        ({"data": {"kind": "text", "path": "\x1b[2J\n.txt"}}, r"gru 2x64 on \x1b[2J\n.txt, "),
        ({"objective": "fill"}, "gru 2x64 on dino, fills gaps, "),
        ({"cell": "gru"}, ""),
        ({"data": None}, ""),
    ],
)  # fmt: skip
def test_the_message_describes_model_and_text(
    outputs: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, Any], description: str
) -> None:
    add_run(outputs, 1, 125, changed)
    best = newest_checkpoint()
    assert capsys.readouterr().err == f"from {best}: {description}2 minutes old\n"


def test_a_run_with_a_damaged_summary_is_taken(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = add_run(outputs, 1, 1)
    (run / "summary.json").write_text("[", "utf-8")
    assert newest_checkpoint().parent.parent == run
    assert re.search(r"best\.ckpt: \d+ seconds? old\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("summary", "why"),
    [
        ({"status": "failed", "reason": "optimizer.lr: too large"},
         "it failed: optimizer.lr: too large"),
        ({"status": "interrupted"}, "it was interrupted before it saved one"),
        ({"status": "running", "process": 2**22 + 1, "host": os.uname().nodename},
         "it was killed before it saved one"),
        ({}, "it saved none, or it was deleted"),
        ({"status": "\x1b]0;x\x07"}, "summary.json does not say why"),
        ({"status": "failed", "reason": "\x1b[2J\nx"}, r"it failed: \x1b[2J\nx"),
    ],
)  # fmt: skip
def test_a_run_without_a_checkpoint_is_skipped(
    outputs: Path, capsys: pytest.CaptureFixture[str], summary: dict[str, Any], why: str
) -> None:
    older = add_run(outputs, 1, 90)
    newest = add_run(outputs, 3, None, **summary)
    (outputs / "latest.txt").write_text(f"{newest.relative_to(outputs)}\n", "utf-8")
    assert newest_checkpoint().parent.parent == older
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"{newest} has no checkpoint ({why}): an older run is taken"
    assert second.startswith(f"from {older}/checkpoints/best.ckpt: ")
    add_run(outputs, 2, None)
    assert newest_checkpoint().parent.parent == older
    assert "), nor have 1 older runs: an older run is taken" in capsys.readouterr().err


def test_no_run_with_a_checkpoint_is_an_error(outputs: Path) -> None:
    with pytest.raises(UserError, match="no run found in 'outputs': train a run"):
        newest_checkpoint()
    run = add_run(outputs, 1, None, status="failed", reason="no luck")
    with pytest.raises(UserError, match=f"^{run} has no checkpoint .it failed: no luck.: train"):
        newest_checkpoint()


ARGUMENTS: list[tuple[Main, list[str]]] = [
    (generate.main, ["--length", "5"]),
    (generate.main, ["--length", "5", "--format", "jsonl"]),
    (evaluate.main, ["--part", "val", "--resamples", "100"]),
    (evaluate.main, ["--text", "我在我", "--json"]),
    (evaluate.main, ["--heat", "a.html", "--gates", "a.png", "--text", "我在我"]),
    (export.main, ["--out", "m.safetensors"]),
]


@pytest.mark.slow
def test_each_command_names_the_run_that_it_takes(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    run = train(*SMALL, "trainer.max_epochs=1").directory
    assert run is not None
    [short] = Path("outputs/runs").glob("*/*")
    line = rf"from {short}/checkpoints/best\.ckpt: lstm 1x16 on lyrics, \d+ seconds? old"
    for main, arguments in ARGUMENTS:
        done = run_main(main, capfd, *arguments)
        assert done.status == 0, done.err
        [message] = done.err.splitlines()
        assert re.fullmatch(line, message)
        assert "from outputs" not in done.out
    for main, arguments in ARGUMENTS[:-1]:
        assert run_main(main, capfd, run, *arguments).err == ""
    again = train("resume=latest", "trainer.max_epochs=2")
    assert again.status == 0
    assert re.fullmatch(rf"from {short}: lstm 1x16 on lyrics, \d+ seconds? old\n", again.err)
