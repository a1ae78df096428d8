"""N-grams as a model: the network, its checkpoint, and the commands."""

import csv
import json
from collections import Counter
from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor

import lyricgen
from lyricgen import generate
from lyricgen.api.models import WritingModel
from lyricgen.generation.continuing import draw_uniforms
from lyricgen.models.card import card
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.model import NOTHING
from lyricgen.models.options import Smoothing
from tests.conftest import TINY, Train, TrainingResult, need_published
from tests.helpers.checkpoints import refusal, save_checkpoint
from tests.helpers.decoding import draw_texts
from tests.helpers.ngram_models import V, fit_model, model_of, new_model, symbols
from tests.helpers.ngram_reference import SMOOTHINGS, Reference

EACH_SMOOTHING = pytest.mark.parametrize("smoothing", SMOOTHINGS)


# The network


@EACH_SMOOTHING
@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("lines", [False, True])
def test_the_network_gives_the_probabilities_of_the_reference(
    smoothing: Smoothing, order: int, lines: bool
) -> None:
    network = fit_model(order, smoothing, lines=lines)
    reference = Reference(symbols(400, lines=lines), V, order, smoothing)
    text = symbols(60, lines=lines, seed=1)
    output, _ = network(torch.tensor([text]))
    assert output.shape == (1, len(text), V)
    assert output.dtype == torch.float64
    expected = [[log(p) for p in reference.distribution(text[: t + 1])] for t in range(len(text))]
    np.testing.assert_allclose(output[0].numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(output.exp().sum(-1).numpy(), 1, rtol=1e-12)


@EACH_SMOOTHING
@pytest.mark.parametrize("order", [1, 2, 5])
def test_nats_are_minus_the_log_probabilities(smoothing: Smoothing, order: int) -> None:
    network = fit_model(order, smoothing)
    inputs = torch.tensor([symbols(50, seed=seed) for seed in (1, 2)])
    targets = torch.randint(V, inputs.shape, generator=torch.Generator().manual_seed(0))
    output, state = network(inputs)
    nats, same_state = network.nats(inputs, targets)
    picked = output.gather(-1, targets[..., None]).squeeze(-1)
    torch.testing.assert_close(nats, -picked, rtol=1e-12, atol=1e-12)
    assert torch.equal(state[0], same_state[0])


@EACH_SMOOTHING
@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("cuts", [(20,), (1, 2, 3, 10)])
def test_batches_with_a_carried_state_equal_one_long_batch(
    smoothing: Smoothing, order: int, cuts: tuple[int, ...]
) -> None:
    network = fit_model(order, smoothing)
    inputs = torch.tensor([symbols(40, seed=seed) for seed in (1, 2, 3)])
    whole, last = network(inputs)
    state, outputs = None, []
    for first, end in pairwise((0, *cuts, 40)):
        output, state = network(inputs[:, first:end], state)
        assert state[0].shape == (1, 3, order - 1)
        outputs.append(output)
    assert torch.equal(torch.cat(outputs, dim=1), whole)
    assert torch.equal(state[0], last[0])  # type: ignore[index]
    assert torch.equal(last[0][0], inputs[:, 40 - (order - 1) :])
    _, short = network(inputs[:, :1])
    assert (short[0][0, :, :-1] == NOTHING).all()


@EACH_SMOOTHING
def test_before_counting_all_symbols_are_equally_likely(smoothing: Smoothing) -> None:
    output, _ = new_model(3, smoothing)(torch.tensor([symbols(20)]))
    np.testing.assert_allclose(output.numpy(), -log(V), rtol=1e-12)


def test_prefixes_of_any_length_read_together_equal_single_ones() -> None:
    network = fit_model(4, "add_k")
    prefixes = [torch.tensor(symbols(length, seed=length)) for length in (1, 2, 7, 2)]
    numbers = draw_uniforms("torch", [1, 2, 3, 4], 20)
    together = draw_texts(network, prefixes, 1.0, numbers)
    for row, prefix, own in zip(together, prefixes, numbers, strict=True):
        assert [row] == draw_texts(network, [prefix], 1.0, own[None])
    greedy = draw_texts(network, prefixes, 0.0, numbers)
    for row, prefix in zip(greedy, prefixes, strict=True):
        text = prefix.tolist()
        for _ in range(20):
            text.append(int(network(torch.tensor([text]))[0][0, -1].argmax()))
        assert row == text[len(prefix) :]


# Its checkpoint


def content_of(model: WritingModel) -> dict[str, Any]:
    weights = {f"model.{name}": value for name, value in model.network.state_dict().items()}
    return {"epoch": 0, "state_dict": weights, "lyricgen": card(model)}


@EACH_SMOOTHING
@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("order", [1, 3])
def test_a_saved_model_writes_the_same_texts(
    tmp_path: Path, smoothing: Smoothing, layout: str, order: int
) -> None:
    model = model_of(order, smoothing, layout)
    loaded = lyricgen.load(save_checkpoint(tmp_path, content_of(model)))
    assert loaded.network.architecture == model.network.architecture
    assert loaded.network.num_parameters == model.network.num_parameters > 0
    for temperature in (0.0, 1.0):
        arguments: Any = {"count": 3, "length": 30, "temperature": temperature, "seed": 5}
        texts = loaded.generate_many(["", "ab", "分"], **arguments)
        assert texts == model.generate_many(["", "ab", "分"], **arguments)
        assert [text.startswith(p) for p, text in zip(("ab", "分"), texts[3::3], strict=True)]
        assert not (layout == "lines" and "\n" in "".join(texts))


def plain_row(values: Tensor) -> Tensor:
    """Tensor of the same length that has one number in memory."""
    return values[:1].expand(len(values))


@pytest.mark.parametrize(
    ("name", "change", "needed"),
    [
        ("keys_2", None, "keys_2 is absent"),
        ("keys_4", lambda _: torch.zeros(1), "keys_4 is too many"),
        ("keys_2", lambda keys: keys.double(), "keys_2 is torch.float64"),
        ("direct_2", lambda direct: direct.float(), "direct_2 is torch.float32"),
        ("keys_2", lambda keys: keys[None], "keys_2"),
        ("keys_2", lambda keys: keys.flip(0), "keys_2 should ascend"),
        ("keys_2", lambda keys: keys - 1, "keys_2 should ascend"),
        ("keys_3", lambda keys: keys + 10**6, "keys_3 should ascend"),
        ("keys_1", lambda keys: torch.tensor([*keys[:-1], 5]), "keys_1 has n-grams that no text"),
        ("keys_2", lambda keys: keys.clamp(max=int(keys[-2])), "keys_2 should ascend"),
        ("keys_2", lambda keys: keys[:-1], "direct_2 should have"),
        ("direct_2", lambda direct: direct[:-1], "direct_2 should have"),
        ("passed_2", lambda passed: passed[1:], "passed_2 should have"),
        ("direct_1", lambda direct: direct * torch.nan, "not the terms of probabilities"),
        ("direct_1", lambda direct: direct * 2, "not the terms of probabilities"),
        ("direct_3", lambda direct: -direct, "not the terms of probabilities"),
        ("passed_3", lambda passed: passed.clamp(max=0), "not the terms of probabilities"),
        ("passed_1", lambda passed: passed * 0.5, "not the terms of probabilities"),
        ("keys_1", lambda _: torch.zeros(3, dtype=torch.int64).to_sparse(), "sparse"),
        ("keys_1", lambda _: torch.zeros(3, dtype=torch.int64, device="meta"), "meta"),
        ("direct_1", plain_row, "direct_1"),
        ("passed_1", lambda _: torch.ones(1, dtype=torch.float64).expand(10**12), "passed_1"),
        ("keys_3", lambda _: torch.zeros(1, dtype=torch.int64).expand(10**12), "keys_3"),
    ],
)
def test_impossible_n_grams_are_refused(
    tmp_path: Path, name: str, change: Any, needed: str
) -> None:
    content = content_of(model_of())
    before = content["state_dict"].pop(f"model.{name}", None)
    if change is not None:
        content["state_dict"][f"model.{name}"] = change(before)
    refusal(save_checkpoint(tmp_path, content), needed)


def test_n_grams_in_which_a_line_begins_in_the_middle_are_refused(tmp_path: Path) -> None:
    content = content_of(model_of(2, layout="lines"))
    keys = content["state_dict"]["model.keys_2"]
    last_of_context = torch.diff(keys // 6, append=torch.tensor([-1])).nonzero()[0]
    keys[last_of_context] += 5 - keys[last_of_context] % 6  # 5 is START, which is in keys_1
    refusal(save_checkpoint(tmp_path, content), "keys_2 has n-grams that no text can have")


@pytest.mark.parametrize(
    ("key", "value", "needed"),
    [
        ("order", 0, "architecture.order=0"),
        ("order", 10**9, "architecture.order"),
        ("order", 4, "direct_4 is absent"),
        ("order", 2, "direct_3 is too many"),
        ("smoothing", "laplace", "architecture.smoothing"),
        ("k", -1.0, "architecture.k"),
        ("k", float("nan"), "architecture.k"),
        ("kind", "bigram", "architecture"),
        ("kind", "recurrent", "architecture"),
        ("vocabulary_size", 4, "vocabulary"),
        ("layers", 2, "architecture.layers"),
    ],
)
def test_impossible_cards_are_refused(tmp_path: Path, key: str, value: Any, needed: str) -> None:
    content = content_of(model_of())
    content["lyricgen"]["architecture"][key] = value
    refusal(save_checkpoint(tmp_path, content), needed)


# The commands


NGRAM = (*TINY, "model=ngram")
CORPORA = Path(lyricgen.__file__).parent / "data/corpora"


def rows_of(done: TrainingResult) -> list[dict[str, str]]:
    assert done.directory is not None, done.err
    with (done.directory / "metrics.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("data", "smoothing", "order"),
    [
        ("lyrics", "kneser_ney", 5),
        ("lyrics", "witten_bell", 2),
        ("lyrics", "kneser_ney", 1),
        ("dino", "kneser_ney", 3),
        ("dino", "witten_bell", 4),
    ],
)
def test_a_run_of_n_grams_has_the_figures_of_the_baseline(
    train: Train, data: str, smoothing: str, order: int
) -> None:
    done = train(*NGRAM, f"data={data}", f"model.smoothing={smoothing}", f"model.order={order}")
    assert done.status == 0, done.err
    for split in ("val", "test"):
        expected = done.summary["ngram_perplexities"][split][smoothing][order - 1]
        assert done.summary[f"{split}/perplexity"] == pytest.approx(expected, rel=1e-12)
    assert f"{order}-gram {smoothing}" in done.out
    assert "mixture" not in done.out
    assert not [name for name in done.summary if "mixture_perplexity" in name]


def test_add_k_by_dictionaries(train: Train) -> None:
    done = train(*NGRAM, "model.smoothing=add_k", "model.k=0.5", "model.order=2")
    text = (CORPORA / "lyrics.txt").read_text("utf-8")[:1500]
    training, val = text[:1200], text[1200:1350]
    pairs, firsts, size = Counter(pairwise(training)), Counter(training[:-1]), len(set(text))
    for split, scored in (("train", training), ("val", val)):
        shares = [(pairs[pair] + 0.5) / (firsts[pair[0]] + 0.5 * size) for pair in pairwise(scored)]
        loss = -sum(map(log, shares)) / len(shares)
        assert done.summary[f"{split}/loss"] == pytest.approx(loss, rel=1e-12)


def test_each_line_is_counted_from_its_start(train: Train) -> None:
    """Bigrams with k = 1: each name begins after a start symbol and ends with a newline."""
    done = train(
        *NGRAM, "data=dino", "model.smoothing=add_k", "model.k=1", "model.order=2",
        "data.val_fraction=0", "data.test_fraction=0", "data.max_chars=null",
    )  # fmt: skip
    text = (CORPORA / "dino.txt").read_text("utf-8").lower()
    lines = [f"^{line}\n" for line in text.split("\n") if line]
    pairs = Counter(pair for line in lines for pair in pairwise(line))
    firsts = Counter(character for line in lines for character in line[:-1])
    size = len(set(text))
    total = sum(n * -log((n + 1) / (firsts[first] + size)) for (first, _), n in pairs.items())
    assert done.summary["train/loss"] == pytest.approx(total / pairs.total(), rel=1e-12)


def test_a_run_of_one_step_writes_all_files_of_a_run(train: Train) -> None:
    done = train(*NGRAM)
    assert done.directory is not None, done.err
    [row] = rows_of(done)
    assert (row["epoch"], row["step"]) == ("1", "1")
    assert not {"train/lr", "train/grad_norm"} & row.keys()
    assert float(row["train/chars_per_second"]) > 0
    assert float(row["train/perplexity"]) < float(row["val/perplexity"])
    lines = (done.directory / "samples.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["step"] for line in lines} == {0, 1}
    summary = done.summary
    assert (summary["status"], summary["epochs"], summary["best_epoch"]) == ("finished", 1, 1)
    assert summary["model"] == "5-gram kneser_ney"
    best = lyricgen.load(done.directory / "checkpoints/best.ckpt")
    last = lyricgen.load(done.directory / "checkpoints/last.ckpt")
    assert summary["parameters"] == best.network.num_parameters
    texts = [model.generate_many(["分开"], count=3, seed=2) for model in (best, last)]
    assert texts[0] == texts[1]
    events = EventAccumulator(
        str(done.directory),
        size_guidance={"tensors": 0},
        tensor_size_guidance={"scalars": 0},
    )
    events.Reload()
    [drawn] = events.Tensors("val/perplexity")
    assert drawn.step == 1
    assert drawn.tensor_proto.float_val[0] == pytest.approx(float(row["val/perplexity"]), rel=1e-6)
    started = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    columns = HParamsPluginData.FromString(started).session_start_info.hparams
    assert columns["model"].string_value == "ngram"
    assert columns["~model.order"].number_value == 5
    assert not {"cell", "hidden_size", "optimizer", "trainer.max_epochs"} & set(columns)


def test_n_grams_are_fitted_without_a_trainer(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a Trainer was built")

    monkeypatch.setattr(pl.Trainer, "__init__", refuse)
    done = train(*NGRAM, "trainer.max_epochs=7", "trainer.precision=bf16-mixed")
    assert done.status == 0, done.err
    assert done.directory is not None
    # the recorded settings stay as typed
    trainer = done.summary["options"]["trainer"]
    assert (trainer["max_epochs"], trainer["precision"]) == (7, "bf16-mixed")
    path = done.directory / "checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    assert content.keys() == {"epoch", "global_step", "state_dict", "lyricgen", "run"}
    text = (CORPORA / "lyrics.txt").read_text("utf-8")[:1500]
    model = lyricgen.load(path)
    fitted = NgramLanguageModel(model.network.architecture)  # type: ignore[arg-type]
    fitted.fit(model.vocabulary.encode(text[:1200]))
    expected = {f"model.{name}": value for name, value in fitted.state_dict().items()}
    assert content["state_dict"].keys() == expected.keys()
    assert all(torch.equal(content["state_dict"][name], expected[name]) for name in expected)


def test_generate_writes_from_a_checkpoint_of_n_grams(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    done = train(*NGRAM, "data=dino")
    assert done.directory is not None, done.err
    capfd.readouterr()
    generate.main([str(done.directory), "--prefix", "ab", "--count", "4", "--seed", "3"])
    written = capfd.readouterr().out.splitlines()
    assert len(written) == 4  # each text ends with its line
    assert all(line.startswith("ab") for line in written)
    model = lyricgen.load(done.directory)
    assert written == model.generate_many(["ab"], count=4, seed=3)


def test_settings_of_networks_do_not_change_n_grams(train: Train) -> None:
    plain = train(*NGRAM)
    other = train(
        *NGRAM,
        "trainer.max_epochs=7",
        "trainer.val_check_interval=1000",
        "trainer.precision=bf16-mixed",
        "trainer.gradient_clip_algorithm=value",
        "trainer.accelerator=gpu",
        "cell=gru",
        "optimizer=sgd",
        "scheduler=plateau",
        "loss.reduction=sum",
        "sampler=random",
        "data.batch_size=1000",  # far more than there are windows
    )
    assert other.status == 0, other.err
    timed = "train/chars_per_second"
    assert [{**row, timed: ""} for row in rows_of(other)] == [
        {**row, timed: ""} for row in rows_of(plain)
    ]


def test_the_sampler_decides_the_layout(train: Train) -> None:
    lines = train(*NGRAM, "data=dino")
    stream = train(*NGRAM, "data=dino", "sampler=consecutive")
    assert lines.summary["val/perplexity"] != stream.summary["val/perplexity"]
    assert lines.directory is not None
    assert stream.directory is not None
    assert lyricgen.load(lines.directory).layout == "lines"
    assert lyricgen.load(stream.directory).layout == "stream"


def test_the_name_of_a_run_has_its_order_and_smoothing(train: Train) -> None:
    done = train(*NGRAM, "model.order=2", "model.smoothing=add_k")
    assert str(done.directory).endswith("_lyrics_2-gram_add_k")
    assert str(train(*NGRAM, "name=mine").directory).endswith("_mine")


@pytest.mark.slow
def test_a_sweep_varies_the_order(train: Train, tmp_path: Path) -> None:
    done = train("-m", *NGRAM, "model.order=1,2,3")
    assert done.status == 0, done.err
    summaries = sorted(tmp_path.glob("outputs/sweeps/*/*/*/summary.json"))
    found = [json.loads(path.read_text("utf-8"))["model"] for path in summaries]
    assert found == [f"{order}-gram kneser_ney" for order in (1, 2, 3)]


def test_resuming_a_finished_run_gives_a_notice_and_a_stopped_run_starts_again(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(*NGRAM)
    again = train("resume=latest", "trainer.max_epochs=9")
    assert again.status == 0
    assert "is finished: its n-grams are counted" in again.out
    fit = NgramLanguageModel.fit

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NgramLanguageModel, "fit", stop)
    stopped = train(*NGRAM)
    assert stopped.status == 130
    assert stopped.summary["status"] == "interrupted"
    monkeypatch.setattr(NgramLanguageModel, "fit", fit)
    assert train("resume=latest").status == 0
    assert stopped.summary["status"] == "finished"
    assert stopped.summary["val/loss"] == whole.summary["val/loss"]
    assert stopped.directory is not None
    assert whole.directory is not None
    assert (stopped.directory / "samples.jsonl").read_bytes() == (
        whole.directory / "samples.jsonl"
    ).read_bytes()


@pytest.mark.slow
def test_networks_and_n_grams_cannot_start_from_each_other(train: Train) -> None:
    ngram, network = train(*NGRAM), train(*TINY, "trainer.max_epochs=1")
    for overrides in ((*NGRAM, f"init_from={network.directory}"),
                      (*TINY, f"init_from={ngram.directory}")):  # fmt: skip
        refused = train(*overrides)
        assert refused.status == 2
        assert refused.err.startswith("error: init_from: ")
        assert "no weights" in refused.err
        assert refused.err.count("\n") == 1


@pytest.mark.parametrize(
    "override", ["model.order=0", "model.order=10", "model.smoothing=laplace", "model.k=0"]
)
def test_options_out_of_range_are_refused(train: Train, override: str) -> None:
    refused = train(*NGRAM, override)
    assert refused.status == 2
    assert refused.err.startswith(f"error: {override.split('=', maxsplit=1)[0]}")
    assert refused.err.count("\n") == 1


def test_one_step_has_no_smoothed_loss(train: Train) -> None:
    run = train(*TINY, "model=ngram", "callbacks.smoothed_loss.enabled=true")
    assert run.status == 2
    assert "callbacks.smoothed_loss.enabled=true follows a loss from step to step" in run.err


# Figures measured by other programs, to the digits given


QUIET = ("model=ngram", "logger=none", "callbacks.samples.every_n_epochs=0")


def test_perplexities_of_jay_chou_equal_those_of_other_programs(train: Train) -> None:
    need_published("jaychou")
    five = train(*QUIET, "data=jaychou")
    assert five.summary["val/perplexity"] == pytest.approx(220, abs=0.5)
    assert five.summary["test/perplexity"] == pytest.approx(232, abs=0.5)
    two = train(*QUIET, "data=jaychou", "model.smoothing=witten_bell", "model.order=2")
    assert two.summary["val/perplexity"] == pytest.approx(284, abs=0.5)


def test_nats_of_dinosaurs_equal_those_of_other_programs(train: Train) -> None:
    """1.70-1.71 nats per character on a tenth of the distinct names, mean of three splits."""
    need_published("coursera_dino")
    losses = [
        train(
            *QUIET,
            "data=coursera_dino",
            "data.distinct=true",
            "data.test_fraction=0",
            f"data.split_seed={seed}",
            "model.smoothing=witten_bell",
        ).summary["val/loss"]
        for seed in (0, 1, 2)
    ]
    assert 1.695 < sum(losses) / 3 < 1.715
