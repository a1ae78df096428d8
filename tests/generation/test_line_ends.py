"""Lines of a model: their largest length, and whether they ended."""

import io
import json
import sys
from pathlib import Path

import pytest
import torch

import lyricgen
from lyricgen.api.models import WritingModel
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.generate import main
from lyricgen.generation.texts import generate
from lyricgen.models.card import card, rebuild
from lyricgen.models.network import LanguageModel
from lyricgen.models.trained_model import LENGTH, LONGEST_LINE, UNKNOWN_LINE
from tests.conftest import TINY, Train, run_main
from tests.helpers.networks import architecture


def model_of(stop: float, longest_line: int | None = None) -> WritingModel:
    """A model of lines of a and b that end with probability `stop` after each character."""
    network = LanguageModel(architecture("gru", vocabulary_size=3, start_symbol=True))
    with torch.no_grad():
        network.output.weight.zero_()
        probabilities = torch.tensor([stop, (1 - stop) / 2, (1 - stop) / 2])
        network.output.bias.copy_(probabilities.log().clamp(min=-1e4))
    vocabulary = Vocabulary("\nab")
    return WritingModel(network.eval(), vocabulary, "lines", False, longest_line=longest_line)


@pytest.mark.parametrize(
    ("longest", "length"),
    [(253, 254), (10, LENGTH), (LONGEST_LINE, LONGEST_LINE), (10**18, LONGEST_LINE),
     (None, UNKNOWN_LINE)],
)  # fmt: skip
def test_a_line_has_room_for_the_longest_of_training(longest: int | None, length: int) -> None:
    assert len(model_of(0, longest).generate()) == length
    assert len(model_of(0, longest).generate("ab", length=7)) == 9


def test_texts_without_an_end_keep_their_length() -> None:
    network = LanguageModel(architecture("gru", vocabulary_size=3, start_symbol=False)).eval()
    model = WritingModel(network, Vocabulary("\nab"), "stream", False, longest_line=253)
    assert len(model.generate()) == LENGTH
    assert [one.ended for one in generate(model, [""])] == [None]


def test_the_card_keeps_the_longest_line() -> None:
    model = model_of(0.5, 253)
    tensors = model.network.state_dict()
    assert rebuild(card(model), tensors, 10**6, "cpu").longest_line == 253
    older = {name: value for name, value in card(model).items() if name != "longest_line"}
    assert rebuild(older, tensors, 10**6, "cpu").longest_line is None


def test_training_finds_the_longest_line(train: Train, tmp_path: Path) -> None:
    lines = [f"{'ab' * length} {number}" for number, length in enumerate(range(20, 120))]
    (tmp_path / "songs.txt").write_text("\n".join(lines), "utf-8")
    kept = [option for option in TINY if not option.startswith("data.max_chars")]
    text = ["data=text", "data.path=songs.txt", "data.unit=line", "data.batch_size=2"]
    run = train(*kept, *text, "trainer.max_epochs=1", "data.val_fraction=0.3")
    assert run.directory is not None, run.err
    # data.split_seed draws the held-out lines, so the longest line of training need not be the last
    found = lyricgen.load(run.directory).longest_line
    assert found in map(len, lines)
    assert max(map(len, lines)) * 0.7 < found <= max(map(len, lines))


@pytest.mark.parametrize("length", [None, 1, 4, 60])
@pytest.mark.parametrize("beams", [None, 3])
def test_ended_says_whether_a_line_break_was_drawn(length: int | None, beams: int | None) -> None:
    model = model_of(0.2)
    options = {"beams": beams} if beams else {"count": 40, "temperature": 1.0}
    found = generate(model, ["", "ab"], length=length, **options)
    limit = length or UNKNOWN_LINE
    for one in found:
        new = len(one.text) - len(one.prefix)
        assert one.ended is (new < limit)
    if length == 4 and not beams:
        assert {one.ended for one in found} == {True, False}


def test_every_name_with_a_largest_length_ends() -> None:
    found = generate(model_of(0.01), [""], count=30, temperature=1.0, max_length=5)
    assert [len(one.text) for one in found].count(5) > 20
    assert all(one.ended for one in found)


def test_verses_end_with_their_last_line() -> None:
    torch.manual_seed(0)
    network = LanguageModel(architecture("gru", vocabulary_size=3, start_symbol=False)).eval()
    model = WritingModel(network, Vocabulary("\nab"), "stream", False)
    found = [
        [one.ended for one in generate(model, [""], count=20, temperature=1.0, **options)]
        for options in ({"lines": 3, "length": 9}, {"lines": 2, "line_length": 3},
                        {"line_length": 3})
    ]  # fmt: skip
    assert set(found[0]) == {True, False}
    assert set(found[1]) == {True}
    assert set(found[2]) == {None}


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("more", [[], ["--watch"], ["--compare", "two"], ["--beams", "2"]])
def test_a_terminal_marks_cut_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("lyricgen.models.checkpoint.load", lambda path: models[path.name])
    models = {"never": model_of(0, 10), "two": model_of(1, 10)}
    piped = run_main(main, capsys, "never", *more, "--length", "6")
    assert piped.status == 0, piped.err
    assert "…" not in piped.out
    for name in models:
        monkeypatch.setattr(sys, "stdout", Screen())
        main([name, *more, "--length", "6"])
        shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
        marks = 2 if "--beams" in more else 1
        assert shown.count(" […]") == (marks if name == "never" else 0)


def test_json_says_whether_a_line_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lyricgen.models.checkpoint.load", lambda path: model_of(0.2))
    given = ["one", "--count", "30", "--format", "jsonl", "--length", "4"]
    found = [json.loads(line) for line in run_main(main, capsys, *given).texts]
    assert [one["ended"] for one in found] == [len(one["text"]) < 4 for one in found]
    assert len({one["ended"] for one in found}) == 2
