"""Callbacks of a training: samples, figures, n-grams, the progress report, the speed."""

import csv
import io
import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console

from lyricgen import console as terminal
from lyricgen.api.models import WritingModel
from lyricgen.console import ConsoleHandler
from lyricgen.data.batch import Sampler
from lyricgen.data.corpus import encode
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.preparation import Corpus
from lyricgen.data.samplers import ConsecutiveSampler, LineSampler
from lyricgen.data.splits import make_splits
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.network import LanguageModel
from lyricgen.models.ngram.model import NgramCounts, smooth_counts
from lyricgen.runs.state import RunState
from lyricgen.training.callbacks import progress
from lyricgen.training.callbacks import samples as drawn_samples
from lyricgen.training.callbacks.baseline import Baseline
from lyricgen.training.callbacks.figures import EpochLog, Throughput
from lyricgen.training.callbacks.progress import ProgressReport
from lyricgen.training.callbacks.samples import Sample, Samples, choose_prefixes
from lyricgen.training.lightning_hooks import Moments, Observer
from lyricgen.training.observer_options import BaselineOptions, SamplesOptions
from lyricgen.training.recurrent_module import RecurrentModule
from lyricgen.training.totals import NatsTotal, score_split
from tests.conftest import TINY, Train
from tests.helpers.callbacks import Layout, names, network_of
from tests.helpers.ngram_reference import nats_of

Floats = npt.NDArray[np.float64]
LAYOUTS: tuple[Layout, ...] = ("stream", "lines")

pytestmark = pytest.mark.filterwarnings(
    # about a step-wise log that lyricgen does not keep, and Lightning's own use of torch
    "ignore:The number of training batches",
    "ignore::FutureWarning:pytorch_lightning.utilities._pytree",
    "ignore:.*treespec.*is deprecated",
)


def datamodule_of(text: str, layout: Layout, held_out: float = 0.2) -> CharacterDataModule:
    vocabulary = Vocabulary.of(text)
    corpus = encode(Corpus("test", "line" if layout == "lines" else "text", text))
    splits = make_splits(
        corpus,
        layout=layout,
        val_fraction=held_out,
        test_fraction=held_out,
        split_seed=0,
    )
    train = splits["train"]
    sampler: Sampler = (
        LineSampler(train.line_starts, train.line_lengths, 8, seed=0)
        if train.line_starts is not None
        else ConsecutiveSampler(len(train.ids), 4, 10, drop_last=True)
    )
    return CharacterDataModule(vocabulary, splits, sampler)


def module_of(datamodule: CharacterDataModule, layout: Layout) -> RecurrentModule:
    return RecurrentModule(
        network_of(datamodule.vocabulary, layout),
        optimizer=partial(torch.optim.Adam, lr=0.02),
        schedule=lambda _: None,
        label_smoothing=0.0,
        reduction="mean",
        card={},
        state=RunState(),
        total=NatsTotal(Vocabulary("ab")),
        seed=1,
    )


def trainer_of(tmp_path: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    observers = [each for each in callbacks if isinstance(each, Observer)]
    return pl.Trainer(
        **{"max_epochs": 1, **options},
        accelerator="cpu",
        logger=False,
        callbacks=[*callbacks, Moments(observers)],
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


# Samples


def samples_of(text: str, layout: Layout, tmp_path: Path, **options: Any) -> Samples:
    """Build the callback for a training on the text that starts now; it has drawn nothing."""
    datamodule = datamodule_of(text, layout, held_out=0)
    network = network_of(datamodule.vocabulary, layout)
    model = WritingModel(network, datamodule.vocabulary, layout, lowercase=False)
    settings: dict[str, Any] = {
        "every_n_epochs": 1,
        "prefixes": [""],
        "count": 1,
        "length": 20,
        "seed": 1,
        "steps": [],
        "generator": "torch",
        "temperature": 1.0,
    }
    chosen = SamplesOptions(**{**settings, **options})
    samples = Samples(RunState(), model, tmp_path / "s.jsonl", chosen, text, 1)
    trainer: Any = SimpleNamespace(datamodule=datamodule, is_global_zero=True, global_step=1)
    samples.on_train_start(trainer, pl.LightningModule())
    return samples


def sample(text: str, prefix: str = "") -> Sample:
    return Sample(step=1, epoch=1, prefix=prefix, strategy="temperature 1", seed=1, text=text)


def copied_fraction(samples: Samples, texts: list[Sample]) -> float | None:
    return samples.figures(texts).get("samples/copied_fraction")


SONG = "春天来了\n你在哪里\n\n想要和你\n" * 8


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["春天来了\n里哪在你\n"], 1 / 2),
        (["春天来了\n你在哪里\n"], 1.0),
        (["春天来\n天来了\n来"], 0.0),  # pieces of lines are no lines
        (["春天来了"], None),  # cut off at the length, so it may not be a whole line
        (["里哪\n春天来了"], 0.0),
        (["\n\n春天来了\n\n\n里哪\n"], 1 / 2),  # blank lines do not count
        (["春天来了\n", "里哪\n里哪\n里哪\n"], 1 / 4),  # of all lines, not a mean of shares
        (["来了\n来了来你\n"], 0.0),
        ([""], None),
        ([], None),
    ],
)
def test_copied_lines_of_a_stream(tmp_path: Path, texts: list[str], share: float | None) -> None:
    samples = samples_of(SONG, "stream", tmp_path)
    assert copied_fraction(samples, [sample(text) for text in texts]) == share


def test_greedy_texts_are_not_judged(tmp_path: Path) -> None:
    samples = samples_of(SONG, "stream", tmp_path)
    greedy = replace(sample("春天来了\n你在哪里\n"), strategy="greedy")
    assert samples.figures([greedy]) == {}
    assert samples.figures([greedy, sample("里哪\n")]) == samples.figures([sample("里哪\n")])


def test_copied_lines_of_a_text_with_spaces_for_newlines(tmp_path: Path) -> None:
    samples = samples_of(SONG.replace("\n", " "), "stream", tmp_path)
    assert copied_fraction(samples, [sample("春天来了 里哪在你 你在")]) == 1 / 2


def test_words_of_a_line_do_not_count_as_lines(tmp_path: Path) -> None:
    samples = samples_of("叮当一声 夜就开演\nto be or not\n" * 20, "stream", tmp_path)
    assert copied_fraction(samples, [sample("叮当一声 演开就夜\nbe to\n")]) == 0.0
    assert copied_fraction(samples, [sample("叮当一声 夜就开演\nbe to\n")]) == 1 / 2


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["triceratops"], 1.0),
        (["triceratop", "triceratopsps", "ceratops"], 0.0),
        (["triceratops", "mei", "yi", "to"], 3 / 4),
        (["mei", ""], 1.0),  # an empty line does not count
        (["mei", "x" * 20], 1.0),  # of the greatest length: cut off
        ([""], None),
    ],
)
def test_copied_lines_of_a_list(tmp_path: Path, texts: list[str], share: float | None) -> None:
    samples = samples_of("triceratops\nmei\nyi\nx\n" * 5, "lines", tmp_path)
    assert copied_fraction(samples, [sample(text) for text in texts]) == share


def test_copied_lines_of_a_list_with_spaces(tmp_path: Path) -> None:
    samples = samples_of("new york\nlos angeles\nrome\n" * 5, "lines", tmp_path)
    assert copied_fraction(samples, [sample("new york"), sample("rome")]) == 1.0
    assert copied_fraction(samples, [sample("york"), sample("rome")]) == 1 / 2


def test_the_length_includes_the_prefix(tmp_path: Path) -> None:
    """A line shorter than the length, with its prefix, ended by itself and is whole."""
    samples = samples_of("triceratops\nmei\n" * 5, "lines", tmp_path, length=8)
    assert copied_fraction(samples, [sample("triceratops", prefix="tric")]) == 1.0
    assert copied_fraction(samples, [sample("triceratops", prefix="tri")]) is None


def test_held_out_lines_are_not_copied(tmp_path: Path) -> None:
    text = "".join(f"{a}{b}\n" for a, b in itertools.product("abcdefgh", repeat=2))
    datamodule = datamodule_of(text, "lines", held_out=0.25)
    samples = samples_of(text, "lines", tmp_path)
    trainer: Any = SimpleNamespace(datamodule=datamodule, is_global_zero=True, global_step=1)
    samples.on_train_start(trainer, pl.LightningModule())
    copied = {line for line in text.split() if copied_fraction(samples, [sample(line)]) == 1.0}
    ids = datamodule.splits["train"].ids
    kept = ids[ids < len(datamodule.vocabulary)].tolist()
    expected = "".join(datamodule.vocabulary.characters[i] for i in kept).split()
    assert copied == set(expected)
    assert len(copied) == 32


def test_no_copied_lines_are_counted_for_a_very_long_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drawn_samples, "MOST_COMPARED", len(SONG) - 1)
    with caplog.at_level(logging.INFO):
        samples = samples_of(SONG, "stream", tmp_path)
    assert copied_fraction(samples, [sample("春天来了\n")]) is None
    assert len(caplog.messages) == 1
    assert "samples/copied_fraction" in caplog.text
    monkeypatch.setattr(drawn_samples, "MOST_COMPARED", len(SONG))
    assert copied_fraction(samples_of(SONG, "stream", tmp_path), [sample("春天来了\n")]) == 1.0


def test_each_drawing_has_its_own_random_numbers(tmp_path: Path) -> None:
    samples = samples_of(SONG, "stream", tmp_path, prefixes=["春", "你"], count=2)
    drawn = [samples.draw(step, 0) for step in (0, 1, 2)]
    for step, texts in enumerate(drawn):
        assert [s.prefix for s in texts] == ["春", "你", "春", "春", "你", "你"]
        assert [s.strategy for s in texts] == ["greedy"] * 2 + ["temperature 1"] * 4
        assert {s.step for s in texts} == {step}
        assert all(s.text.startswith(s.prefix) and len(s.text) == 21 for s in texts)
        assert texts == samples.draw(step, 0)
        assert texts[:2] == [Sample(**{**vars(s), "step": step, "seed": texts[0].seed})
                             for s in drawn[0][:2]]  # fmt: skip
    random = [s.text for texts in drawn for s in texts[2:]]
    assert len(set(random)) == len(random)


def model_with(characters: str, layout: Layout = "stream", lowercase: bool = False) -> WritingModel:
    vocabulary = Vocabulary.of(characters + "\n")
    return WritingModel(network_of(vocabulary, layout), vocabulary, layout, lowercase)


@pytest.mark.parametrize(
    ("given", "characters", "layout", "text", "chosen"),
    [
        (["春", "天来"], "春天来", "stream", "春天来", ["春", "天来"]),
        (["b"], "abc", "lines", "abc\n", ["b"]),  # a given prefix holds for lists, too
        (None, "分开不", "stream", "不分开", ["分开", "不分开"]),
        (None, "分开", "stream", "分开", ["分开"]),
        (None, "分不", "stream", "\n \n不分\n", ["不分"]),
        (None, "abc", "stream", "cab", ["ca"]),
        (None, "分开不", "lines", "分开\n不\n", [""]),
        ([], "abc", "lines", "abc\n", [""]),
        ([], "分开", "stream", "分开", ["分开"]),
    ],
)
def test_prefixes_are_chosen_by_the_text_unless_given(
    given: list[str] | None, characters: str, layout: Layout, text: str, chosen: list[str]
) -> None:
    assert choose_prefixes(given, model_with(characters, layout), text) == chosen


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prefix_with_unknown_characters_is_refused(layout: Layout) -> None:
    with pytest.raises(UserError, match="'Ω'"):
        choose_prefixes(["ab", "aΩ"], model_with("abc", layout), "abc\n")


def test_a_prefix_is_normalised_as_by_generate() -> None:
    model = model_with("abcé", "stream", lowercase=True)
    [prefix] = choose_prefixes(["ABe\u0301"], model, "abcé")
    assert model.generate(prefix, length=3) == model.generate("abé", length=3)


def test_a_prefix_with_a_newline_is_refused_for_lines() -> None:
    with pytest.raises(UserError, match="newline"):
        choose_prefixes(["a\nb"], model_with("ab", "lines"), "ab\n")


# Rows of metrics.csv


def test_later_rows_may_add_columns(tmp_path: Path) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    logger = SimpleNamespace(log_metrics=lambda figures, step: logged.append((figures, step)))
    trainer: Any = SimpleNamespace(loggers=[logger], is_global_zero=True)
    state = RunState()
    log = EpochLog(state, NatsTotal(Vocabulary("ab")), tmp_path / "metrics.csv")
    epochs: list[dict[str, float]] = [
        {"train/loss": 2.5, "train/perplexity": 12.0},
        {"train/loss": 2.25, "val/loss": 3.5, "samples/copied_fraction": 0.0},
        {"val/loss": float("inf"), "train/loss": 2.0},
    ]
    for epoch, figures in enumerate(epochs):
        trainer.current_epoch, trainer.global_step = epoch, 10 * (epoch + 1)
        state.metrics = figures
        log.after_epoch(trainer, validated=True)
        with (tmp_path / "metrics.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == epoch + 1  # whole after each epoch
    assert list(rows[0]) == [
        "epoch", "step", "train/loss", "train/perplexity", "val/loss", "samples/copied_fraction",
    ]  # fmt: skip
    assert [row["step"] for row in rows] == ["10", "20", "30"]
    assert [int(row["epoch"]) - int(rows[0]["epoch"]) for row in rows] == [0, 1, 2]
    read = [
        {name: float(v) for name, v in row.items() if v and name not in {"epoch", "step"}}
        for row in rows
    ]
    assert read == epochs
    assert logged == [(figures, 10 * (i + 1)) for i, figures in enumerate(epochs)]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("scheduler", ["cosine", "plateau"])
def test_validation_every_other_epoch(train: Train, scheduler: str) -> None:
    """Only an epoch with a validation can be the best."""
    done = train(*TINY, "trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3",
                 f"scheduler={scheduler}")  # fmt: skip
    assert done.directory is not None, done.err
    with (done.directory / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        validated = [bool(row["val/loss"]) for row in csv.DictReader(stream)]
    assert validated == [False, True, False]
    assert done.summary["best_epoch"] == 2


@pytest.mark.parametrize("silent", ["no path", "another rank"])
def test_rows_are_kept_without_a_file(tmp_path: Path, silent: str) -> None:
    trainer: Any = SimpleNamespace(
        loggers=[], current_epoch=0, global_step=3, is_global_zero=silent == "no path"
    )
    state = RunState(metrics={"train/loss": 1.5})
    log = EpochLog(
        state,
        NatsTotal(Vocabulary("ab")),
        None if silent == "no path" else tmp_path / "metrics.csv",
    )
    log.after_epoch(trainer, validated=True)
    assert state.rows[0]["train/loss"] == 1.5  # kept for the end of the run
    assert list(tmp_path.iterdir()) == []


# N-grams and the mixture


def network_nats(network: LanguageModel, ids: list[int]) -> Floats:
    """Compute -ln p of each character except the first, one character at a time."""
    network.eval()
    nats, state = [], None
    with torch.no_grad():
        for before, after in itertools.pairwise(ids):
            logits, state = network(torch.tensor([[before]]), state)
            nats.append(-float(torch.log_softmax(logits[0, 0].double(), dim=-1)[after]))
    return np.array(nats)


def baseline_of(
    max_chars: int | None = None, order: int = 3, state: RunState | None = None
) -> Baseline:
    options = BaselineOptions(enabled=True, max_order=order, max_chars=max_chars)
    return Baseline(state or RunState(), options, least_order=1)


def both_nats(
    network: LanguageModel, datamodule: CharacterDataModule, split: str, order: int
) -> tuple[Floats, Floats]:
    """Return the nats of the network and of the n-gram for the same characters, in order."""
    size = len(datamodule.vocabulary)
    counts = NgramCounts(datamodule.splits["train"].ids.numpy(), size, order)
    ngram = nats_of(
        smooth_counts(counts, order, "kneser_ney"), datamodule.splits[split].ids.numpy()
    )
    ids = datamodule.splits[split].ids.tolist()
    if datamodule.splits[split].line_starts is None:
        return network_nats(network, ids), ngram[1:]
    starts = [i for i, symbol in enumerate(ids) if symbol == size]
    lines = [ids[a:b] for a, b in itertools.pairwise([*starts, len(ids)])]
    network_scores = np.concatenate([network_nats(network, line) for line in lines])
    return network_scores, ngram[[i for i, symbol in enumerate(ids) if symbol != size]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_figures_of_network_and_ngram_cover_the_same_characters(
    tmp_path: Path, layout: Layout
) -> None:
    datamodule = datamodule_of(names(120), layout)
    module = module_of(datamodule, layout)
    figures = module.run_state.metrics
    baseline = baseline_of(order=4, state=module.run_state)
    trainer = trainer_of(tmp_path, baseline, max_epochs=6)
    trainer.fit(module, datamodule)
    assert "val/mixture_perplexity" not in figures  # the weights still change
    drawn = figures["val/ngram_perplexity"]
    for split in ("val", "test"):
        nats = torch.full_like(baseline.nats[split], torch.nan)
        figures |= score_split(module.model, datamodule, split, nats)
        baseline.record(split, nats)

    for split in ("val", "test"):
        for order in range(1, 5):
            network, ngram = both_nats(module.model, datamodule, split, order)
            found = baseline.perplexities[split]["kneser_ney"][order - 1]
            assert found == pytest.approx(np.exp(ngram.mean()), rel=1e-12)
        assert len(network) == int((~baseline.nats[split].isnan()).sum()) == len(ngram)
        assert float(figures[f"{split}/perplexity"]) == pytest.approx(
            np.exp(network.mean()), rel=1e-5
        )
    by_order = baseline.perplexities["val"]["kneser_ney"]
    assert baseline.best_order == by_order.index(min(by_order)) + 1
    assert drawn == pytest.approx(min(by_order), rel=1e-12)
    assert float(figures["test/ngram_perplexity"]) == pytest.approx(
        baseline.perplexities["test"]["kneser_ney"][baseline.best_order - 1], rel=1e-12
    )
    _check_mixture(baseline, module, datamodule, figures)


def _check_mixture(
    baseline: Baseline,
    module: RecurrentModule,
    datamodule: CharacterDataModule,
    figures: dict[str, Any],
) -> None:
    def loss(weight: float, network: Floats, ngram: Floats) -> float:
        mixed = weight * np.exp(-network) + (1 - weight) * np.exp(-ngram)
        return float(-np.log(mixed).mean())

    val = both_nats(module.model, datamodule, "val", baseline.best_order)
    grid = np.linspace(0, 1, 2001)
    losses = [loss(weight, *val) for weight in grid]
    weight = float(grid[int(np.argmin(losses))])
    assert 0.01 < weight < 0.99  # otherwise the mixture would equal one of the two
    assert baseline.network_weight == pytest.approx(weight, abs=1e-3)
    assert float(figures["val/mixture_perplexity"]) == pytest.approx(np.exp(min(losses)), rel=1e-5)
    test = both_nats(module.model, datamodule, "test", baseline.best_order)
    # the weight is chosen on the validation split
    assert baseline.network_weight is not None
    assert float(figures["test/mixture_perplexity"]) == pytest.approx(
        np.exp(loss(baseline.network_weight, *test)), rel=1e-5
    )
    assert min(losses) < min(val[0].mean(), val[1].mean())


def test_perplexities_of_witten_bell_are_kept_too() -> None:
    datamodule = datamodule_of(names(120), "stream")
    baseline = baseline_of()
    baseline.count(datamodule)
    train, val = (datamodule.splits[split].ids.numpy() for split in ("train", "val"))
    counts = NgramCounts(train, len(datamodule.vocabulary), 3)
    for order in (1, 2, 3):
        nats = nats_of(smooth_counts(counts, order, "witten_bell"), val)[1:]
        found = baseline.perplexities["val"]["witten_bell"][order - 1]
        assert found == pytest.approx(np.exp(nats.mean()), rel=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_limited_counts_are_of_the_end_of_the_training_split(
    layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    datamodule = datamodule_of(names(200), layout)
    train, size = datamodule.splits["train"], len(datamodule.vocabulary)
    ids = train.ids.numpy()
    end = ids[-300:]
    if layout == "lines":  # whole lines, at most 300 characters without start symbols
        lines = np.split(ids, np.flatnonzero(ids == size)[1:])
        while sum(len(line) - 1 for line in lines) > 300:
            lines.pop(0)
        end = np.concatenate(lines)
    baseline = baseline_of(300)
    with caplog.at_level(logging.INFO):
        baseline.count(datamodule)
    counts = NgramCounts(end, size, 3)
    for split in ("val", "test"):
        for order in (1, 2, 3):
            nats = nats_of(
                smooth_counts(counts, order, "kneser_ney"), datamodule.splits[split].ids.numpy()
            )
            nats = nats[1:] if layout == "stream" else nats
            found = baseline.perplexities[split]["kneser_ney"][order - 1]
            assert found == pytest.approx(np.exp(np.nanmean(nats)), rel=1e-12)
    counted = int((end != size).sum())
    assert (baseline.characters, baseline.sampled) == (counted, True)
    assert f"the last {counted} characters" in caplog.text


def test_a_limit_above_the_whole_split_counts_everything(caplog: pytest.LogCaptureFixture) -> None:
    datamodule = datamodule_of(names(50), "stream")
    whole, longest = (
        baseline_of(),
        baseline_of(len(datamodule.splits["train"].ids)),
    )
    with caplog.at_level(logging.INFO):
        for baseline in (whole, longest):
            baseline.count(datamodule)
            assert not baseline.sampled
            assert baseline.characters == len(datamodule.splits["train"].ids)
    assert whole.perplexities == longest.perplexities
    assert not caplog.messages


def test_no_perplexities_without_held_out_text() -> None:
    baseline = baseline_of()
    baseline.count(datamodule_of(names(50), "stream", held_out=0))
    assert baseline.perplexities == {}


# The progress report


class Untouchable:
    """Value on the device; any use of it fails, because reading it waits for the device."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise AssertionError(f"asked for {name}")

    __float__ = __getitem__ = __iter__ = __len__ = __getattribute__  # type: ignore[assignment]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Replace the clocks by one that stands still until it is called with seconds."""
    now = [1000.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return advance


def trainer_on_gpu() -> Any:
    return SimpleNamespace(
        is_global_zero=True, max_epochs=3, num_training_batches=20, current_epoch=0,
        accumulate_grad_batches=1, global_step=0,
        strategy=SimpleNamespace(root_device=torch.device("cuda")),
    )  # fmt: skip


def report_of() -> ProgressReport:
    return ProgressReport(RunState(), NatsTotal(Vocabulary("ab")))


def batch(report: ProgressReport, trainer: Any) -> None:
    nothing: Any = Untouchable()
    trainer.global_step += 1
    report.after_step(trainer, nothing)


def epoch_end(report: ProgressReport, trainer: Any, **figures: float) -> None:
    report.state.metrics = {name.replace("_", "/", 1): value for name, value in figures.items()}
    report.after_epoch(trainer, validated=True)
    report.state.metrics = Untouchable()  # type: ignore[assignment]


def test_plain_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: Callable[[float], None],
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "get_console", lambda: Console(file=shown))
    monkeypatch.setattr(terminal, "get_console", lambda: Console(file=shown))
    caplog.set_level(logging.INFO, "lyricgen")
    report, trainer = report_of(), trainer_on_gpu()
    report.on_train_start(trainer, pl.LightningModule())
    for _ in range(20):
        batch(report, trainer)
        clock(1.0)
    epoch_end(report, trainer, train_perplexity=1234.56, val_perplexity=50.25)
    clock(5.0)
    trainer.current_epoch = 1
    batch(report, trainer)
    epoch_end(report, trainer, train_perplexity=3.0, train_chars_per_second=12345.6)
    report.on_train_end(trainer, pl.LightningModule())
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 1/3: step 12 of 20",  # it was silent for more than ten seconds
        "epoch 1/3: train perplexity 1,234.6, val perplexity 50.2",
        "epoch 2/3: train perplexity 3.0, 12,346 characters/s",
    ]
    assert shown.getvalue() == ""


def test_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: Callable[[float], None],
) -> None:
    screen = Console(force_terminal=True, file=io.StringIO(), width=120)
    monkeypatch.setattr(progress, "get_console", lambda: screen)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    caplog.set_level(logging.INFO, "lyricgen")
    report, trainer = report_of(), trainer_on_gpu()
    report.on_train_start(trainer, pl.LightningModule())
    for _ in range(20):
        clock(1.0)
        batch(report, trainer)
    epoch_end(report, trainer, train_perplexity=1234.56, val_perplexity=50.25)
    trainer.current_epoch = 1
    clock(1.0)
    batch(report, trainer)
    report.on_train_end(trainer, pl.LightningModule())
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "epoch 2/3" in shown
    assert "perplexity train 1,234.6, val 50.2" in shown
    assert "━" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the bar is wiped off
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    # the line stays when the bar is gone
    assert [record.getMessage() for record in caplog.records] == [
        "epoch 1/3: train perplexity 1,234.6, val perplexity 50.2"
    ]


def test_the_bar_shows_perplexity_within_the_first_epoch(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    screen = Console(force_terminal=True, file=io.StringIO(), width=120)
    monkeypatch.setattr(progress, "get_console", lambda: screen)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    datamodule = datamodule_of(names(50), "stream")
    module = module_of(datamodule, "stream")
    module.totals["train"].add(torch.tensor(10 * math.log(321.5)), 10, torch.zeros(10))
    report, trainer = ProgressReport(module.run_state, module.totals["train"]), trainer_on_gpu()
    trainer.strategy = SimpleNamespace(root_device=torch.device("cpu"))
    report.on_train_start(trainer, module)
    clock(1.0)
    report.after_step(trainer, None)
    report.on_train_end(trainer, module)
    assert "perplexity train 321.5" in screen.file.getvalue()  # type: ignore[attr-defined]


def test_the_bar_is_not_drawn_for_every_batch(
    monkeypatch: pytest.MonkeyPatch, clock: Callable[[float], None]
) -> None:
    screen = Console(force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(progress, "get_console", lambda: screen)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    drawn: list[int] = []
    monkeypatch.setattr(
        progress.ProgressBar,
        "update",
        lambda self, task, **fields: drawn.append(fields["completed"]),
    )
    report, trainer = report_of(), trainer_on_gpu()
    report.on_train_start(trainer, pl.LightningModule())
    for _ in range(100):
        batch(report, trainer)
        clock(0.01)
    report.on_train_end(trainer, pl.LightningModule())
    assert 3 <= len(drawn) <= 6


def test_the_bar_is_closed_when_training_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(progress, "get_console", lambda: screen)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    for _ in range(2):  # a console can hold one live bar: a second run would fail
        report = report_of()
        report.on_train_start(trainer_on_gpu(), pl.LightningModule())
        report.on_exception(trainer_on_gpu(), pl.LightningModule(), RuntimeError())
        report.on_train_end(trainer_on_gpu(), pl.LightningModule())
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2


def test_only_one_process_reports(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: Callable[[float], None],
) -> None:
    screen = Console(force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(progress, "get_console", lambda: screen)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    caplog.set_level(logging.INFO, "lyricgen")
    report, trainer = report_of(), trainer_on_gpu()
    trainer.is_global_zero = False
    report.on_train_start(trainer, pl.LightningModule())
    clock(60.0)
    batch(report, trainer)
    epoch_end(report, trainer, train_perplexity=3.0)
    report.on_train_end(trainer, pl.LightningModule())
    assert screen.file.getvalue() == ""  # type: ignore[attr-defined]
    assert caplog.records == []


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_of_slow_work_is_shown(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    clock: Callable[[float], None],
    is_terminal: bool,
) -> None:
    screen = Console(force_terminal=is_terminal, file=io.StringIO(), width=80)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    shown: io.StringIO = screen.file  # type: ignore[assignment]
    caplog.set_level(logging.INFO, "lyricgen")
    with terminal.progress("encoding song.txt", 400) as moved:
        for done in range(20):
            clock(0.09)
            moved(done)
        assert shown.getvalue() == ""  # short work shows nothing
        for done in range(20, 320):
            clock(0.1)
            moved(done)
    if is_terminal:
        assert "encoding song.txt" in shown.getvalue()
        assert shown.getvalue().rindex("\x1b[?25h") > shown.getvalue().rindex("\x1b[?25l")
        assert caplog.messages == []
    else:
        assert "\x1b" not in shown.getvalue()
        assert caplog.messages == [f"encoding song.txt: {split} %" for split in (25, 50, 75)]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_messages_are_printed_as_they_are(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    screen = Console(force_terminal=is_terminal, file=io.StringIO(), width=30)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    message = "[bold]歌[/bold] /usr/bin 'text' 1.5 True :smile:\n" + "long " * 30
    handler = ConsoleHandler()
    handler.emit(logging.LogRecord("lyricgen", logging.INFO, "", 1, "%s", (message,), None))
    assert screen.file.getvalue() == message + "\n"  # type: ignore[attr-defined]


def test_messages_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(force_terminal=True, file=io.StringIO(), width=80)
    monkeypatch.setattr(terminal, "get_console", lambda: screen)
    monkeypatch.setattr(progress, "get_console", lambda: screen)
    report = report_of()
    report.on_train_start(trainer_on_gpu(), pl.LightningModule())
    record = logging.LogRecord("lyricgen", logging.INFO, "", 1, "分开 / 不分开", (), None)
    ConsoleHandler().emit(record)
    report.on_train_end(trainer_on_gpu(), pl.LightningModule())
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    message = shown.index("分开 / 不分开\n")
    # the line of the bar is wiped before the message is written, and the bar drawn again after it
    assert shown.rindex("\x1b[2K", 0, message) > shown.index("━")
    assert "━" in shown[message:]


# The speed


class SlowCallback(pl.Callback):
    """Callback that makes a training step take a second and a validation very long."""

    def __init__(self, clock: Callable[[float], None]) -> None:
        self.clock = clock
        self.steps = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock(1.0)
        self.steps += 1

    def on_validation_epoch_start(self, *_: Any) -> None:
        self.clock(100.0)

    def on_validation_batch_start(self, *_: Any) -> None:
        self.clock(1000.0)

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.clock(100.0)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.clock(0.5)


@pytest.mark.parametrize("every", [1.0, 3])  # validation after each epoch, or every three batches
def test_speed_leaves_out_validation(
    tmp_path: Path, clock: Callable[[float], None], every: float
) -> None:
    datamodule = datamodule_of(names(120), "stream")
    module = module_of(datamodule, "stream")
    state = module.run_state
    throughput, slow = Throughput(state), SlowCallback(clock)
    trainer = trainer_of(tmp_path, throughput, slow, max_epochs=2, val_check_interval=every)
    trainer.fit(module, datamodule)
    batches = len(datamodule.sampler)
    assert slow.steps == 2 * batches
    characters = module.totals["train"].characters
    assert characters == batches * 4 * 10
    found = state.metrics["train/chars_per_second"]
    assert found == pytest.approx(characters / (batches + 0.5), rel=1e-9)
    assert state.characters_per_second == pytest.approx(found, rel=1e-9)
    assert state.trained_characters == 2 * characters


def test_speed_of_a_run_is_all_characters_by_all_seconds(clock: Callable[[float], None]) -> None:
    """The speed of a run is not the mean of its epochs' speeds."""
    datamodule = datamodule_of(names(50), "stream")
    module = module_of(datamodule, "stream")
    state = RunState()
    throughput = Throughput(state)
    assert state.characters_per_second == 0.0
    trainer: Any = SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        optimizers=[torch.optim.SGD(module.parameters(), lr=0.25)],
    )
    clock(7.0)
    for characters, seconds in ((100, 10.0), (300, 2.0)):
        throughput.on_train_epoch_start(trainer, module)
        clock(seconds)
        state.characters = characters
        state.gradient_norm_total, state.gradient_norms = torch.tensor(6.0), 4
        throughput.after_epoch(trainer, validated=True)
        clock(500.0)  # samples and checkpoints are no training time
        assert state.metrics["train/chars_per_second"] == characters / seconds
    assert state.characters_per_second == pytest.approx(400 / 12)
    assert state.metrics["train/grad_norm"] == 6.0 / 4
    assert state.metrics["train/lr"] == 0.25
