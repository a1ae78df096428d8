"""The evaluate command on a user's own text: figures, pages of surprisal and memorisation."""

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.image
import pytest

from lyricgen.evaluate import main
from lyricgen.evaluation.memorisation import collect_lines
from lyricgen.evaluation.own_text import own_text
from lyricgen.evaluation.plots import read_logged_shares
from tests.conftest import CommandOutput, Train, refusal, run_main
from tests.helpers.checkpoints import content_of, model_of, save_checkpoint
from tests.helpers.own_texts import VOCABULARY, nats_one_by_one
from tests.helpers.pages import Page

Evaluate = Callable[..., CommandOutput]

PLAIN = ("recipe=none", "trainer=cpu", "trainer.max_epochs=2")
NAMES = (*PLAIN, "data=dino", "hidden_size=32", "layers=1")
LYRICS = (*PLAIN, "hidden_size=16", "data.max_chars=8000")


@pytest.fixture
def evaluate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Evaluate:
    monkeypatch.chdir(tmp_path)
    return partial(run_main, main, capfd)


def small_checkpoint(directory: Path, name: str = "a.ckpt", cell: str = "gru") -> Path:
    return save_checkpoint(directory, content_of(model_of(cell, vocabulary=VOCABULARY)), name)


# A text


def test_figures_of_a_text_typed_and_in_a_file(evaluate: Evaluate, tmp_path: Path) -> None:
    path = small_checkpoint(tmp_path)
    text = "ab分开 cd\n" * 6
    Path("歌.txt").write_text(text.replace("\n", "\r\n"), "utf-8")
    figures = json.loads(evaluate(path, "--text", "歌.txt", "--json").out)
    assert figures["text"] == "歌.txt"
    [model] = figures["models"]
    nats = nats_one_by_one(model_of("gru", vocabulary=VOCABULARY), text)[1:]
    loss = sum(nats) / len(nats)
    assert model["loss"]["value"] == pytest.approx(loss, rel=1e-5)
    assert model["perplexity"]["value"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert model["bits_per_char"]["value"] == pytest.approx(loss / math.log(2), rel=1e-5)
    size = len(text[1:].encode())
    assert model["bits_per_byte"]["value"] == pytest.approx(sum(nats) / math.log(2) / size, 1e-5)
    assert (model["characters"], model["bytes"], model["left_out"]) == (len(nats), size, 0)
    assert model["loss"]["low"] < loss < model["loss"]["high"]
    given = json.loads(evaluate(path, "--text", text, "--json").out)
    assert given == {**figures, "text": None}
    shown = evaluate(path, "--text", "歌.txt").out
    assert "'歌.txt'" in shown
    assert f"{math.exp(loss):.2f}" in shown


def test_several_checkpoints_on_a_text(evaluate: Evaluate, tmp_path: Path) -> None:
    one, other = small_checkpoint(tmp_path / "1"), small_checkpoint(tmp_path / "2", cell="rnn")
    figures = json.loads(evaluate(one, other, "--text", "ab分cd", "--json").out)
    assert [model["name"] for model in figures["models"]] == ["gru 1x12", "rnn 1x12"]
    assert figures["models"][0]["loss"] != figures["models"][1]["loss"]


def test_checkpoints_together_on_a_text(evaluate: Evaluate, tmp_path: Path) -> None:
    one, other = small_checkpoint(tmp_path / "1"), small_checkpoint(tmp_path / "2", cell="rnn")
    figures = json.loads(evaluate(one, other, "--text", "ab分cd", "--together", "--json").out)
    assert [model["name"] for model in figures["models"]] == [
        *("gru 1x12", "rnn 1x12", "ensemble of 2 (arithmetic)")
    ]
    models = [model_of(cell, vocabulary=VOCABULARY) for cell in ("gru", "rnn")]
    nats = [nats_one_by_one(model, "ab分cd")[1:] for model in models]
    whole = [-math.log((math.exp(-a) + math.exp(-b)) / 2) for a, b in zip(*nats, strict=True)]
    assert figures["models"][2]["loss"]["value"] == pytest.approx(sum(whole) / 4, rel=1e-5)


def test_unknown_characters(evaluate: Evaluate, tmp_path: Path) -> None:
    path = small_checkpoint(tmp_path)
    line = refusal(evaluate(path, "--text", "abΩ[c]分"))
    assert "the text given has 3 characters that the model does not know: '[', ']', 'Ω'" in line
    shown = evaluate(path, "--text", "abΩ[c]分", "--unknown", "skip")
    assert "does not know 3 characters, which are left out: '[', ']', 'Ω'" in shown.out
    figures = json.loads(evaluate(path, "--text", "abΩ分", "--unknown", "skip", "--json").out)
    assert (figures["models"][0]["left_out"], figures["models"][0]["characters"]) == (1, 2)
    Path("nuls").write_text("\0".join("ab" * 9), "utf-8")
    for task in ((), ("--heat", "page.html")):
        line = refusal(evaluate(path, "--text", "nuls", *task))
        assert line.endswith(
            "'nuls' has control characters: U+0000 (NUL) 17 times, first at line "
            "1, column 2; NULs alternate, as in UTF-16: name it (--encoding utf-16-le)"
        )


def test_the_test_split_scored_as_own_text(evaluate: Evaluate, train: Train) -> None:
    """The test split, scored as a user's text, has the perplexity that training reported."""
    done = train(*NAMES)
    assert done.directory is not None
    printed = evaluate(done.directory, "--heat", "page.html")
    assert printed.status == 0
    page = Page(Path("page.html").read_text("utf-8"))
    text = "".join("\n" if "n" in kind.split() else inside for _, kind, inside in page.cells)
    Path("split").write_text(text, "utf-8")
    figures = json.loads(evaluate("--text", "split", "--json").out)
    assert figures["models"][0]["perplexity"]["value"] == pytest.approx(
        done.summary["test/perplexity"], rel=1e-6
    )
    assert f"{done.summary['test/perplexity']:,.2f}" in page.texts


@pytest.mark.slow
def test_scoring_own_text_imports_no_training(tmp_path: Path) -> None:
    """Scoring a text imports neither Lightning nor matplotlib's plots, which take seconds."""
    path, page = small_checkpoint(tmp_path), tmp_path / "a.html"
    program = (
        "import sys\n"
        "from lyricgen.evaluate import main\n"
        f"main([{str(path)!r}, '--text', 'ab分cd', '--json'])\n"
        "print({'matplotlib', 'jinja2'} & set(sys.modules))\n"
        f"main([{str(path)!r}, '--text', 'ab分cd', '--heat', {str(page)!r}])\n"
        "print({'pytorch_lightning', 'matplotlib.figure'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\nset()\n")
    assert done.stdout.count("set()\n") == 2
    assert page.exists()


# The page


def test_page_of_a_text(evaluate: Evaluate, tmp_path: Path) -> None:
    path = small_checkpoint(tmp_path)
    printed = evaluate(path, "--heat", "热.html", "--text", "ab分\ncd")
    assert printed.out == f"surprisal of the text given, 6 characters, by {path}: 热.html\n"
    assert len(Page(Path("热.html").read_text("utf-8")).cells) == 6
    printed = evaluate(path, "--heat", "热.html", "--text", "ab分\ncd", "--heat-chars", "3")
    assert "the first 3 of 6 characters" in printed.out
    assert len(Page(Path("热.html").read_text("utf-8")).cells) == 3


def test_page_of_whole_lines(evaluate: Evaluate, tmp_path: Path) -> None:
    model = model_of("gru", vocabulary=VOCABULARY, layout="lines")
    path = save_checkpoint(tmp_path, content_of(model))
    evaluate(path, "--heat", "a.html", "--text", "ab\ncd\nabcd\n", "--heat-chars", "8")
    assert len(Page(Path("a.html").read_text("utf-8")).cells) == 6


def test_page_of_a_split(evaluate: Evaluate, train: Train) -> None:
    assert train(*LYRICS, "callbacks.samples.every_n_epochs=0").directory is not None
    assert "of the test split of lyrics, 800 char" in evaluate("--heat", "a.html").out
    printed = evaluate("--heat", "a.html", "--split", "train", "--heat-chars", "100")
    assert "of the train split of lyrics, the first 100 of 6,400 characters" in printed.out


def test_gates_and_page_at_once(evaluate: Evaluate, tmp_path: Path) -> None:
    Path("song").write_text("ab分\n", "utf-8")
    printed = evaluate(
        small_checkpoint(tmp_path), "--heat", "a.html", "--gates", "a.png", "--text", "song"
    )
    lines = [line for line in printed.texts if "fonts-noto-cjk" not in line]  # note without a font
    assert [line.split(":")[-1] for line in lines] == [" a.html", " a.png"]


# Memorisation


def test_memorisation_of_names(evaluate: Evaluate, train: Train) -> None:
    done = train(*NAMES, "callbacks.samples.every_n_epochs=1")
    assert done.directory is not None
    found = evaluate("--memorisation", "--json", "--png", "a.png", "--count", "200")
    assert "a.png" not in found.err
    [figures] = json.loads(found.out)["memorisation"]
    assert figures["generated"]["texts"] == 200
    assert figures["names"]["whole"] > 100
    assert figures["held_out"]["texts"] == 270
    assert set(figures["held_out"]["ngrams"]) == {str(n) for n in range(4, 13)}
    assert matplotlib.image.imread("a.png", format="png").shape[0] > 700  # both panels
    shown = evaluate("--memorisation", "--count", "200").out
    assert "longest run in the training text" in shown
    assert f"{100 * figures['names']['in_train']:.2f} %" in shown
    assert f"{100 * figures['held_out']['ngrams']['4']:.2f} %" in shown
    with (done.directory / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    curve = read_logged_shares(done.directory / "checkpoints" / "best.ckpt")[
        "samples/copied_ngrams_4"
    ]
    assert curve == [(float(r["epoch"]), float(r["samples/copied_ngrams_4"])) for r in rows]
    assert {"samples/distinct_2", "samples/in_held_out", "samples/longest_copied"} <= set(rows[0])


def test_memorisation_of_a_text(evaluate: Evaluate, train: Train) -> None:
    assert train(*LYRICS, "callbacks.samples.every_n_epochs=0").directory is not None
    one, again, hot = (
        evaluate("--memorisation", "--json", "--count", "5", *more).out
        for more in ((), (), ("--temperature", "2"))
    )
    assert one == again != hot
    [figures] = json.loads(one)["memorisation"]
    assert figures["generated"]["characters"] == 5 * 250
    assert figures["names"] is None
    assert figures["held_out"]["characters"] == 1600


def test_metrics_that_were_not_logged(tmp_path: Path) -> None:
    assert read_logged_shares(tmp_path / "checkpoints" / "a.ckpt") == {}
    (tmp_path / "metrics.csv").write_text("epoch,samples/copied_ngrams_4\n1,\nx,y\n", "utf-8")
    assert read_logged_shares(tmp_path / "checkpoints" / "a.ckpt") == {}


def test_distinct_lines_of_names_are_collected() -> None:
    model = model_of(layout="lines", vocabulary=VOCABULARY)
    split = own_text("ab\ncd\nab\n", "it", model).split
    assert collect_lines(split, VOCABULARY, "\n") == {"ab", "cd"}


# Arguments that do not go together


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--unknown", "skip"], "--unknown needs --text: give --text as well, or leave"),
        (["--unknown", "refuse", "--heat", "a.html"], "--unknown needs --text: give"),
        (["--encoding", "utf-8", "--heat", "a.html"], "--encoding needs --text: give"),
        (["--encoding", "utf-8", "--text", "ab"], "leave --encoding out"),
        (["--encoding", "big5"], "--encoding needs --text"),
        (["--count", "5"], "--count needs --memorisation: give"),
        (["--temperature", "1"], "--temperature needs --memorisation"),
        (["--heat-chars", "5"], "--heat-chars needs --heat"),
        (["--text", "a", "--curves"], "--curves and --text do not go together: leave one"),
        (["--text", "a", "--layer", "1"], "--layer needs --gates: give --gates as well, or leave"),
        (["--resamples", "1000", "--heat", "a.html"], "--resamples and --heat do not go together"),
        (["--memorisation", "--resamples", "1000"], "--resamples and --memorisation do not"),
        (["--text", "a", "--png", "a.png"], "--text and --png do not go together: leave"),
        (["--text", "ab", "--split", "val"], "--split and --text do not go together"),
        (["--text", "ab", "--heat", "a.html", "--split", "val"], "--split and --text"),
        (["--memorisation", "--text", "ab"], "--text and --memorisation do not"),
        (["--memorisation", "--heat", "a.html"], "--heat and --memorisation do not"),
        (["--memorisation", "--layer", "2"], "--layer and --memorisation do not"),
        (["--memorisation", "--count", "0"], "--count"),
        (["--memorisation", "--temperature", "nan"], "--temperature"),
        (["--heat", "a.txt"], "ends in .html"),
        (["--heat", "nowhere/a.html"], "no directory 'nowhere'"),
        (["--heat", "a.html", "--text", "none.txt"], "'none.txt' is not there"),
        (["--text", "a"], "only 1 characters to read; at least 2"),
        (["b.ckpt", "--heat", "a.html", "--text", "ab"], "name one checkpoint"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_faulty_arguments_are_refused(
    evaluate: Evaluate, tmp_path: Path, arguments: list[str], message: str
) -> None:
    assert message in refusal(evaluate(small_checkpoint(tmp_path), *arguments))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt"]


def test_models_that_do_not_compare(evaluate: Evaluate, tmp_path: Path, train: Train) -> None:
    done = train(*LYRICS, "objective=fill", "callbacks.samples.every_n_epochs=0")
    assert done.directory is not None
    assert "does not compare" in refusal(
        evaluate(done.directory, small_checkpoint(tmp_path), "--text", "ab")
    )
    assert "fills gaps" in refusal(evaluate(done.directory, "--memorisation"))
    assert "pseudo-perplexity" in evaluate(done.directory, "--text", "我们").out
    assert evaluate(done.directory, "--heat", "a.html").status == 0
