"""Every option of the generate command, on the command line."""

import io
import json
import math
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

import lyricgen
from lyricgen.console import prepare_streams
from lyricgen.errors import escape_text
from lyricgen.generate import OWN_OPTIONS, create_parser, main
from lyricgen.generation.options import Control, Strategy
from lyricgen.generation.output import Stream, print_columns, print_json, print_texts
from lyricgen.generation.texts import GeneratedText
from lyricgen.generation.texts import generate as generated
from lyricgen.generation.verse import rhyme_classes
from tests.conftest import CommandOutput, refusal, run_main
from tests.helpers.constraints import nats
from tests.helpers.constraints import random_model as model_of
from tests.helpers.generating import train_run


@pytest.fixture(scope="module")
def verse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on lyrics with their line breaks."""
    place = tmp_path_factory.mktemp("verse")
    return train_run(place, "data.max_chars=12000", "optimizer.lr=0.03", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("names"), "data=dino", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def ngrams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of n-grams on the same names."""
    return train_run(tmp_path_factory.mktemp("ngrams"), "data=dino", "model=ngram", "model.order=3")


Generate = Callable[..., CommandOutput]


@pytest.fixture
def generate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Generate:
    monkeypatch.setenv("COLUMNS", "100")
    return partial(run_main, main, capsys)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--top-k", "5"], {"top_k": 5}),
        (["--top-p", "0.5"], {"top_p": 0.5}),
        (["--min-p", "0.2"], {"min_p": 0.2}),
        (["--repetition-penalty", "1.5"], {"repetition_penalty": 1.5}),
        (["--no-repeat-ngram", "2"], {"no_repeat_ngram": 2}),
        (["--only", "一-龥"], {"only": "一-龥"}),
        (["--ban", "的 了"], {"ban": "的 了"}),
        (["--generator", "numpy_reseeded"], {"generator": "numpy_reseeded"}),
        (["--temperature", "0.5", "--top-k", "9", "--min-p", "0.01", "--seed", "7"],
         {"temperature": 0.5, "top_k": 9, "min_p": 0.01, "seed": 7}),
    ],
)  # fmt: skip
def test_python_gives_the_same_texts(
    generate: Generate, verse: Path, arguments: list[str], options: dict[str, object]
) -> None:
    model = lyricgen.load(verse)
    texts = generate(verse, "--length", "30", *arguments).texts
    assert "\n".join(texts) == model.generate(length=30, **options)
    assert "\n".join(texts) != model.generate(length=30)


def test_the_command_has_all_options_of_generation() -> None:
    """Its other options are its own, go with --fill, or concern several texts."""
    parser = create_parser()
    own = {"fill", "sweeps", "gap", "count", "length", "seed", "generator", "stop"}
    passed = set(vars(parser.parse_args([]))) - {*OWN_OPTIONS, *own}
    assert passed == {*Strategy.model_fields, *Control.model_fields}


def test_a_verse(generate: Generate, verse: Path) -> None:
    """An acrostic, lines of seven characters and a rhyme, by every strategy."""
    request = ["--acrostic", "桥头有雨", "--line-length", "7", "--rhyme", "--only", "一-龥"]
    for strategy in (["--seed", "3"], ["--temperature", "0"], ["--beams", "3", "--count", "1"]):
        lines = generate(verse, *request, *strategy).texts[-4:]
        assert [line[0] for line in lines] == list("桥头有雨")
        assert [len(line) for line in lines] == [7] * 4
        ends = "".join(line[-1] for line in lines)
        assert len(set(ends)) == 4
        assert len(set(rhyme_classes(ends).tolist())) == 1
        assert all("一" <= c <= "龥" for line in lines for c in line)


def test_several_verses(generate: Generate, verse: Path) -> None:
    texts = generate(verse, "--prefix", "桥头", "--prefix", "我", "--lines", "8", "--line-length",
                     "7", "--count", "3").out.removesuffix("\n").split("\n\n")  # fmt: skip
    assert [text[:1] for text in texts] == ["桥"] * 3 + ["我"] * 3
    for text in texts:
        assert [len(line) for line in text.split("\n")] == [7] * 8
        assert not set(text) & {" ", "　"}


def test_lines_of_any_length(generate: Generate, verse: Path) -> None:
    lines = generate(verse, "--lines", "3", "--seed", "2").texts
    assert len(lines) == 3
    assert all(line.strip() for line in lines)
    assert len("\n".join(generate(verse, "--line-length", "5", "--length", "21").texts)) == 21
    assert all(generate(verse, "--lines", "3", "--length", "5").texts)
    assert len(generate(verse, "--lines", "3", "--length", "5").texts) == 3
    lines = generate(verse, "--acrostic", "桥头有雨", "--length", "9").texts
    assert [line[0] for line in lines] == list("桥头有雨")
    assert len("\n".join(lines)) <= 9


def test_names(generate: Generate, names: Path, ngrams: Path) -> None:
    for run in (names, ngrams):
        texts = generate(run, "--starts-with", "Tri", "--max-length", "9", "--count", "20").texts
        assert all(text.startswith("tri") and len(text) <= 9 for text in texts)
        assert any(len(text) == 9 for text in texts)
        novel = generate(run, "--novel", "--count", "20").texts
        assert len(set(novel)) == 20
        known = (Path(lyricgen.__file__).parent / "data/corpora/dino.txt").read_text("utf-8")
        # names that are held out are allowed but rare
        assert len(set(novel) & set(known.lower().split("\n"))) <= 2
        assert not set("".join(generate(run, "--ban", "aeiou", "--count", "9").texts)) & set(
            "aeiou"
        )


def test_beams(generate: Generate, names: Path) -> None:
    texts = generate(names, "--beams", "4", "--starts-with", "a", "--length-penalty", "0").texts
    found = generated(lyricgen.load(names), [""], beams=4, starts_with="a", length_penalty=0.0)
    assert texts == [f"{one.score:.3f}  {one.text}" for one in found]
    scores = [one.score or 0 for one in found]
    assert scores == sorted(scores, reverse=True)
    # without a penalty the score is the log-probability
    assert scores == pytest.approx([one.log_probability for one in found], rel=1e-4)
    assert generate(names, "--beams", "4", "--count", "2", "--starts-with", "a",
                    "--length-penalty", "0").texts == texts[:2]  # fmt: skip


def test_json_lines(generate: Generate, verse: Path) -> None:
    given = [
        "--prefix",
        "桥头",
        "--lines",
        "2",
        "--line-length",
        "5",
        "--count",
        "2",
        "--seed",
        "4",
    ]
    out = generate(verse, *given, "--format", "jsonl").out
    assert generate(verse, *given).out.split("\n\n")[0] == json.loads(out.split("\n")[0])["text"]
    model = lyricgen.load(verse)
    for line in out.splitlines():
        one = json.loads(line)
        names = ["prefix", "text", "strategy", "seed", "log_probability", "perplexity", "ended"]
        assert list(one) == names
        assert one["ended"]
        assert (one["prefix"], one["strategy"], one["seed"]) == ("桥头", "temperature 0.8", 4)
        assert one["log_probability"] == pytest.approx(nats(model, "桥头", one["text"]), rel=1e-4)
        new = len(one["text"]) - 2
        assert one["perplexity"] == pytest.approx(2.718281828 ** (-one["log_probability"] / new))
    [one] = map(
        json.loads, generate(verse, "--beams", "2", "--count", "1", "--format", "jsonl").texts
    )
    assert one["strategy"] == "beam 2"
    assert one["score"] < 0


class Terminal(io.StringIO):
    """A terminal that remembers its content at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def flush(self) -> None:
        self.seen.append(self.getvalue())


@pytest.mark.parametrize("arguments", [["--prefix", "桥头"], ["--lines", "2"], ["--beams", "1"]])
def test_watch(
    generate: Generate, verse: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--beams" in arguments:
        assert "--beams and --watch do not go together" in refusal(
            generate(verse, "--watch", *arguments)
        )
        return
    expected = generate(verse, *arguments).out
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    main([str(verse), "--watch", *arguments])
    assert terminal.getvalue() == expected
    first = 3 if "--prefix" in arguments else 1
    shown = list(dict.fromkeys(one for one in terminal.seen if one))
    assert [len(one) for one in shown] == list(range(first, len(expected) + 1))


def test_watch_a_name(generate: Generate, names: Path) -> None:
    expected = generate(names, "--prefix", "Tri")
    assert generate(names, "--prefix", "Tri", "--watch").out == expected.out
    assert len(expected.texts) == 1


def test_compare(generate: Generate, verse: Path, names: Path, tmp_path: Path) -> None:
    """Columns have one width despite wide Chinese characters, also without a terminal."""
    other = train_run(tmp_path, "data.max_chars=12000", "optimizer.lr=0.02")
    given = ["--lines", "2", "--line-length", "4", "--count", "2", "--prefix", "我"]
    out = generate("--compare", verse, other, *given).out
    assert len({cell_len(line) for line in out.splitlines()}) == 1
    for run in (verse, other):
        for line in "\n".join(generate(run, *given).texts).split():
            assert line in out
    assert generate(verse, "--compare", other, *given).out == out
    lines = generate(verse, "--compare", other, *given, "--format", "jsonl").texts
    sources = [json.loads(line).pop("checkpoint") for line in lines]
    assert sources == [str(verse)] * 2 + [str(other)] * 2
    assert "two checkpoints" in refusal(generate("--compare", verse))
    wrong = refusal(generate("--compare", verse, names, *given))
    assert wrong.startswith(f"error: {names}: --lines is for models of running text")


def test_a_thousand_texts_at_once(generate: Generate, names: Path) -> None:
    assert len(generate(names, "--count", "1000", "--length", "20").texts) == 1000


REFUSED = [
    (["--watch", "--count", "2"], "--watch shows one text"),
    (["--watch", "--prefix", "我", "--prefix", "在"], "--watch shows one text"),
    (["--watch", "--format", "jsonl"], "leave --format jsonl out"),
    (["--watch", "--novel"], "--novel and --watch do not go together: leave one"),
    (["--fill", "分_", "--lines", "2"], "--fill and --lines do not go together"),
    (["--fill", "分_", "--top-k", "2"], "--fill and --top-k do not go together"),
    (["--fill", "分_", "--format", "jsonl"], "--fill and --format do not go together"),
    (["--fill", "分_", "--watch"], "--fill and --watch do not go together"),
    (["--sweeps", "3"], "--sweeps needs --fill: give --fill as well"),
    (["--count", "1000000", "--length", "1000"], "are more than 100,000,000 in all"),
    (["--gap", "_"], "--gap needs --fill: give --fill as well"),
    (["--beams", "2", "--seed", "3"], "--seed and --beams do not go together"),
    (["--beams", "2", "--temperature", "1"], "--temperature and --beams do not go together"),
    (["--length-penalty", "1"], "--length-penalty needs --beams"),
    (["--top-k", "3", "--temperature", "0"], "--top-k 3 changes nothing at --temperature 0"),
    (["--rhyme"], "--rhyme needs --line-length"),
    (["--novel"], "--novel is for models of single lines"),
    (["--lines", "0"], "--lines 0"),
    (["--line-length", "2", "--lines", "2", "--length", "9"], "--length does not go"),
    (["--acrostic", "我爱恐龙"], "--acrostic '我爱恐龙': characters that the vocabulary"),
    (["--only", "\x1b"], "'\\x1b'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "shown"), REFUSED, ids=str)
def test_faulty_arguments_are_refused(
    generate: Generate, verse: Path, arguments: list[str], shown: str
) -> None:
    line = refusal(generate(verse, *arguments))
    assert shown in line
    assert line.isprintable()


def test_an_infinite_perplexity_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of("ab")
    with torch.no_grad():
        model.network.output.bias[0] = -5000
    [one] = generated(model, [""], only="a", length=3)
    assert (one.text, one.perplexity) == ("aaa", math.inf)
    assert one.log_probability == pytest.approx(-15000, rel=1e-2)
    print_json([[one]])
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["perplexity"] is None


STEERS = "我\u202e\u2066开\xad\u3000\u2029\ue000\ufeff\u200b\u2028\n在"
JOINED = "if x:\n\treturn می\u200cخواهم क्\u200dष 👩\u200d👧"


def _print_all(texts: list[str]) -> None:
    """Print texts in each way of the generate command."""
    print_texts(texts)
    for text in texts:
        stream = Stream("")
        for character in text:
            stream(character)
        stream.end()
    print_columns(["a\x1b.ckpt", "b.ckpt"], [texts, texts])


def test_a_pipe_gets_every_text_unaltered(capsys: pytest.CaptureFixture[str]) -> None:
    long = "\t\u200c\ufdd0\uffff" + "x" * 3000
    _print_all([STEERS, JOINED, long])
    out = capsys.readouterr().out
    for line in (*STEERS.split("\n"), *JOINED.split("\n"), long):
        assert out.count(line) == 4
    assert "\x1b" not in out


def test_a_terminal_gets_no_steering_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(Terminal, "isatty", lambda self: True)
    monkeypatch.setattr(sys, "stdout", Terminal())
    print_texts([STEERS])
    assert sys.stdout.getvalue() == escape_text(STEERS) + "\n"  # type: ignore[attr-defined]
    print_texts([JOINED])
    assert sys.stdout.getvalue().endswith(JOINED + "\n")  # type: ignore[attr-defined]
    _print_all([STEERS, JOINED])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", sys.stdout.getvalue())  # type: ignore[attr-defined]
    assert not set("\x1b\u202e\u2066\xad\ue000\ufeff\u200b\u2028") & set(shown)
    assert "می\u200cخواهم" in shown.splitlines()[-2]


def test_json_is_printable_and_keeps_every_character(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = GeneratedText("", STEERS + JOINED, "greedy", 1, -2.0, 3.0)
    print_json([[one]])
    [line] = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert json.loads(line)["text"] == one.text


def test_a_file_gets_utf_8_in_any_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    with (tmp_path / "out.txt").open("w", encoding="latin-1") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        prepare_streams()
        print_texts([JOINED])
    assert (tmp_path / "out.txt").read_text("utf-8") == JOINED + "\n"
