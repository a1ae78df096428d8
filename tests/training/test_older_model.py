"""Runs that start from an older model: `init_from`."""

import csv
import random
from pathlib import Path

import pytest
import torch

from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.splits import split_text
from lyricgen.evaluate import main as evaluate
from lyricgen.generate import main as generate
from lyricgen.models.checkpoint import load
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.model import Model, cross_entropy
from lyricgen.models.trained_model import TrainedModel
from lyricgen.runs.record_files import read_yaml
from lyricgen.settings import flatten
from lyricgen.training import older_model
from lyricgen.training.totals import score_split
from tests.conftest import TINY, Train, run_main, sweep_of
from tests.helpers.resuming import same_weights, send, stop_at, weights

TEXT = "we sing 分开 again, and again\nthen we rest\n" * 20
SECOND = (
    "recipe=none", "trainer=cpu", "data=text", "data.path=second.txt", "data.batch_size=4",
    "data.num_steps=10", "trainer.max_epochs=2", "callbacks.samples.every_n_epochs=0",
    "callbacks.checkpoint.every_n_steps=4", "data.max_chars=null",
)  # fmt: skip


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "second.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the models that a run loads to start from, in the order of their loading."""
    paths: list[str] = []

    def count(path: str | Path) -> TrainedModel:
        paths.append(str(path))
        return load(path)

    monkeypatch.setattr(older_model, "load", count)
    return paths


def count_scores(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Splits that a run scores before its first validation."""
    splits: list[str] = []

    def count(model: Model, datamodule: CharacterDataModule, split: str) -> dict[str, float]:
        splits.append(split)
        return score_split(model, datamodule, split)

    monkeypatch.setattr(older_model, "score_split", count)
    return splits


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize(
    "shape",
    [
        ("model=recurrent", "cell=gru", "layers=2", "depth.residual=true"),
        ("model=hybrid", "cell=rnn", "cell.nonlinearity=relu", "model.order=3"),
        ("model=hybrid", "model.combination=product", "model.tie_weights=false"),
        ("model=recurrent", "model.input=one_hot", "model.tie_weights=false"),
        ("objective=fill",),
    ],
)
def test_the_architecture_comes_from_the_older_model(train: Train, shape: tuple[str, ...]) -> None:
    first = train(*TINY, *shape, "trainer.max_epochs=1")
    done = train(*SECOND, f"init_from={first.directory}")
    assert done.status == 0, done.err
    assert first.directory is not None
    assert done.directory is not None
    old, new = load(first.directory), load(done.directory)
    both = set(old.vocabulary.characters) | set(TEXT)
    assert new.vocabulary.characters == "".join(sorted(both))
    size = len(new.vocabulary)
    there, here = (one.network.architecture.model_dump(mode="json") for one in (old, new))
    for each in (there, here):
        each.pop("ngram", None)  # the weight of the older n-grams decides its order
        for part in (each, each.get("network", {})):
            part["vocabulary_size"] = size
    assert here == there
    assert done.summary["options"]["cell"]["kind"] == here.get("network", here)["cell"]["kind"]
    assert done.summary["options"]["hidden_size"] == 16
    # the directory is named before the older model is read
    assert done.directory.name.endswith("_second_init_from")
    assert done.summary["options"]["name"] == "second_init_from"


@pytest.mark.usefixtures("second")
def test_a_typed_setting_wins_and_another_kind_of_model_is_allowed(train: Train) -> None:
    first = train(*TINY, "model=hybrid", "cell=gru", "trainer.max_epochs=1")
    done = train(*SECOND, "model=recurrent", f"init_from={first.directory}")
    assert done.status == 0, done.err
    assert done.summary["options"]["model"]["kind"] == "recurrent"
    assert done.summary["options"]["cell"]["kind"] == "gru"
    refused = train(*SECOND, "layers=2", f"init_from={first.directory}")
    assert refused.status == 2
    assert "layers=1 there and 2 here" in refused.err


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize("step", [0, 5])
def test_a_stopped_run_continues_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    first = train(*TINY, "model=hybrid", "model.order=2", "cell=gru", "optimizer.lr=0.05")
    assert first.directory is not None
    options = (*SECOND, f"init_from={first.directory}", "model=hybrid", "model.order=2")
    loaded, scored = count_loads(monkeypatch), count_scores(monkeypatch)
    whole = train(*options)
    assert whole.status == 0, whole.err
    assert "the layers that weigh n-grams start anew" in whole.err + whole.out
    assert loaded == [str(first.directory)]
    assert scored == ["val", "val"]  # with and without the copied layers
    with monkeypatch.context() as patch:
        stop_at(patch, step, send(15))
        stopped = train(*options)
    assert stopped.status == 143
    hidden = first.directory.rename(first.directory.with_name("moved"))
    refused = train(f"resume={stopped.directory}")
    assert refused.status == 2
    assert "the run joins the n-grams of init_from=" in refused.err
    hidden.rename(first.directory)
    loaded.clear()
    scored.clear()
    done = train(f"resume={stopped.directory}")
    assert done.status == 0, done.err
    assert scored == []
    assert len(loaded) == len(set(loaded))
    assert loaded[-1] == str(first.directory)
    for name in ("last.ckpt", "best.ckpt"):
        assert same_weights(weights(whole.directory, name), weights(stopped.directory, name))


@pytest.mark.usefixtures("second")
def test_the_new_model_still_writes_the_older_characters(
    train: Train, capfd: pytest.CaptureFixture[str]
) -> None:
    first = train(*TINY, "model=hybrid", "trainer.max_epochs=1")
    done = train(*SECOND, f"init_from={first.directory}")
    assert done.directory is not None, done.err
    assert done.summary["corpus_digest"] != first.summary["corpus_digest"]
    shown = run_main(evaluate, capfd, str(done.directory), "--split", "val")
    assert shown.status == 0, shown.err
    assert "init_from" not in shown.err
    written = run_main(generate, capfd, str(done.directory), "--prefix", "末班车", "--length", "5")
    assert written.status == 0, written.err
    scratch = train(*SECOND, "model=hybrid", "hidden_size=16")
    assert scratch.summary["corpus_digest"] == done.summary["corpus_digest"]
    both = run_main(evaluate, capfd, str(done.directory), str(scratch.directory), "--together")
    assert both.status == 0, both.err


def test_the_same_text_keeps_the_order_and_the_layers_that_weigh_the_n_grams(train: Train) -> None:
    first = train(*TINY, "model=hybrid", "model.order=2", "optimizer.lr=0.05")
    done = train(*TINY, f"init_from={first.directory}", "optimizer.lr=1e-12")
    assert done.directory is not None, done.err
    assert first.directory is not None
    older, model = load(first.directory).network, load(done.directory).network
    assert isinstance(older, HybridModel)
    assert isinstance(model, HybridModel)
    assert model.ngram_order == 2
    torch.testing.assert_close(model.on_hidden.weight, older.on_hidden.weight, atol=1e-6, rtol=0)
    assert bool(model.on_hidden.weight.any())


def validation_loss(model: Model, ids: torch.Tensor) -> float:
    with torch.no_grad():
        logits, _ = model(ids[None, :-1])
    return float(-logits[0].double().log_softmax(-1).gather(1, ids[1:, None]).mean())


@pytest.mark.parametrize("combination", ["mixture", "product"])
@pytest.mark.parametrize("processes", [1, 2])
def test_copied_layers_that_do_worse_than_the_n_grams_start_anew(
    train: Train, second: Path, combination: str, processes: int
) -> None:
    draw = random.Random(3)
    # whose characters only 1-grams predict, and a text that 3-grams predict
    second.write_text("".join(draw.choices("abcdef", [6, 5, 4, 3, 2, 1], k=2000)), "utf-8")
    shape = ("model=hybrid", "model.order=3", f"model.combination={combination}")
    together = ("trainer=ddp", "trainer.accelerator=cpu", f"trainer.devices={processes}")
    first = train(*SECOND, *shape, "hidden_size=16", "optimizer.lr=0.05", "trainer.max_epochs=4")
    text = "acebdfabcfed" * 60
    second.write_text(text, "utf-8")
    further = (*SECOND, *shape[:2], f"init_from={first.directory}", "optimizer.lr=1e-12")
    done = train(*further, *(together if processes > 1 else ()))
    assert done.directory is not None, done.err
    assert first.directory is not None
    model, older = load(done.directory), load(first.directory).network
    assert isinstance(model.network, HybridModel)
    assert isinstance(older, HybridModel)
    assert bool(older.on_hidden.weight.any())
    assert not bool(model.network.on_hidden.weight.any())
    assert not bool(model.network.on_passed.weight.any())
    _, (start, stop), _ = split_text(len(text), 0.1, 0.1)
    ids = model.vocabulary.encode(text[start:stop]).long()
    losses = [validation_loss(one, ids) for one in (model.network, model.member("ngram").network)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    with (done.directory / "metrics.csv").open(encoding="utf-8") as file:
        [before, *_] = csv.DictReader(file)
    assert float(before["val/loss"]) == pytest.approx(losses[1], abs=1e-5)
    model.network.on_hidden.load_state_dict(older.on_hidden.state_dict())
    model.network.on_passed.load_state_dict(older.on_passed.state_dict())
    assert validation_loss(model.network.eval(), ids) > losses[1] + 0.01


@pytest.mark.usefixtures("second")
def test_an_older_weight_of_zero_leaves_the_older_n_grams_out(train: Train) -> None:
    first = train(*TINY, "model=hybrid", "model.order=2", "trainer.max_epochs=1")
    keys = {}
    for weight in (0, 1):
        given = (f"init_from={first.directory}", "model=hybrid", f"model.older_weight={weight}")
        done = train(*SECOND, *given)
        assert done.directory is not None, done.err
        model = load(done.directory).network
        assert isinstance(model, HybridModel)
        keys[weight] = len(model.ngram.model.grams.keys[1])
    pairs = len({TEXT[i : i + 2] for i in range(int(len(TEXT) * 0.8) - 1)})
    assert keys[0] == pairs < keys[1]


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize("there", ["text", "line", "document"])
def test_a_model_of_any_unit_goes_on_with_a_text_of_any_unit(
    train: Train, capfd: pytest.CaptureFixture[str], there: str
) -> None:
    texts = [f"{TEXT[: 20 + number]}\n{TEXT[number:60]}" for number in range(20)]
    Path("second.txt").write_text("\n\n".join(texts), "utf-8")
    first = train(
        *(*TINY, f"data.unit={there}", "data.max_chars=3000"),
        *("model=hybrid", "trainer.max_epochs=1", "callbacks.samples.every_n_epochs=0"),
    )
    assert first.directory is not None, first.err
    older = load(first.directory)
    assert ("\x03" in older.vocabulary.characters) == (there == "document")
    for here in ("text", "line", "document"):
        done = train(*SECOND, "model=hybrid", f"init_from={first.directory}", f"data.unit={here}")
        assert done.directory is not None, done.err
        model = load(done.directory)
        both = {*older.vocabulary.characters, *TEXT} - {"\x03"}
        end = "\x03" * (here == "document")
        assert model.vocabulary.characters == "".join(sorted(both | set(end)))
        written = run_main(generate, capfd, str(done.directory), "--length", "5")
        assert written.status == 0, written.err
        shown = run_main(evaluate, capfd, str(done.directory), "--split", "val")
        assert shown.status == 0, shown.err


@pytest.mark.usefixtures("second")
def test_a_finished_sweep_is_recognised_and_records_the_architecture(train: Train) -> None:
    first = train(*TINY, "model=recurrent", "cell=gru", "trainer.max_epochs=1")
    done = train("-m", *SECOND, f"init_from={first.directory}", "seed=1,2")
    assert done.status == 0, done.err
    sweep = sweep_of()
    jobs = sorted(sweep.glob("*_seed=*"))
    for job in jobs:
        recorded = read_yaml(job / ".hydra/config.yaml")
        assert (recorded["cell"]["kind"], recorded["model"]["kind"]) == ("gru", "recurrent")
        assert "auto" not in flatten(recorded | {"trainer": {}, "recipe": ""}).values()
    again = train(f"resume={sweep}")
    assert again.status == 0, again.err
    assert "2 of 2 jobs are done" in again.out
    assert sorted(sweep.glob("*_seed=*")) == jobs


def test_label_smoothing_leaves_out_the_characters_that_a_text_lacks() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64).log_softmax(-1)
    targets = torch.tensor([0, 1, 1, 0, -100])
    mask = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    loss, nats = cross_entropy(logits, targets, 0.2, mask)
    wanted = torch.zeros(4, 4, dtype=torch.float64)
    wanted[:, :2] = 0.1
    wanted[range(4), targets[:4]] += 0.8
    torch.testing.assert_close(loss, -(wanted * logits[:4]).sum())
    torch.testing.assert_close(nats, -logits[range(4), targets[:4]].sum())
