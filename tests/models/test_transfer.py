"""Transfer of weights between vocabularies, character by character."""

from typing import Any

import pytest
import torch

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.trained_model import TrainedModel, copy_weights
from tests.helpers import hybrid_models
from tests.helpers.transfer import NEW, OLD, SHARED, H, clone_weights, network, source_model

EACH_CELL = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
EACH_MODEL = pytest.mark.parametrize(
    "options",
    [
        {"tie_weights": True},
        {"embedding_size": 3},
        {"input": "one_hot"},
        {"input": "one_hot", "residual": True},
        {"tie_weights": True, "residual": True},
    ],
    ids=["tied", "embedding", "one_hot", "one_hot_residual", "tied_residual"],
)


def along_characters(name: str, options: dict[str, Any]) -> int | None:
    """Dimension of a weight that runs over the vocabulary, or None."""
    if name in {"embedding.weight", "output.weight", "output.bias"}:
        return 0
    first_layer = name == "recurrence.blocks.0.weight_ih_l0"
    return 1 if first_layer and options.get("input") == "one_hot" else None


@EACH_CELL
@EACH_MODEL
@pytest.mark.parametrize("start_here", [False, True])
@pytest.mark.parametrize("start_there", [False, True])
def test_shared_characters_get_the_copied_weights_and_others_their_mean(
    cell: str, options: dict[str, Any], start_here: bool, start_there: bool
) -> None:
    source = source_model(OLD, cell, start=start_there, **options)
    model = network(NEW, cell, start=start_here, **options)
    before, there = clone_weights(model), clone_weights(source.network)
    assert copy_weights(source, model, NEW) == (3, 2)
    for name, after in model.state_dict().items():
        dimension = along_characters(name, options)
        if dimension is None:
            assert torch.equal(after, there[name]), name
            assert not torch.equal(after, before[name]), name
            continue
        for here, character in enumerate(NEW.characters):
            got = after.select(dimension, here)
            if character in SHARED:
                row = OLD.characters.index(character)
                assert torch.equal(got, there[name].select(dimension, row)), (name, character)
            else:
                rows = there[name].narrow(dimension, 0, len(OLD))
                torch.testing.assert_close(got, rows.mean(dimension), msg=f"{name} {character}")
        if name == "embedding.weight" and start_here:
            expected_start = there[name][len(OLD)] if start_there else before[name][len(NEW)]
            assert torch.equal(after[len(NEW)], expected_start)
    for name, value in source.network.state_dict().items():
        assert torch.equal(value, there[name])


@EACH_CELL
@EACH_MODEL
@pytest.mark.parametrize("start", [False, True])
def test_predictions_for_shared_characters_equal_the_source(
    cell: str, options: dict[str, Any], start: bool
) -> None:
    source = source_model(OLD, cell, start=start, **options)
    model = network(NEW, cell, start=start, **options)
    copy_weights(source, model, NEW)
    text = "facafcca"
    there = [OLD.characters.index(character) for character in text]
    here = [NEW.characters.index(character) for character in text]
    if start:
        there, here = [len(OLD), *there], [len(NEW), *here]
    expected, _ = source.network(torch.tensor([there]))
    logits, _ = model(torch.tensor([here]))
    rows = [OLD.characters.index(character) for character in SHARED]
    columns = [NEW.characters.index(character) for character in SHARED]
    torch.testing.assert_close(logits[..., columns], expected[..., rows], rtol=1e-12, atol=1e-12)


def test_the_same_vocabulary_gives_the_same_network() -> None:
    source = source_model(OLD, start=True, tie_weights=True)
    model = network(OLD, start=True, tie_weights=True)
    assert copy_weights(source, model, OLD) == (len(OLD), 0)
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.network.state_dict()[name])


def test_a_start_symbol_gets_the_weights_of_a_newline_of_running_text() -> None:
    source = source_model(NEW)
    model = network(OLD, start=True)
    copy_weights(source, model, OLD)
    newline = source.network.state_dict()["embedding.weight"][NEW.characters.index("\n")]
    assert torch.equal(model.state_dict()["embedding.weight"][len(OLD)], newline)


def test_without_a_shared_character_only_the_rest_is_copied() -> None:
    other = Vocabulary("xyz")
    source = source_model(OLD, start=True)
    model = network(other, start=True)
    assert copy_weights(source, model, other).kept == 0
    after = model.state_dict()
    for name in ("output.weight", "embedding.weight"):
        mean = source.network.state_dict()[name][: len(OLD)].mean(0)
        torch.testing.assert_close(after[name][:3], mean.expand(3, -1))
    start = source.network.state_dict()["embedding.weight"][len(OLD)]
    assert torch.equal(after["embedding.weight"][3], start)
    for name in after:
        if name.startswith("recurrence."):
            assert torch.equal(after[name], source.network.state_dict()[name])


def test_the_network_still_learns_and_shares_no_memory_with_the_source() -> None:
    source = source_model(OLD, tie_weights=True)
    model = network(NEW, tie_weights=True)
    copy_weights(source, model, NEW)
    assert model.embedding is not None
    assert model.output_weight.data_ptr() == model.embedding.weight.data_ptr()
    before = clone_weights(source.network)
    logits, _ = model(torch.tensor([[0, 1, 2, 3, 4]]))
    logits.square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert parameter.grad.any()
            parameter.sub_(parameter.grad)
    for name, value in source.network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("there", "here", "named"),
    [
        ({"cell": "lstm"}, {"cell": "gru"}, ("cell=lstm there", "gru here")),
        ({"layers": 1}, {"layers": 3}, ("layers=1 there", "3 here")),
        ({"hidden_size": 5}, {}, ("hidden_size=5 there", "4 here")),
        ({"residual": True}, {}, ("depth.residual=True there", "False here")),
        ({"input": "one_hot"}, {}, ("model.input=one_hot there", "embedding here")),
        ({"embedding_size": 3}, {}, ("model.embedding_size=3 there", "4 here")),
        ({"tie_weights": True}, {}, ("model.tie_weights=True there", "False here")),
        (
            {"layers": 1, "cell": "rnn", "hidden_size": 7},
            {},
            ("cell=rnn", "layers=1", "hidden_size=7"),
        ),
    ],
)
def test_another_architecture_is_refused_by_its_keys(
    there: dict[str, Any], here: dict[str, Any], named: tuple[str, ...]
) -> None:
    model = network(NEW, **here)
    before = clone_weights(model)
    with pytest.raises(UserError) as caught:
        copy_weights(source_model(OLD, **there), model, NEW)
    message = str(caught.value)
    assert message.isprintable()
    for part in ("init_from", *named):
        assert part in message
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_another_nonlinearity_is_refused() -> None:
    relu: Any = {"kind": "rnn", "nonlinearity": "relu"}
    with pytest.raises(UserError, match=r"cell\.nonlinearity"):
        copy_weights(source_model(OLD, relu), network(NEW, "rnn"), NEW)


@pytest.mark.parametrize(
    "here",
    [
        {"dropout": 0.5},
        {"depth_dropout": 0.5},
        {"init": "normal_0.01"},
        {"output_bias": "unigram"},
        {"embedding_size": H},
        {"cell": {"kind": "lstm", "forget_bias": None}},
    ],
    ids=str,
)
def test_options_that_do_not_shape_the_network_may_differ(here: dict[str, Any]) -> None:
    model = network(NEW, **{"cell": "lstm", **here})
    source = source_model(OLD, "lstm")
    assert copy_weights(source, model, NEW) == (3, 2)
    name = "recurrence.blocks.0.bias_ih_l0"
    assert torch.equal(model.state_dict()[name], source.network.state_dict()[name])


def hybrid(vocabulary: Vocabulary, *, trained: bool, **options: Any) -> HybridModel:
    model = hybrid_models.network_of(
        vocabulary=vocabulary, cell="gru", layers=2, hidden_size=H, **options
    ).double()
    if not trained:
        for parameter in (*model.on_hidden.parameters(), *model.on_passed.parameters()):
            torch.nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize("there", ["recurrent", "hybrid", "another order", "another combination"])
@pytest.mark.parametrize("here", ["recurrent", "hybrid"])
def test_hybrid_models_share_the_weights_of_their_networks(here: str, there: str) -> None:
    """The n-grams stay those of the new text; equal orders and combinations share the weights."""
    source = source_model(OLD)
    if there != "recurrent":
        order = 2 if there == "another order" else 3
        combination = "product" if there == "another combination" else "mixture"
        built = hybrid(OLD, trained=True, order=order, combination=combination)
        source = TrainedModel(built, OLD, "stream", False)
    model: Any = network(NEW) if here == "recurrent" else hybrid(NEW, trained=False)
    before = clone_weights(model)
    assert copy_weights(source, model, NEW) == (3, 2)

    plain, expected = network(NEW), {}
    trained: Any = source.network if there == "recurrent" else source.network.network
    copy_weights(TrainedModel(trained, OLD, "stream", False), plain, NEW)
    for name, value in plain.state_dict().items():
        rows = [NEW.characters.index(character) for character in SHARED]
        expected[name] = value[rows] if along_characters(name, {}) == 0 else value
        after = model.state_dict()[name if here == "recurrent" else f"network.{name}"]
        assert torch.equal(
            after[rows] if along_characters(name, {}) == 0 else after, expected[name]
        )
    for name, value in model.state_dict().items():
        if name.startswith("ngram."):
            assert torch.equal(value, before[name]), name
        elif name.startswith("on_"):
            copied = there == "hybrid"
            source_weights: Any = source.network.state_dict()
            assert torch.equal(value, source_weights[name] if copied else before[name]), name
            assert bool(value.any()) == copied
