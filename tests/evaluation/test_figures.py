"""Figures of the evaluate command: equal to those of training, with intervals and baselines."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from lyricgen import export
from lyricgen.data import samplers
from lyricgen.data.batch import IGNORED
from lyricgen.evaluation.intervals import Series, SplitText, row, utf8_sizes
from lyricgen.evaluation.scores import open_checkpoints
from lyricgen.models.scoring import read_split
from tests.conftest import ROOT, TINY, Evaluate, Train, copy_run, messages, refusal, run_main

LINES = ("data=dino", "data.batch_size=4")


@dataclass(frozen=True)
class Runs:
    """Small runs that several tests share."""

    lstm: Path
    gru: Path
    ngram: Path
    hybrid: Path
    fill: Path
    names: Path
    names_as_text: Path


@pytest.fixture
def runs(trained: Train) -> Runs:
    def directory(*overrides: str) -> Path:
        run = trained(*TINY, *overrides)
        assert run.directory is not None, run.err
        return run.directory

    return Runs(
        lstm=directory(),
        gru=directory("cell=gru"),
        ngram=directory("model=ngram"),
        hybrid=directory("model=hybrid", "model.order=3", "optimizer.lr=0.01"),
        fill=directory("objective=fill"),
        names=directory(*LINES),
        names_as_text=directory(*LINES, "sampler=random"),
    )


def figures_of(evaluate: Evaluate, *arguments: str | Path) -> dict[str, Any]:
    done = evaluate(*arguments, "--json")
    assert (done.status, messages(done.err)) == (0, [])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found: dict[str, Any] = json.loads(done.out, parse_constant=refuse)
    return found


def models_of(figures: dict[str, Any], split: str) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in figures["parts"][split]["models"]}


@pytest.mark.parametrize(
    "overrides",
    [
        *[(f"cell={cell}",) for cell in ("rnn", "gru", "lstm_plain", "rnn_scratch", "gru_scratch")],
        ("cell=lstm_scratch", "sampler=random", "model.input=one_hot", "depth=deep"),
        ("trainer.precision=64-true", "layers=2"),
        ("model=ngram", "model.smoothing=witten_bell", "model.order=3"),
        ("model=hybrid", "model.order=3"),
        ("objective=fill",),
        LINES,
        (*LINES, "sampler=lines_carried", "data.batch_size=1"),
        (*LINES, "sampler=consecutive"),
        (*LINES, "model=ngram"),
        (*LINES, "model=hybrid", "optimizer.lr=0.01"),
        (*LINES, "objective=fill"),
        ("data.test_fraction=0",),
    ],
    ids=" ".join,
)
def test_the_figures_are_those_of_training(
    train: Train,
    evaluate: Evaluate,
    overrides: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(samplers, "EVALUATION_LOGITS", 2**13)  # several batches
    done = train(*TINY, *overrides)
    figures = figures_of(evaluate)
    assert list(figures["parts"]) == [
        split
        for split in ("train", "val", "test")
        if split != "test" or "test/loss" in done.summary
    ]
    prefix = "pseudo_" if "objective=fill" in overrides else ""
    for split in ("val", "test"):
        if f"{split}/loss" not in done.summary:
            continue
        first = figures["parts"][split]["models"][0]
        assert first["name"] == done.summary["model"]
        assert first["loss"]["value"] == pytest.approx(done.summary[f"{split}/loss"], rel=1e-9)
        for name in ("perplexity", "bits_per_char"):
            expected = done.summary[f"{split}/{prefix}{name}"]
            assert first[f"{prefix}{name}"]["value"] == pytest.approx(expected, rel=1e-9)
        if prefix:
            assert len(figures["parts"][split]["models"]) == 1
            continue
        ngrams = done.summary["ngram_perplexities"][split]["kneser_ney"]
        names = ["unigram", *(f"{order}-gram" for order in range(2, 6))]
        for name, expected in zip(names, ngrams, strict=True):
            found = models_of(figures, split)[name]["perplexity"]["value"]
            assert found == pytest.approx(expected, rel=1e-9)
        if {"model=ngram", "model=hybrid"} & {*overrides}:
            assert figures["mixture_network_weights"] == {}
            assert not any("mixed" in name for name in models_of(figures, split))
        else:
            weight = done.summary["mixture_network_weight"]
            assert figures["mixture_network_weights"] == {first["name"]: pytest.approx(weight)}
            assert figures["ngram_order"] == done.summary["ngram_order"]
            mixed = models_of(figures, split)[
                f"{figures['ngram_order']}-gram mixed with {first['name']}"
            ]
            expected = done.summary[f"{split}/mixture_perplexity"]
            assert mixed["perplexity"]["value"] == pytest.approx(expected, rel=1e-9)


def test_rows_of_a_long_text_are_those_of_training(
    train: Train, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "LONGEST_STREAM", 100)
    monkeypatch.setattr(samplers, "ROW", 40)
    done = train(*TINY)
    figures = json.loads(evaluate("--json").out)
    found = models_of(figures, "test")["lstm 1x16"]["perplexity"]["value"]
    assert found == pytest.approx(done.summary["test/perplexity"], rel=1e-9)


def test_the_training_perplexity_is_that_of_the_weights_without_dropout(
    train: Train, evaluate: Evaluate
) -> None:
    """N-grams have no dropout and repeat training's figure; that of a network is lower."""
    done = train(*TINY, "model=ngram")
    [ngram, uniform] = figures_of(evaluate)["parts"]["train"]["models"]
    assert ngram["perplexity"]["value"] == pytest.approx(done.summary["train/perplexity"], rel=1e-9)
    assert uniform["kind"] == "uniform"  # the other baselines are counted on this split
    done = train(*TINY, "model.dropout=0.9")
    network = figures_of(evaluate)["parts"]["train"]["models"][0]
    assert network["perplexity"]["value"] < done.summary["train/perplexity"]
    assert network["characters"] == 1199


def test_bits_per_byte_worked_by_hand(train: Train, evaluate: Evaluate) -> None:
    Path("a.txt").write_text("aé分😀" * 100, "utf-8")  # 1, 2, 3 and 4 bytes
    train(*TINY, "data=text", "data.path=a.txt", "data.val_fraction=0.25", "data.max_chars=null")
    figures = figures_of(evaluate)
    for split, characters in (("val", 100), ("test", 40), ("train", 260)):
        for model in figures["parts"][split]["models"]:
            assert model["characters"] == characters - 1  # the first character is not predicted
            # each split is made of quadruples of 10 bytes; its first character, a, is not predicted
            assert model["bytes"] == 10 * characters // 4 - 1
            nats = model["loss"]["value"] * model["characters"]
            assert model["bits_per_byte"]["value"] == pytest.approx(
                nats / math.log(2) / model["bytes"], rel=1e-12
            )
    uniform = models_of(figures, "test")["uniform"]
    assert uniform["loss"]["value"] == pytest.approx(math.log(4))
    assert uniform["bits_per_byte"]["value"] == pytest.approx(2 * 39 / 99)


def test_sizes_of_characters_are_those_of_the_encoding() -> None:
    characters = "\x00a\x7f\x80é\u07ff\u0800分\uffff😀\U0010ffff"
    expected = [len(character.encode()) for character in characters]
    assert utf8_sizes(characters).tolist() == expected == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4]


DRAWS = {"resamples": 2000, "seed": 0}


@pytest.mark.parametrize("lines", [False, True])
def test_a_paired_interval_shows_a_difference_where_intervals_overlap(lines: bool) -> None:
    numbers = np.random.default_rng(0)
    hard = numbers.gamma(2.0, 1.0, 3000)  # difficulty of the characters for both models
    one, other = (hard + numbers.normal(0, 0.2, 3000) + worse for worse in (0, 0.05))
    one[0] = np.nan
    ends = np.arange(3000) // 10 if lines else None
    text = SplitText(np.zeros(3000, int), np.ones(3000, np.uint8), ends)
    first = Series("one", "checkpoint", one)
    paired = row(Series("other", "checkpoint", other), first, text, **DRAWS)
    alone = [row(each, each, text, **DRAWS).loss for each in (first, paired.series)]
    assert paired.difference is not None
    value, low, high = paired.difference
    assert value == pytest.approx(float((other - one)[1:].mean()), rel=1e-12)
    expected = 1.96 * (other - one)[1:].std() / math.sqrt(2999)
    assert (high - low) / 2 == pytest.approx(expected, rel=0.1)  # type: ignore[operator]
    assert paired.differs
    overlap = alone[0].high - alone[1].low  # type: ignore[operator]
    assert overlap > 0  # the separate intervals show no difference


def test_lines_are_drawn_whole() -> None:
    """Each line is one draw: the width is that of the ratio estimator's linearised variance."""
    numbers = np.random.default_rng(1)
    lengths = numbers.integers(3, 15, 400)
    lines = np.repeat(np.arange(400), lengths)
    nats = numbers.gamma(2.0, 1.0, len(lines)) + numbers.normal(2, 1, 400)[lines]
    text = SplitText(np.zeros(len(lines), int), np.ones(len(lines), np.uint8), lines)
    series = Series("one", "checkpoint", nats)
    value, low, high = row(series, series, text, **DRAWS).loss
    residuals = np.bincount(lines, nats) - value * lengths
    expected = 1.96 * residuals.std() / math.sqrt(400) / lengths.mean()
    assert (high - low) / 2 == pytest.approx(expected, rel=0.07)  # type: ignore[operator]
    single = 1.96 * nats.std() / math.sqrt(len(nats))
    assert expected > 1.5 * single  # characters of a line depend on each other


@pytest.mark.slow
def test_checkpoints_are_compared_on_the_same_characters(runs: Runs, evaluate: Evaluate) -> None:
    figures = figures_of(evaluate, runs.lstm, runs.gru, runs.ngram)
    assert [each["name"] for each in figures["checkpoints"]] == [
        "lstm 1x16",
        "gru 1x16",
        "5-gram kneser_ney",
    ]
    models = models_of(figures, "test")
    assert list(models) == [
        *("lstm 1x16", "gru 1x16", "5-gram kneser_ney"),
        f"{figures['ngram_order']}-gram mixed with lstm 1x16",
        f"{figures['ngram_order']}-gram mixed with gru 1x16",
        *("5-gram", "4-gram", "3-gram", "2-gram", "unigram", "uniform"),
    ]
    first = models["lstm 1x16"]
    assert first["difference"] is first["differs"] is None
    for model in list(models.values())[1:]:
        difference = model["difference"]
        expected = model["loss"]["value"] - first["loss"]["value"]
        assert difference["value"] == pytest.approx(expected, abs=1e-12)
        assert model["differs"] == (not difference["low"] <= 0 <= difference["high"])
    assert models["uniform"]["differs"]
    # a checkpoint of n-grams equals the baseline
    assert models["5-gram kneser_ney"]["loss"] == models["5-gram"]["loss"]
    [same] = [
        model
        for model in figures_of(evaluate, runs.ngram, runs.lstm)["parts"]["test"]["models"]
        if model["name"] == "5-gram"
    ]
    assert same["difference"] == {"value": 0, "low": 0, "high": 0}
    assert not same["differs"]


def test_a_hybrid_model_is_compared_with_a_network_and_n_grams(
    runs: Runs, evaluate: Evaluate
) -> None:
    figures = figures_of(evaluate, runs.hybrid, runs.lstm, runs.ngram, "--curves")
    hybrid, lstm, ngram = (each["name"] for each in figures["checkpoints"])
    assert (hybrid, lstm, ngram) == ("lstm 1x16 + 3-gram", "lstm 1x16", "5-gram kneser_ney")
    models = models_of(figures, "test")
    mixed = f"{figures['ngram_order']}-gram mixed with lstm 1x16"
    assert list(models)[:4] == [hybrid, lstm, ngram, mixed]
    assert figures["mixture_network_weights"].keys() == {lstm}
    difference = models[lstm]["loss"]["value"] - models[hybrid]["loss"]["value"]
    assert models[lstm]["difference"]["value"] == pytest.approx(difference, abs=1e-12)
    assert models[hybrid]["perplexity"]["low"] < models[hybrid]["perplexity"]["value"]
    for name in ("position", "context", "frequency"):
        assert all(figures["curves"][name]["perplexities"][hybrid])


def test_the_network_of_a_hybrid_model_evaluated_alone(
    runs: Runs, evaluate: Evaluate, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "network.safetensors"
    run_main(export.main, capfd, runs.hybrid, "--network-only", "--out", path)
    alone = models_of(figures_of(evaluate, path), "val")["lstm 1x16"]
    [evaluated] = open_checkpoints([runs.hybrid])
    whole, network, characters = 0.0, 0.0, 0
    loader = read_split(
        *(evaluated.model, evaluated.splits["val"], "scoring"),
        lambda batch, state: (
            (parts := evaluated.model.network.score_parts(batch, state)),
            parts[2],
        ),
    )
    for batch, (nats, parts, _) in loader:
        whole += float(nats.double().sum())
        network += float(parts["network"].double().sum())
        characters += int((batch.targets != IGNORED).sum())
    assert alone["loss"]["value"] == pytest.approx(network / characters, rel=1e-9)
    hybrid = models_of(figures_of(evaluate, runs.hybrid), "val")["lstm 1x16 + 3-gram"]
    assert hybrid["loss"]["value"] == pytest.approx(whole / characters, rel=1e-9)
    assert abs(whole / network - 1) > 1e-3


def test_models_of_lines_and_of_text_are_compared_on_what_both_predict(
    runs: Runs, evaluate: Evaluate
) -> None:
    figures = figures_of(evaluate, runs.names, runs.names_as_text, "--curves")
    names = ["lstm 1x16 (dino_lstm_1x16)"] * 2  # equal names, so the runs' names are added
    one, other = (each["name"] for each in figures["checkpoints"])
    assert one != other
    assert [one[: len(names[0]) - 1], other[: len(names[0]) - 1]] == [name[:-1] for name in names]
    models = models_of(figures, "test")
    # the first character of a running text is not predicted
    assert models[one]["characters"] == models[other]["characters"] + 1
    assert models[one]["block_length"] is None
    assert figures["parts"]["test"]["lines"] > 1
    assert figures["curves"]["position_in"] == "line"
    alone = figures_of(evaluate, runs.names)
    assert models_of(alone, "test")["lstm 1x16"]["loss"] == models[one]["loss"]


def test_a_checkpoint_against_itself(runs: Runs, evaluate: Evaluate) -> None:
    figures = figures_of(evaluate, runs.lstm, runs.lstm, "--split", "val")
    assert figures == figures_of(evaluate, runs.lstm, runs.lstm, "--part", "val")  # the alias
    assert list(figures["parts"]) == ["val"]
    first, second = figures["parts"]["val"]["models"][:2]
    assert first["name"] != second["name"]
    assert second["difference"] == {"value": 0, "low": 0, "high": 0}


def test_every_key_is_documented(runs: Runs, evaluate: Evaluate) -> None:
    figures = figures_of(evaluate, runs.lstm, "--curves", "--resamples", "200", "--seed", "2000007")
    page = (ROOT / "docs/evaluate.md").read_text("utf-8")
    names = {"train", "val", "test", "lstm 1x16"}

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        if isinstance(value, dict):
            return set(value).union(*map(keys, value.values()))
        return set()

    assert {key for key in keys(figures) - names if f"`{key}`" not in page} == set()
    assert (figures["resamples"], figures["seed"], figures["confidence"]) == (200, 2000007, 0.95)
    assert figures["checkpoints"][0]["path"] == str(runs.lstm / "checkpoints/best.ckpt")


def test_curves_in_json(runs: Runs, evaluate: Evaluate) -> None:
    curves = figures_of(evaluate, runs.lstm, runs.ngram, "--curves")["curves"]
    assert (curves["part"], curves["position_in"]) == ("test", "window")
    position, context, frequency = (curves[name] for name in ("position", "context", "frequency"))
    assert position["places"] == [str(number) for number in range(1, 11)]  # data.num_steps
    assert position["characters"] == [140] * 10
    assert context["places"] == ["1", "2", "4", "8", "16", "32", "64"]  # 150 characters
    assert context["characters"] == [86] * 7
    # a 5-gram model looks no further than 4 characters back
    of_ngram = context["perplexities"]["5-gram kneser_ney"]
    assert of_ngram[2:] == [pytest.approx(of_ngram[2])] * 5
    assert sum(frequency["characters"]) == 149
    assert frequency["places"][:4] == ["0", "1", "2–3", "4–7"]
    for curve in (position, context, frequency):
        for values in curve["perplexities"].values():
            assert len(values) == len(curve["places"]) == len(curve["characters"])
    val = figures_of(evaluate, runs.lstm, "--curves", "--split", "val")
    assert val["curves"]["part"] == "val"


def test_positions_and_frequencies_of_names(runs: Runs, evaluate: Evaluate) -> None:
    """Means of the bins, weighted by their characters, give the mean of the split."""
    figures = figures_of(evaluate, runs.names, "--curves")
    whole = models_of(figures, "test")["lstm 1x16"]
    for name in ("position", "frequency"):
        curve = figures["curves"][name]
        assert sum(curve["characters"]) == whole["characters"]
        each = zip(curve["characters"], curve["perplexities"]["lstm 1x16"], strict=True)
        nats = math.fsum(number * math.log(value) for number, value in each if number)
        assert nats == pytest.approx(whole["loss"]["value"] * whole["characters"], rel=1e-9)
    position = figures["curves"]["position"]
    assert position["characters"][0] == figures["parts"]["test"]["lines"]
    assert position["characters"] == sorted(position["characters"], reverse=True)


def test_tables_in_the_terminal(runs: Runs, evaluate: Evaluate) -> None:
    figures = figures_of(evaluate, runs.lstm, runs.gru, "--curves")
    done = evaluate(runs.lstm, runs.gru, "--curves")
    assert (done.status, messages(done.err)) == (0, [])
    for split in ("train", "val", "test"):
        for model in figures["parts"][split]["models"]:
            assert model["name"] in done.out
            assert f"{model['perplexity']['value']:,.2f}" in done.out
    assert "95% intervals: 1,000 resamples of blocks of characters" in done.out
    assert "position in the window" in done.out
    [worst] = [line for line in done.out.splitlines() if "uniform" in line and "worse" in line][1:2]
    assert worst.split()[0] == "uniform"


@pytest.mark.slow
def test_a_plot(runs: Runs, evaluate: Evaluate, tmp_path: Path) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    done = evaluate(runs.lstm, "--png", small)
    assert (done.status, messages(done.err)) == (0, [])
    assert done.out.endswith(f"figures: {small}\n")
    figures = evaluate(runs.names, runs.names_as_text, "--png", large, "--curves", "--json")
    assert json.loads(figures.out)["text"] == "dino"
    assert (figures.status, messages(figures.err)) == (0, [])
    one, other = (matplotlib.image.imread(path) for path in (small, large))
    assert one.shape[1] == other.shape[1] == 1560
    assert other.shape[0] > one.shape[0] + 300  # the curves
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.png", "small.png"]


def test_models_that_fill_gaps_have_only_pseudo_perplexities(
    runs: Runs, evaluate: Evaluate
) -> None:
    figures = figures_of(evaluate, runs.fill)
    for split in figures["parts"].values():
        [model] = split["models"]
        assert "pseudo_perplexity" in model
        assert "perplexity" not in model
    assert "pseudo-perplexity" in evaluate(runs.fill).out
    line = refusal(evaluate(runs.fill, runs.lstm))
    assert "does not compare" in line
    assert "objective=fill" in line
    assert "both sides" in refusal(evaluate(runs.fill, "--curves"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data=dino",), "data.kind=dino, the first checkpoint lyrics"),
        (("data.max_chars=1400",), "data.max_chars=1400, the first checkpoint 1500"),
        (("data.val_fraction=0.2",), "data.val_fraction=0.2, the first checkpoint 0.1"),
        (("data.newline=space",), "data.newline=space, the first checkpoint keep"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_other_texts_and_splits_do_not_compare(
    runs: Runs, train: Train, evaluate: Evaluate, overrides: tuple[str, ...], message: str
) -> None:
    done = train(*TINY, *overrides)
    assert done.directory is not None
    assert message in refusal(evaluate(runs.lstm, done.directory))


def test_a_missing_or_changed_text_is_refused(train: Train, evaluate: Evaluate) -> None:
    text = Path("a.txt")
    text.write_text("abcd" * 300, "utf-8")
    train(*TINY, "data=text", "data.path=a.txt")
    for changed in ("abce", "abdc"):  # other characters, and the same ones
        text.write_text(changed * 300, "utf-8")
        line = refusal(evaluate())
        assert "another text than 'a.txt' is now" in line
        assert "--text FILE" in line
    text.unlink()
    line = refusal(evaluate())
    assert "'a.txt'" in line
    assert "--text FILE" in line


def test_a_diverged_network_is_refused(
    trained: Train, evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = copy_run(trained(*TINY))
    assert done.directory is not None
    path = done.directory / "checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    content["state_dict"]["model.output.bias"][0] = math.nan
    torch.save(content, path)
    assert "diverged" in refusal(evaluate())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "all"], "--split"),
        (["--resamples", "99"], "'99': give a whole number from 100 to 1000000"),
        (["--resamples", "many"], "'many'"),
        (["--seed", "-1"], "--seed"),
        (["--png", "a.pdf"], "--png 'a.pdf': give a name that ends in .png"),
        (["--png", "nowhere/a.png"], "no directory 'nowhere'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_faulty_arguments_are_refused(
    runs: Runs, evaluate: Evaluate, arguments: list[str], message: str
) -> None:
    assert message in refusal(evaluate(runs.lstm, *arguments))


def test_a_missing_split(train: Train, evaluate: Evaluate) -> None:
    train(*TINY, "data.test_fraction=0", "data.val_fraction=0")
    assert "the text has only train" in refusal(evaluate("--split", "test"))
    figures = figures_of(evaluate, "--curves")
    assert list(figures["parts"]) == ["train"]
    assert figures["curves"]["part"] == "train"
