"""evaluate --lines: a row for each line of a file, as a table, CSV or JSON lines."""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lyricgen
from lyricgen.api.models import WritingModel
from lyricgen.evaluate import main
from tests.conftest import CommandOutput, Train, directory_of, refusal, run_main
from tests.helpers import hybrid_models, memory_models, ngram_models
from tests.helpers.checkpoints import VOCABULARY, content_of, model_of, save_checkpoint

Evaluate = Callable[..., CommandOutput]

LINES = ["ab分开", "", "Ω😀", "a", "分Ω开é,e", "abc分" * 600, " b分 ", "c"]
NAMES = ["line", "model", "nats", "perplexity", "characters", "unknown", "text"]


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Evaluate:
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("\n".join([*LINES, ""]), "utf-8")
    return partial(run_main, main, capfd)


def save(model: WritingModel, name: str = "a.ckpt") -> Path:
    return save_checkpoint(Path.cwd(), content_of(model), name)


def csv_rows(printed: CommandOutput) -> list[dict[str, str]]:
    assert printed.status == 0, printed.err
    return list(csv.DictReader(io.StringIO(printed.out)))


def json_rows(printed: CommandOutput) -> list[dict[str, Any]]:
    assert printed.status == 0, printed.err
    return [json.loads(line) for line in printed.out.splitlines()]


def forward_figures(model: Any, line: str) -> tuple[float, int]:
    """Nats of a line by a forward pass of its own, in float64, and the characters predicted."""
    lines = model.layout == "lines"
    known = "".join(one for one in line if one in model.vocabulary.characters)
    known = known.strip() + "\n" if lines else known
    ids = model.vocabulary.encode(known).long()
    ids = torch.cat([torch.tensor([len(model.vocabulary)]), ids]) if lines else ids
    if len(ids) < 2 + lines:
        return 0.0, 0
    with torch.inference_mode():
        logits, _ = model.next_model(ids[None, :-1])
    logs = logits[0].double().log_softmax(-1)
    return -float(logs.gather(1, ids[1:, None]).sum()), len(ids) - 1


KINDS: dict[str, Callable[[Any], WritingModel]] = {
    "lstm": lambda layout: model_of("lstm", layout=layout),
    "mixture": hybrid_models.model_of,
    "product": lambda layout: hybrid_models.model_of(layout, combination="product", short_list=4),
    "n-grams": lambda layout: ngram_models.model_of(layout=layout),
    "memory": lambda layout: WritingModel(
        memory_models.network_of(
            hybrid_models.network_of(layout, std=0.3),
            memory_models.RECALL.model_copy(update={"scope": "line"}),
            reads_hidden=True,
        ),
        *(VOCABULARY, layout, False),
    ),
}


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_python_and_of_a_forward_pass(
    evaluate: Evaluate, kind: str, layout: str
) -> None:
    path = save(KINDS[kind](layout))
    model = lyricgen.load(path)
    perplexity = f"{model.network.metric_prefix}perplexity"
    rows = json_rows(evaluate(path, "--lines", "lines.txt", "--jsonl"))
    assert [list(row) for row in rows] == [
        [perplexity if name == "perplexity" else name for name in NAMES]
    ] * len(LINES)
    scored = model.score(LINES)
    for number, (row, line, nats) in enumerate(zip(rows, LINES, scored, strict=True), 1):
        assert (row["line"], row["text"], row["model"]) == (number, line, model.network.description)
        total, characters = forward_figures(model, line)
        assert row["characters"] == characters == np.count_nonzero(~np.isnan(nats))
        read = line.strip() if layout == "lines" else line
        assert row["unknown"] == sum(one not in model.vocabulary.characters for one in read)
        assert row["nats"] == pytest.approx(total, abs=1e-5 * max(1, characters))
        assert row["nats"] == pytest.approx(np.nansum(nats), abs=1e-9)
        if characters:
            assert row[perplexity] == pytest.approx(math.exp(total / characters), rel=1e-5)
        else:
            assert row[perplexity] is None


def test_csv_has_the_figures_of_json(evaluate: Evaluate) -> None:
    path = save(model_of())
    rows = csv_rows(evaluate(path, "--lines", "lines.txt", "--csv"))
    expected = json_rows(evaluate(path, "--lines", "lines.txt", "--jsonl"))
    assert [list(row) for row in rows] == [NAMES] * len(LINES)
    for row, other in zip(rows, expected, strict=True):
        assert row == {
            name: "" if value is None else value if isinstance(value, str) else repr(value)
            for name, value in other.items()
        }


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends(evaluate: Evaluate, end: str, last: bool) -> None:
    text = end.join(["ab", "", "c\u2028d", " "]) + end * last
    Path("packed").write_bytes(gzip.compress(text.encode("utf-16")))
    rows = json_rows(evaluate(save(model_of()), "--lines", "packed", "--jsonl"))
    assert [row["text"] for row in rows] == ["ab", "", "c\u2028d", " "]
    assert [row["line"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("text", ["\n", "\n\n", "Ω😀\n", " \n"])
def test_a_file_without_known_characters(evaluate: Evaluate, text: str) -> None:
    Path("blank").write_text(text, "utf-8")
    rows = csv_rows(evaluate(save(model_of()), "--lines", "blank", "--csv"))
    assert [row["line"] for row in rows] == [str(1 + n) for n in range(text.count("\n"))]
    for row, line in zip(rows, text.split("\n"), strict=False):
        assert (row["nats"], row["perplexity"], row["characters"]) == ("0.0", "", "0")
        assert row["unknown"] == str(len(line))


def test_the_table(evaluate: Evaluate) -> None:
    path = save(model_of())
    [row, *_] = json_rows(evaluate(path, "--lines", "lines.txt", "--jsonl"))
    printed = evaluate(path, "--lines", "lines.txt")
    heading, _, *lines = [line.split() for line in printed.texts if line.strip()]
    assert heading == ["line", "nats", "perplexity", "characters", "unknown", "lines.txt"]
    assert [line[0] for line in lines[: len(LINES)]] == [str(1 + n) for n in range(len(LINES))]
    assert lines[0] == ["1", f"{row['nats']:.3f}", f"{row['perplexity']:.2f}", "3", "0", "ab分开"]
    assert lines[1] == ["2", "0.000", "–", "0", "0"]
    assert lines[5][-1].endswith("…")
    assert "does not know 6 characters, which are left out: ' ', ',', 'Ω', '😀'" in printed.out
    assert max(map(len, printed.texts)) < 180


def test_steering_characters_and_markup_are_shown_escaped(evaluate: Evaluate) -> None:
    Path("odd").write_text("a[b]\x1b[31m[red]\n", "utf-8")
    assert r"a[b]\x1b[31m[red]" in evaluate(save(model_of()), "--lines", "odd").out
    [row] = json_rows(evaluate("a.ckpt", "--lines", "odd", "--jsonl"))
    assert row["text"] == "a[b]\x1b[31m[red]"


def test_several_checkpoints_have_a_row_each(evaluate: Evaluate) -> None:
    one, other = save(model_of("gru"), "1/a.ckpt"), save(model_of("rnn"), "2/a.ckpt")
    rows = csv_rows(evaluate(one, other, "--lines", "lines.txt", "--csv"))
    assert [row["line"] for row in rows[:4]] == ["1", "1", "2", "2"]
    assert [row["model"] for row in rows[:4]] == ["gru 1x12", "rnn 1x12"] * 2
    alone = csv_rows(evaluate(other, "--lines", "lines.txt", "--csv"))
    assert rows[1::2] == alone
    shown = [line.split() for line in evaluate(one, other, "--lines", "lines.txt").texts]
    first = [line for line in shown if line[:1] == ["1"]]
    assert [line[:3] for line in first] == [["1", "gru", "1x12"], ["1", "rnn", "1x12"]]
    assert [line[-1] for line in first] == ["ab分开", "0"]


def test_models_together_are_scored_as_their_ensemble(evaluate: Evaluate, trained: Train) -> None:
    runs = [directory_of(trained), directory_of(trained, "model=ngram", "data.max_chars=1500")]
    model = lyricgen.load(runs)
    line = "".join(model.vocabulary.characters[5:30])
    Path("own.txt").write_text(f"{line}\n{line * 3}\n", "utf-8")
    done = evaluate(*runs, "--lines", "own.txt", "--together", "--csv")
    assert "ensemble of 2 models" in done.err
    rows = csv_rows(done)
    assert [row["model"] for row in rows[2::3]] == [model.network.description] * 2
    for row, nats in zip(rows[2::3], model.score([line, line * 3]), strict=True):
        assert float(row["nats"]) == pytest.approx(np.nansum(nats), abs=1e-9)
    with_memory = csv_rows(evaluate(*runs, "--lines", "own.txt", "--together", "--memory", "--csv"))
    assert "memory_perplexity" in with_memory[0]
    assert [row["model"].endswith("with memory") for row in with_memory] == [True] * 6


@pytest.mark.parametrize("scope", ["split", "line"])
def test_lines_with_memory(evaluate: Evaluate, trained: Train, scope: str) -> None:
    run = directory_of(trained)
    model = lyricgen.load(run).with_memory(scope)
    line = "".join(model.vocabulary.characters[5:30])
    Path("own.txt").write_text(f"{line}\n" * 3, "utf-8")
    options = (run, "--lines", "own.txt", "--memory", "--memory-scope", scope)
    rows = csv_rows(evaluate(*options, "--csv"))
    figures = [float(row["nats"]) for row in rows]
    expected = [np.nansum(nats) for nats in model.score([line] * 3)]
    np.testing.assert_allclose(figures, expected, atol=1e-6)
    assert (figures[1] < 0.5 * figures[0]) == (scope == "split")
    shown = " ".join(evaluate(*options).out.split())
    where = "reads on from line to line" if scope == "split" else "begins anew at each line"
    assert f"the memory {where}: compare only such figures" in shown


def test_figures_that_do_not_compare_have_names_and_tables_of_their_own(
    evaluate: Evaluate, trained: Train
) -> None:
    runs = [directory_of(trained), directory_of(trained, "model=hybrid", "memory=cache")]
    rows = csv_rows(evaluate(*runs, "--lines", "lines.txt", "--csv"))
    assert list(rows[0]) == [*NAMES, "memory_perplexity"]
    assert [row["perplexity"] != "" for row in rows[:2]] == [True, False]
    assert [row["memory_perplexity"] != "" for row in rows[:2]] == [False, True]
    shown = evaluate(*runs, "--lines", "lines.txt").out
    assert shown.count("lines.txt") == 2
    assert "memory-perplexity" in shown


def test_pseudo_perplexity_of_lines(evaluate: Evaluate, trained: Train) -> None:
    run = directory_of(trained, "objective=fill")
    rows = csv_rows(evaluate(run, "--lines", "lines.txt", "--csv"))
    assert "pseudo_perplexity" in rows[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lines", "none.txt"], "cannot read 'none.txt': No such file or directory; name a"),
        (["--lines", ""], "cannot read ''"),
        (["--lines", "."], "cannot read '.': Is a directory"),
        (["--lines", "empty"], "'empty' is empty; name a file with text in it (--lines FILE)"),
        (["--lines", "gb"], "--encoding gb18030"),
        (["--csv"], "--csv needs --lines: give --lines as well, or leave --csv out"),
        (["--lines", "lines.txt", "--csv", "--json"], "--lines and --json do not go together"),
        (["--lines", "lines.txt", "--csv", "--jsonl"], "--csv and --jsonl do not go together"),
        (["--lines", "lines.txt", "--text", "ab"], "--text and --lines do not go together"),
        (["--lines", "lines.txt", "--unknown", "skip"], "--unknown and --lines do not go"),
        (["--lines", "lines.txt", "--split", "val"], "--split and --lines do not go together"),
        (["--lines", "lines.txt", "--together"], "--together needs two checkpoints or more"),
        (["--lines", "lines.txt", "--memory-size", "3"], "--memory-size needs --memory"),
        (["--lines", "lines.txt", "--memory"], "--memory"),
    ],
    ids=" ".join,
)
def test_refusals(evaluate: Evaluate, arguments: list[str], message: str) -> None:
    Path("empty").touch()
    Path("gb").write_bytes("分开".encode("gb18030"))
    assert message in refusal(evaluate(save(model_of()), *arguments))
