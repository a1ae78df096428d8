"""Figures with a memory: causal, fitted on the validation split, in tables of their own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lyricgen
from lyricgen.data.splits import Split
from lyricgen.evaluation.intervals import Estimate, Series, SplitText, row
from lyricgen.evaluation.scores import CheckpointWithText, open_checkpoints
from lyricgen.evaluation.with_memory import score_with_memory, separate_with_memory
from lyricgen.generation.remembering import remember
from lyricgen.models.scoring import split_nats
from tests.conftest import TINY, Evaluate, Train, directory_of


def row_of_series(series: Series, opened: CheckpointWithText, *, lines: bool) -> Estimate:
    text = SplitText.of(opened.splits["train"], opened.corpus.vocabulary, opened.corpus.unit)
    if not lines:
        text = SplitText(text.ids, text.sizes, None)
    return row(series, series, text, resamples=300, seed=1).loss


RUNS: dict[str, tuple[str, ...]] = {
    "network": (),
    "names": ("data=dino", "data.batch_size=4"),
    "hybrid": ("model=hybrid",),
    "n-grams": ("model=ngram", "data.max_chars=3000"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_figures_with_memory_have_rows_of_their_own(
    evaluate: Evaluate, trained: Train, kind: str
) -> None:
    directory = directory_of(trained, *RUNS[kind])
    plain = json.loads(evaluate(str(directory), "--json").out)["parts"]
    done = evaluate(str(directory), "--memory", "--json")
    assert done.status == 0, done.err
    for split, part in json.loads(done.out)["parts"].items():
        assert part["models"] == plain[split]["models"]
        [row] = part["with_memory"]
        assert row["kind"] == "memory"
        assert row["loss"]["low"] <= row["loss"]["value"] <= row["loss"]["high"]
        assert (row["scope"], row["reach"]) == ("split", part["characters"] - 1)
        assert row["block_length"] >= 1
        assert row["note"] == "the memory is fitted on val"
    [on_val] = json.loads(done.out)["parts"]["val"]["with_memory"]
    assert on_val["loss"]["value"] < plain["val"]["models"][0]["loss"]["value"]


def test_the_table_says_what_the_figures_mean(evaluate: Evaluate, trained: Train) -> None:
    arguments = (str(directory_of(trained)), "--memory", "--memory-scope", "line")
    shown = " ".join(evaluate(*arguments).out.split())
    val = json.loads(evaluate(*arguments, "--json").out)["parts"]["val"]
    [row] = val["with_memory"]
    assert "val of lyrics, with memory (these models learn as they read)" in shown
    assert f"blocks of characters, {row['block_length']} ({row['name']})" in shown
    reach = f"a character may look back at up to {row['reach']} characters of its line"
    assert f"{row['name']}: {reach}; the memory is fitted on val" in shown


def test_a_figure_with_memory_does_not_depend_on_the_future(trained: Train) -> None:
    [opened] = open_checkpoints([directory_of(trained)])
    model = remember(opened.model, {}, opened.splits)
    ids = opened.splits["test"].sound_ids
    now = len(ids) // 2
    before = split_nats(model, Split(ids, None), "scoring")[:now]
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        future = torch.randint(len(model.vocabulary), (len(ids) - now,), generator=draw)
        changed = torch.cat([ids[:now], future.to(ids.dtype)])
        after = split_nats(model, Split(changed, None), "scoring")[:now]
        np.testing.assert_array_equal(after, before)


def test_scores_are_those_of_the_model_that_writes(trained: Train) -> None:
    [opened] = open_checkpoints([directory_of(trained, "model=hybrid")])
    model = remember(opened.model, {"scope": "line"}, opened.splits)
    ids = opened.splits["val"].sound_ids.long()
    found = split_nats(model, opened.splits["val"], "scoring")[1:]
    with torch.inference_mode():
        logits, _ = model.next_model(ids[None, :-1])
    expected = F.cross_entropy(logits[0], ids[1:], reduction="none")
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_a_run_with_memory_is_scored_with_and_without_it(
    evaluate: Evaluate, trained: Train
) -> None:
    done = trained(*TINY, "model=hybrid", "memory=cache")
    assert done.directory is not None
    parts = json.loads(evaluate(str(done.directory), "--json").out)["parts"]
    for split in ("val", "test"):
        [row] = parts[split]["with_memory"]
        expected = done.summary[f"{split}/memory_perplexity"]
        assert row["memory_perplexity"]["value"] == pytest.approx(expected, rel=1e-5)
        assert row["note"] == "the memory is trained"
        assert row["reach"] == done.summary["memory_reach"][split]
        first = parts[split]["models"][0]
        assert first["name"].endswith("without its memory")
        assert first["perplexity"]["value"] > row["memory_perplexity"]["value"]


def test_a_model_with_a_memory_of_its_own_takes_no_other(
    evaluate: Evaluate, trained: Train
) -> None:
    run = str(directory_of(trained, "model=hybrid", "memory=cache"))
    for more in ((), ("--text", "的的")):
        done = evaluate(run, "--memory", "--memory-scope", "line", *more)
        assert done.status == 2
        assert "has a memory of its own" in done.err


def test_lines_that_remember_each_other_are_drawn_in_blocks(trained: Train) -> None:
    """Lines are drawn one by one only if the memory begins anew at each of them."""
    [opened] = open_checkpoints([directory_of(trained, *RUNS["names"])])
    found = {}
    for scope in ("split", "line"):
        _, remembering = separate_with_memory([opened], {"scope": scope})
        [row] = score_with_memory(remembering, ["train"], [], resamples=300, seed=1)["train"]
        alone = row_of_series(Series("", "checkpoint", row.nats), opened, lines=scope == "line")
        assert row.loss == alone
        found[scope] = row.loss
    assert found["split"] != found["line"]


def test_lines_of_the_user_that_remember_each_other_are_drawn_in_blocks(
    evaluate: Evaluate, trained: Train, tmp_path: Path
) -> None:
    file = tmp_path / "names.txt"
    file.write_text("aachenosaurus\nabelisaurus\nacrocanthosaurus\n" * 3, encoding="utf-8")
    arguments = (str(directory_of(trained, *RUNS["names"])), "--text", str(file), "--json")
    found = {}
    for scope in ("split", "line"):
        done = evaluate(*arguments, "--memory", "--memory-scope", scope)
        [found[scope]] = json.loads(done.out)["models"]
    assert found["line"]["block_length"] is None
    assert found["split"]["block_length"] is not None


def test_a_text_of_the_user_is_scored_with_memory(
    evaluate: Evaluate, trained: Train, tmp_path: Path
) -> None:
    file = tmp_path / "歌 词.txt"
    model = lyricgen.load(directory_of(trained))
    line = "".join(model.vocabulary.characters[5:40])
    file.write_text(f"{line}\n" * 8, encoding="utf-8")
    arguments = (str(directory_of(trained)), "--text", str(file), "--json")
    [plain] = json.loads(evaluate(*arguments).out)["models"]
    [found] = json.loads(evaluate(*arguments, "--memory").out)["models"]
    assert found["memory_perplexity"]["value"] < 0.5 * plain["perplexity"]["value"]
    assert "perplexity" not in found
    shown = " ".join(evaluate(*arguments[:-1], "--memory").out.split())
    assert f"{found['note']}; figures without memory do not compare" in shown
    assert found["note"] == "a character may look back at up to 287 characters of its text"
    assert found["name"].endswith(" with memory")


def test_plots_and_pages_show_the_memory(
    evaluate: Evaluate, trained: Train, tmp_path: Path
) -> None:
    run, png, page = str(directory_of(trained)), tmp_path / "a.png", tmp_path / "a.html"
    assert evaluate(run, "--memory", "--png", str(png)).status == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert evaluate(run, "--memory", "--heat", str(page)).status == 0
    assert "With memory: a character may look back at up to " in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        (("objective=fill",), ("--memory",), "fills gaps"),
        (("data=dino", "data.batch_size=4"), ("--memory", "--heat", "a.html"), "reaches back"),
        (("data.val_fraction=0",), ("--memory",), "--memory is fitted on the validation split"),
        ((), ("--memory-scope", "line"), "--memory-scope needs --memory"),
        ((), ("--memory-size", "5"), "--memory-size needs --memory"),
    ],
)
def test_refusals(
    evaluate: Evaluate, trained: Train, overrides: Any, arguments: Any, message: str
) -> None:
    done = evaluate(str(directory_of(trained, *overrides)), *arguments)
    assert done.status == 2
    assert message in done.err
