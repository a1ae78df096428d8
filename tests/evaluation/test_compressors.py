"""Held-out text scored by a compressor: equal to the package's own sizes, and never mixed in."""

import json
import math
import random
import sys
from typing import Any

import pyppmd
import pytest

from lyricgen.evaluation import compressors
from lyricgen.evaluation.compressors import ORDERS, compress_splits, compressed_loss, memory_size
from lyricgen.evaluation.scores import CheckpointWithText, open_checkpoints
from tests.conftest import Evaluate, Train, directory_of, messages, refusal

LINES = ("data=dino", "data.batch_size=4")
WHOLE = ("model=ngram", "data.max_chars=null")  # the whole text, without training


def opened(trained: Train, *overrides: str) -> CheckpointWithText:
    [evaluated] = open_checkpoints([directory_of(trained, *overrides)])
    return evaluated


def size(text: str | bytes, order: int, memory: int = 2**28) -> int:
    compressor = pyppmd.PpmdCompressor(order, memory, variant="H")
    return len(compressor.compress(text)) + len(compressor.flush())


def nats_by_hand(train: str, text: str, order: int) -> float:
    return (size(train + text, order) - size(train, order)) * 8 / len(text) * math.log(2)


def texts_of(evaluated: CheckpointWithText) -> dict[str, str]:
    """Texts of the splits: slices of the running text, or lines that end in newlines."""
    whole, found, start = evaluated.corpus, {}, 0
    for name, split in evaluated.splits.items():
        if split.line_starts is None:
            stop = start + len(split.ids)
            found[name] = whole.vocabulary.decode(whole.ids[start:stop])
            start = stop
        else:
            characters = [*whole.vocabulary.characters, ""]  # the start symbol has no character
            found[name] = "".join(characters[number] for number in split.ids.tolist())
    return found


@pytest.mark.parametrize("overrides", [(), LINES], ids=["lyrics", "names"])
def test_the_figure_is_a_difference_of_sizes_at_the_best_order_of_validation(
    trained: Train, overrides: tuple[str, ...]
) -> None:
    evaluated = opened(trained, *overrides)
    texts = texts_of(evaluated)
    on_val = {order: nats_by_hand(texts["train"], texts["val"], order) for order in ORDERS}
    best = min(on_val, key=on_val.__getitem__)
    found = compress_splits(evaluated, ["train", "val", "test"])
    assert list(found) == ["val", "test"]
    for split, [row] in found.items():
        expected = nats_by_hand(texts["train"], texts[split], best)
        assert row.order == best
        assert row.characters == len(texts[split])
        assert row.loss == (pytest.approx(expected, rel=1e-12), None, None)
        assert row.perplexity.value == pytest.approx(math.exp(expected))
        assert row.bits_per_char.value == pytest.approx(expected / math.log(2))
        assert f"all {len(texts['train']):,} characters" in row.note
        assert "on val" in row.note
    [alone] = compress_splits(evaluated, ["test"])["test"]
    assert alone == found["test"][0]


def test_the_bundled_songs(trained: Train) -> None:
    """Figures that other programs and people can compute again, with variant H of PPMd."""
    found = compress_splits(opened(trained, *WHOLE), ["val", "test"])
    [val], [test] = found["val"], found["test"]
    assert val.order == 16
    assert val.loss.value == pytest.approx(4.431, abs=0.005)
    assert test.loss.value == pytest.approx(4.426, abs=0.005)


def test_an_unlimited_memory_changes_nothing() -> None:
    """The text takes most memory: its second half repeats what had no context yet."""
    text = random.Random(1).randbytes(30_000) * 2
    for order in ORDERS:
        assert size(text, order, memory_size(order, len(text))) == size(text, order)
    assert size(text, 32, memory_size(32, len(text)) // 4) > size(text, 32)  # it starts anew


def test_only_the_end_of_a_long_training_split_is_read(
    trained: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = opened(trained, "callbacks.baseline.max_chars=700")
    texts = texts_of(evaluated)
    [row] = compress_splits(evaluated, ["val"])["val"]
    assert row.order is not None
    assert f"the last 700 of {len(texts['train']):,} characters" in row.note
    expected = nats_by_hand(texts["train"][-700:], texts["val"], row.order)
    assert row.loss.value == pytest.approx(expected, rel=1e-12)

    least = len(texts["val"].encode())
    monkeypatch.setattr(compressors, "MOST_MEMORY", memory_size(32, least + 301))
    [row] = compress_splits(evaluated, ["val"])["val"]
    assert row.order is not None
    end = texts["train"].encode()[-301:]
    expected = compressed_loss(end, texts["val"], row.order)
    assert row.loss.value == pytest.approx(expected, rel=1e-12)
    assert f"the last {len(end.decode(errors='ignore'))} of" in row.note


def test_without_validation_the_order_is_the_best_on_the_only_split(trained: Train) -> None:
    evaluated = opened(trained, "data.val_fraction=0")
    texts = texts_of(evaluated)
    found = compress_splits(evaluated, list(evaluated.splits))
    assert list(found) == ["test"]
    [row] = found["test"]
    assert "on test" in row.note
    best = min(nats_by_hand(texts["train"], texts["test"], order) for order in ORDERS)
    assert row.loss.value == pytest.approx(best, rel=1e-12)


def test_figures_with_memory_have_a_table_and_a_place_of_their_own(
    trained: Train, evaluate: Evaluate
) -> None:
    path = directory_of(trained)
    [row] = compress_splits(opened(trained), ["val"])["val"]
    done = evaluate(path, "--compressors", "--split", "val", "--json")
    assert (done.status, messages(done.err)) == (0, [])
    part: dict[str, Any] = json.loads(done.out)["parts"]["val"]
    assert "compressor" not in {model["kind"] for model in part["models"]}
    [found] = part["with_memory"]
    assert found == {
        "name": f"PPMd order {row.order}",
        "kind": "compressor",
        "characters": row.characters,
        "loss": {"value": row.loss.value, "low": None, "high": None},
        "memory_bits_per_char": {"value": row.bits_per_char.value, "low": None, "high": None},
        "memory_perplexity": {"value": row.perplexity.value, "low": None, "high": None},
        "order": row.order,
        "scope": None,
        "reach": None,
        "block_length": None,
        "note": row.note,
    }
    plain = json.loads(evaluate(path, "--split", "val", "--json").out)["parts"]["val"]
    assert plain == part | {"with_memory": []}

    done = evaluate(path, "--compressors", "--split", "val")
    before, _, table = done.out.partition(
        "val of lyrics, with memory (these models learn as they read)"
    )
    assert "uniform" in before
    assert "PPMd" not in before
    [line] = [line for line in table.splitlines() if line.split()[:1] == ["PPMd"]][:1]
    figures = (row.loss.value, row.bits_per_char.value, row.perplexity.value)
    assert line.split()[3:] == [f"{v:,.{n}f}" for v, n in zip(figures, (3, 3, 2), strict=True)]
    assert "with memory" not in evaluate(path, "--split", "val").out


def test_a_missing_package(
    trained: Train, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    line = refusal(evaluate(directory_of(trained), "--compressors"))
    assert "--compressors needs the package pyppmd" in line
    assert "pip install 'lyricgen[compressors]'" in line


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        (["objective=fill"], [], "--compressors asks what the characters before are worth"),
        ([], ["--split", "train"], "--compressors needs a held-out split: choose val or test"),
        ([], ["--text", "ab"], "--compressors and --text do not go together"),
        ([], ["--memorisation"], "--compressors and --memorisation do not go together"),
    ],
    ids=["fill", "train", "text", "memorisation"],
)
def test_what_has_no_reference_is_refused(
    trained: Train, evaluate: Evaluate, overrides: list[str], arguments: list[str], message: str
) -> None:
    assert message in refusal(
        evaluate(directory_of(trained, *overrides), "--compressors", *arguments)
    )


def test_a_held_out_split_that_no_memory_holds(
    trained: Train, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory_of(trained)
    monkeypatch.setattr(compressors, "MOST_MEMORY", memory_size(32, 100))
    line = refusal(evaluate(path, "--compressors"))
    assert "bytes in UTF-8, and PPMd can keep 100 in memory" in line
