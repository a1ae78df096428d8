"""The model that fills gaps: it never sees the character to predict, and draws gaps jointly."""

import csv
import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lyricgen
from lyricgen import generate
from lyricgen.api.models import WritingModel
from lyricgen.data import samplers
from lyricgen.data.batch import cut
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.samplers import ConsecutiveSampler, StreamSampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.network import FillModel
from lyricgen.runs.state import RunState
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal
from tests.conftest import TINY, Train, messages, run_main
from tests.helpers.fill_models import N, model_of
from tests.helpers.networks import CELLS
from tests.helpers.resuming import same_weights, send, stop_at, weights

# without "relu": a rectified unit that is off passes no gradient, so a dependence may not show
EACH_CELL = pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "relu"])
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def text(length: int, below: int, seed: int = 0) -> Tensor:
    return torch.randint(below, (length,), generator=torch.Generator().manual_seed(seed))


def input_gradients(model: FillModel) -> list[Tensor]:
    """Gradients of the weights for inputs, with a row for each character."""
    if model.embedding is not None:
        return [model.embedding.weight.grad]  # type: ignore[list-item]
    first = [model.recurrence.left.blocks[0], model.recurrence.right.blocks[0]]
    return [
        block.input_weight.grad if hasattr(block, "input_weight") else block.weight_ih_l0.grad.T
        for block in first
    ]


# The model


@EACH_CELL
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("kind", ["embedding", "one_hot"])
def test_no_logit_depends_on_the_character_it_predicts(
    cell: str, layers: int, residual: bool, kind: str
) -> None:
    """Every character occurs once in the text, so its row of weights gets only its own gradient."""
    model = model_of(cell, layers=layers, residual=residual, input=kind)
    characters = torch.arange(N + 1)[None]  # character t is at place t
    lengths = torch.tensor([N])
    for t in range(1, N + 1):
        model.zero_grad()
        logits, _ = model(characters, lengths, N)
        logits[0, t - 1].square().sum().backward()
        rows = sum(gradient.abs().sum(dim=1) for gradient in input_gradients(model))
        assert isinstance(rows, Tensor)
        assert rows[t] == 0.0
        others = [rows[i] for i in range(N + 1) if i != t]
        assert all(value > 0 for value in others)  # all others, on both sides, at any distance


@EACH_CELL
def test_states_of_both_sides(cell: str) -> None:
    """Each prediction joins the left stack read to t - 1 and the right stack read back to t + 1."""
    model = model_of(cell, layers=2, residual=True)
    characters = text(N + 4, N + 1)[None]
    found, state = model(characters, torch.tensor([N + 3]), N)
    zero = torch.zeros(1, model.architecture.hidden_size, dtype=torch.float64)
    for t in range(1, N + 1):
        left, until = model.recurrence.left(model.features(characters[:, :t]), None)
        rest = characters[:, t + 1 :].flip(1)
        right = model.recurrence.right(model.features(rest), None)[0][:, -1]
        joined = torch.tanh(model.recurrence.join(torch.cat([left[:, -1], right], dim=-1)))
        torch.testing.assert_close(found[:, t - 1], model.logits(joined), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(one, other) for one, other in zip(until, state, strict=True))
    last, _ = model(characters, torch.tensor([N + 3]), N + 3)  # nothing follows the last character
    left, _ = model.recurrence.left(model.features(characters[:, : N + 3]), None)
    joined = torch.tanh(model.recurrence.join(torch.cat([left[:, -1], zero], dim=-1)))
    torch.testing.assert_close(last[:, -1], model.logits(joined), rtol=1e-12, atol=1e-12)


@EACH_CELL
def test_other_rows_and_padding_change_nothing(cell: str) -> None:
    model = model_of(cell)
    rows = [text(length + 1, N + 1, seed=length) for length in (1, 2, 5, 8)]
    together = torch.full((4, 9), 3)
    for row, characters in zip(together, rows, strict=True):
        row[: len(characters)] = characters
    lengths = torch.tensor([len(row) - 1 for row in rows])
    logits, _ = model(together, lengths, 8)
    for index, characters in enumerate(rows):
        steps = len(characters) - 1
        alone, _ = model(characters[None], torch.tensor([steps]), steps)
        torch.testing.assert_close(logits[index, :steps], alone[0], rtol=1e-12, atol=1e-12)


# The metric


def held_out_loss(cell: str, ids: Tensor, model: FillModel) -> float:
    size = model.vocabulary_size
    vocabulary = Vocabulary(LETTERS[:size])
    sampler = ConsecutiveSampler(20, 2, 3, drop_last=True)
    following = samplers.FOLLOWING
    splits = {"train": Split(ids[:20], None), "val": Split(ids, None)}
    data = CharacterDataModule(vocabulary, splits, sampler, following)
    loader = data.val_dataloader()
    module = module_of(model)
    for batch in loader:  # type: ignore[union-attr]
        module.validation_step(batch, 0)
    return module.totals["val"].figures("val")["val/loss"]


def module_of(model: FillModel) -> RecurrentModule:
    return RecurrentModule(
        model,
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        lambda _: None,
        label_smoothing=0.0,
        reduction="mean",
        card={},
        state=RunState(),
        total=NatsTotal(Vocabulary("ab")),
        seed=1,
    )


@EACH_CELL
@pytest.mark.parametrize("steps", [1, 7, 30])
def test_held_out_text_is_scored_as_one_text(
    cell: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows, each with the characters that follow it, have the loss of the whole text."""
    model = model_of(cell)
    ids = text(61, N + 1, seed=2)
    with torch.no_grad():
        logits, _ = model(ids[None], torch.tensor([60]), 60)
    expected = torch.nn.functional.cross_entropy(logits[0], ids[1:])
    monkeypatch.setattr(samplers, "EVALUATION_LOGITS", steps * (N + 1))
    assert held_out_loss(cell, ids, model) == pytest.approx(float(expected), rel=1e-12)


def test_characters_that_follow_a_window() -> None:
    ids = torch.arange(20)
    sampler = StreamSampler(20, num_rows=2, num_steps=4, following=3)
    batches = [cut(ids, sampler.windows(0, index)) for index in range(len(sampler))]
    assert batches[0].following is not None
    assert batches[0].following.tolist() == [[5, 6, 7], [15, 16, 17]]
    assert batches[1].following is not None
    assert batches[1].following.tolist() == [[9, 10, 11], [19, -100, -100]]
    assert cut(ids, StreamSampler(20, 2, 4).windows(0, 0)).following is None


def test_a_run_reports_only_pseudo_perplexity(train: Train) -> None:
    run = train(*TINY, "objective=fill", "callbacks.samples.prefixes=['分__天']")
    assert run.status == 0, run.err
    assert run.directory is not None
    with (run.directory / "metrics.csv").open(encoding="utf-8") as stream:
        names = set(next(csv.reader(stream)))
    assert {"train/pseudo_perplexity", "val/pseudo_perplexity", "val/loss"} <= names
    assert not {name for name in names if name.endswith(("/perplexity", "/bits_per_char"))}
    assert not {name for name in names if "ngram" in name}
    summary = run.summary
    assert {"val/pseudo_perplexity", "test/pseudo_perplexity"} <= summary.keys()
    assert not {name for name in summary if name.endswith("/perplexity") or "ngram" in name}
    assert "pseudo-perplexity at epoch" in run.out
    assert "Kneser" not in run.out
    without = run.out.replace("pseudo-perplexity", "")
    assert "perplexity" not in without
    assert run.directory.name.endswith("_lyrics_fill_lstm_1x16")
    texts = map(json.loads, (run.directory / "samples.jsonl").read_text("utf-8").splitlines())
    for sample in texts:
        assert sample["prefix"] == "分__天"
        assert sample["text"][0] + sample["text"][3:] == "分天"


@pytest.mark.slow
@pytest.mark.parametrize("data", ["lyrics", "dino"])
def test_a_stopped_run_resumes_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    options = (*TINY, "data.max_chars=800", "objective=fill", f"data={data}", "model.dropout=0.5")
    whole = train(*options)
    assert whole.status == 0, whole.err
    with monkeypatch.context() as patch:
        stop_at(patch, 10, send(15))
        stopped = train(*options)
    assert stopped.status == 143
    assert train(f"resume={stopped.directory}").status == 0
    assert same_weights(weights(whole.directory), weights(stopped.directory))
    assert whole.summary["test/loss"] == stopped.summary["test/loss"]


def test_ngrams_that_fill_gaps_are_refused(train: Train) -> None:
    run = train("objective=fill", "model=ngram")
    assert run.status == 2
    assert "objective=fill predicts a character from both sides" in run.err
    assert "choose model=recurrent or recipe=none, or objective=next" in run.err


# Filling


def trained(vocabulary: str, model: FillModel | None = None) -> WritingModel:
    model = model or model_of("gru", vocabulary_size=len(vocabulary), start_symbol=False)
    return WritingModel(model, Vocabulary(vocabulary), "stream", lowercase=False)


def test_known_characters_stay_and_gaps_are_filled() -> None:
    model = trained("\nabcde")
    texts = ["a__b", "_", "abc_abc_abc_", "e" * 30 + "_"]
    for temperature in (0.0, 0.8, 5.0):
        filled = model.fill_many(texts, count=3, temperature=temperature, sweeps=3)
        assert len(filled) == 12
        for original, found in zip([t for t in texts for _ in range(3)], filled, strict=True):
            assert len(found) == len(original)
            for before, after in zip(original, found, strict=True):
                assert after == before if before != "_" else after in "abcde"


def test_one_gap_is_drawn_from_the_models_probabilities() -> None:
    model = trained("abcd")
    network = model.network
    assert isinstance(network, FillModel)
    with torch.no_grad():
        network.output.weight.mul_(4)
        ids = torch.tensor([[0, 1, 0, 2]])  # the start, b, the gap, c
        logits, _ = network(ids, torch.tensor([3]), 3)
    expected = torch.softmax(logits[0, 1] / 0.7, dim=-1)
    drawn = model.fill_many(["b_c"], count=4000, temperature=0.7, sweeps=1)
    for index, character in enumerate("abcd"):
        share = sum(one[1] == character for one in drawn) / 4000
        deviation = float((expected[index] * (1 - expected[index]) / 4000).sqrt())
        assert abs(share - float(expected[index])) < 5 * deviation
    assert set(model.fill_many(["b_c"], count=5, temperature=0)) == {
        f"b{'abcd'[int(expected.argmax())]}c"
    }


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_diverged_model_is_refused(temperature: float) -> None:
    model = trained("abcd")
    assert isinstance(model.network, FillModel)
    with torch.no_grad():
        model.network.recurrence.join.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="diverged"):
        model.fill_many(["a_b"], temperature=temperature)


def test_filled_gaps_depend_only_on_seed_and_text() -> None:
    model = trained("abcdef")
    together = model.fill_many(["a__b", "c_", "d___e___f"], count=4, seed=3, temperature=2.0)
    assert model.fill_many(["c_"], count=4, seed=3, temperature=2.0) == together[4:8]
    assert model.fill_many(["d___e___f"], count=1, seed=3, temperature=2.0) == together[8:9]
    assert model.fill_many(["c_", "a__b"], count=4, seed=3, temperature=2.0) == [
        *together[4:8],
        *together[:4],
    ]
    assert model.fill_many(["d___e___f"], count=4, seed=4, temperature=2.0) != together[8:]
    assert len(set(together[8:])) > 1


@pytest.mark.slow
def test_neighbouring_gaps_agree(train: Train, tmp_path: Path) -> None:
    """Each gap may be a or b: filled independently, half of the pairs would not agree."""
    pairs = itertools.product(("xaax", "xbbx"), repeat=2)
    (tmp_path / "pairs.txt").write_text("\n".join("".join(pair) for pair in pairs) * 60, "utf-8")
    run = train(
        "objective=fill", "data=text", "data.path=pairs.txt", "data.unit=text", "trainer=cpu",
        "cell=gru", "hidden_size=24", "data.batch_size=8", "data.num_steps=16", "model.dropout=0",
        "loss.label_smoothing=0", "trainer.max_epochs=25", "callbacks.samples.every_n_epochs=0",
        "data.val_fraction=0", "data.test_fraction=0", "callbacks.early_stopping.enabled=false",
    )  # fmt: skip
    assert run.status == 0, run.err
    model = lyricgen.load(str(run.directory))
    filled = model.fill_many(["xaaxx__x"], count=60, temperature=1.0)
    ends = [text[4:] for text in filled]
    agreeing = sum(end in ("xaax", "xbbx") for end in ends)
    assert agreeing >= 57
    assert {"xaax", "xbbx"} <= set(ends)


def test_the_command_fills(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*TINY, "objective=fill").status == 0
    asked = ("--fill", "分__天 我_要", "--count", "3", "--seed", "4")
    filled = run_main(generate.main, capfd, *asked)
    lines = filled.texts
    assert len(lines) == 3
    for line in lines:
        assert (line[0], line[3:6], line[7:]) == ("分", "天 我", "要")
    again = run_main(generate.main, capfd, *asked)
    assert (again.status, again.out) == (filled.status, filled.out)
    # the age of the model has grown
    first, second = (re.sub(r"\d+ seconds? old", "old", one.err) for one in (filled, again))
    assert first == second
    [marked] = run_main(generate.main, capfd, "--fill", "分*", "--gap", "*").texts
    assert len(marked) == 2
    for arguments, message in (
        (["--prefix", "分开"], "this model fills gaps and continues no text: give it a text with"),
        (["--fill", "分开"], "'分开' has no gap to fill: mark each missing character by '_'"),
        (["--fill", "分_Ж"], "characters that the vocabulary of"),
        (["--fill", "分分", "--gap", "分"], "gap='分': a gap is marked by one character that"),
        (["--fill", "分_", "--gap", "__"], "gap='__': a gap is marked by one character that"),
        (["--fill", "分_", "--sweeps", "0"], "--sweeps 0: it must be at least 1"),
        (["--fill", "分_", "--prefix", "分"], "--prefix and --fill do not go together"),
        (["--fill", "分_", "--length", "3"], "--fill and --length do not go together"),
        (["--fill", "分_", "--generator", "torch"], "--fill and --generator do not go together"),
        (["--prefix", "分", "--sweeps", "3"], "--prefix and --sweeps do not go together"),
        (["--gap", "*"], "--gap needs --fill"),
    ):
        refused = run_main(generate.main, capfd, *arguments)
        assert refused.status == 2
        assert message in refused.err
        assert len(messages(refused.err)) == 1


def test_a_model_that_continues_texts_refuses_gaps(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*TINY).status == 0
    refused = run_main(generate.main, capfd, "--fill", "分_")
    assert refused.status == 2
    assert "continues texts and fills no gaps: train one with objective=fill" in refused.err


def test_a_text_that_contains_the_usual_mark_of_gaps(train: Train, tmp_path: Path) -> None:
    (tmp_path / "code.txt").write_text("max_steps = min_steps\n" * 40, "utf-8")
    run = train(*TINY, "data=text", "data.path=code.txt", "objective=fill")
    assert run.status == 0, run.err
    model = lyricgen.load(str(run.directory))
    assert model.gap == "□"
    [filled] = model.fill_many(["max_□teps"])
    assert filled[:4] + filled[5:] == "max_teps"
    with pytest.raises(UserError, match="a gap is marked by one character that"):
        model.fill_many(["max_teps"], gap="_")


def test_numbers_of_the_courses_code_are_refused(train: Train) -> None:
    run = train(*TINY, "objective=fill", "callbacks.samples.generator=numpy_reseeded")
    assert run.status == 2
    assert "callbacks.samples.generator=numpy_reseeded goes with objective=next" in run.err


def test_a_model_of_lines_fills_names(train: Train) -> None:
    run = train(*TINY, "data=dino", "objective=fill")
    assert run.status == 0, run.err
    model = lyricgen.load(str(run.directory))
    for name in model.fill_many(["tri_er_tops", "_"], count=5, temperature=3.0):
        assert "\n" not in name
    with pytest.raises(UserError, match="leave the newline out"):
        model.fill_many(["a_\nb"])
