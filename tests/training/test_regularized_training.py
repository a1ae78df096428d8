"""Training with weight drop, locked and embedding dropout, and input noise."""

import signal
from collections import Counter
from itertools import pairwise

import pytest
import torch
from compare_runs import differences

from lyricgen.data.build import build_corpus
from lyricgen.models.checkpoint import load
from lyricgen.models.network import CharacterNetwork
from lyricgen.models.regularization import InputNoise
from lyricgen.training import build
from lyricgen.training.options import parse
from tests.conftest import TINY, Train
from tests.helpers.composition import compose_options
from tests.helpers.resuming import same_weights, send, stop_at, weights

ALL = (
    "model.weight_drop=0.5", "model.locked_dropout=true", "model.embedding_dropout=0.1",
    "model.noise=0.2",
)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        (*ALL, "layers=2", "depth.dropout=0.2", "model.noise_kind=kneser_ney"),
        (*ALL, "objective=fill", "cell=lstm_coupled", "data.max_chars=800"),
        (*ALL, "model=hybrid", "data.max_chars=800"),
        ("data=dino", "cell=gru_scratch", "model.input=one_hot", "model.noise=0.3"),
    ],
)
def test_a_regularized_run_is_resumed_exactly(
    train: Train, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    whole = train(*TINY, *options)
    assert whole.status == 0, whole.err
    with monkeypatch.context() as patch:
        stop_at(patch, 5, send(signal.SIGTERM))
        stopped = train(*TINY, *options)
    assert stopped.status == 143, stopped.err
    done = train(f"resume={stopped.directory}")
    assert done.status == 0, done.err
    assert whole.directory is not None and stopped.directory is not None
    assert differences(whole.directory, stopped.directory) == []
    refused = train(f"resume={stopped.directory}", "trainer.max_epochs=3", "model.noise=0.4")
    assert refused.status == 2
    assert "model.noise=" in refused.err


@pytest.mark.parametrize("setting", [*ALL, "model.noise_kind=kneser_ney"])
def test_each_setting_changes_the_training(train: Train, trained: Train, setting: str) -> None:
    noise = ("model.noise=0.2",) if setting.startswith("model.noise_kind") else ()
    plain, regular = trained(*TINY, *noise), train(*TINY, *noise, setting)
    assert regular.status == 0, regular.err
    assert not same_weights(weights(plain.directory), weights(regular.directory))


@pytest.mark.parametrize("data", ["lyrics", "dino"])
@pytest.mark.parametrize("kind", ["unigram", "kneser_ney"])
def test_noise_counts_the_training_split_alone(data: str, kind: str) -> None:
    options = parse(
        compose_options(
            "recipe=none", f"data={data}", "model.noise=0.5", f"model.noise_kind={kind}"
        )
    )
    datamodule = build.build_datamodule(options, build_corpus(options.data))
    torch.manual_seed(1)
    network = build.build_model(options, datamodule)
    assert isinstance(network, CharacterNetwork) and isinstance(network.noise, InputNoise)
    size = network.vocabulary_size
    ids = datamodule.splits["train"].ids.tolist()
    counts = Counter(one for one in ids if one < size)
    expected, rates = [counts[x] for x in range(size)], [0.5] * size
    if kind == "kneser_ney":
        pairs = {(x, y) for x, y in pairwise(ids) if x < size and y < size}
        before, after = Counter(y for _, y in pairs), Counter(x for x, _ in pairs)
        expected = [before[x] for x in range(size)]
        rates = [0.5 * after[x] / max(1, counts[x]) for x in range(size)]
    assert network.noise.cumulative.diff(prepend=torch.zeros(1)).tolist() == expected
    thresholds = network.noise.thresholds.double() / 2**31
    assert thresholds.tolist() == pytest.approx([*rates, 0], abs=1e-9)
    # the noise is no part of the model, and draws no initial weights
    torch.manual_seed(1)
    plain = build.build_model(parse(compose_options("recipe=none", f"data={data}")), datamodule)
    assert same_weights(network.state_dict(), plain.state_dict())


def test_a_loaded_model_has_no_noise(trained: Train) -> None:
    run = trained(*TINY, *ALL)
    assert run.directory is not None
    model = load(run.directory).network
    assert isinstance(model, CharacterNetwork)
    assert not isinstance(model.noise, InputNoise)
    assert model.architecture.model.noise == 0.2


def test_embedding_dropout_of_one_hot_input_is_refused(train: Train) -> None:
    refused = train(*TINY, "model.input=one_hot", "model.embedding_dropout=0.1")
    assert refused.status == 2
    assert refused.err.count("\n") == 1
    for named in ("model.embedding_dropout=0.1", "model.input=one_hot", "leave it out"):
        assert named in refused.err
