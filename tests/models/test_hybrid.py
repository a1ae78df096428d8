"""The hybrid model: a network, n-grams of its text, and the weights of their mixture."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lyricgen.data.batch import IGNORED, Batch
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.hybrid import SHIFTS, HybridModel
from lyricgen.models.hybrid_building import build_hybrid, extract_network
from lyricgen.models.model import eval_mode
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.left_out import leave_out, stream_blocks
from lyricgen.models.ngram.model import NgramCounts, NgramModel, smooth_counts
from lyricgen.models.options import (
    Combination,
    DepthOptions,
    HybridOptions,
    LstmOptions,
    RecurrentArchitecture,
    RecurrentOptions,
)
from tests.helpers.hybrid_models import probabilities_of

VOCABULARY = Vocabulary("\nabcdef")
V, ORDER, BLOCKS, SHORT = 7, 3, 4, 2


def hybrid_of(
    ids: Tensor,
    max_chars: int | None = None,
    combination: Combination = "mixture",
    short_list: int | None = None,
    *,
    lines: bool = False,
) -> HybridModel:
    network: dict[str, Any] = {
        "input": "embedding",
        "embedding_size": None,
        "tie_weights": True,
        "dropout": 0.0,
        "locked_dropout": False,
        "embedding_dropout": 0.0,
        "weight_drop": 0.0,
        "noise": 0.0,
        "noise_kind": "unigram",
        "init": "torch",
        "output_bias": "init",
    }
    architecture = RecurrentArchitecture(
        kind="recurrent",
        vocabulary_size=V,
        start_symbol=lines,
        objective="next",
        layers=1,
        hidden_size=8,
        cell=LstmOptions(kind="lstm", kernel="torch", forget_bias=1.0),
        depth=DepthOptions(dropout=0.0, residual=False),
        model=RecurrentOptions(kind="recurrent", **network),
    )
    options = HybridOptions(
        **network,
        kind="hybrid",
        order=None if lines else ORDER,
        max_order=5,
        max_chars=max_chars,
        blocks=BLOCKS,
        older_weight=None,
        short_list=short_list,
        combination=combination,
        network_loss=0.3,
    )
    return build_hybrid(options, architecture, {"train": Split(ids, None)}, VOCABULARY)


def random_ids(number: int) -> Tensor:
    draw = np.random.default_rng(7)
    return torch.from_numpy(draw.integers(0, V, number) * draw.integers(0, 2, number))


def set_weights(model: HybridModel) -> None:
    torch.manual_seed(3)
    for parameter in (*model.on_hidden.parameters(), *model.on_passed.parameters()):
        torch.nn.init.normal_(parameter)


def softmax(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(values - values.max(-1, keepdims=True))
    found: np.ndarray[Any, Any] = powers / powers.sum(-1, keepdims=True)
    return found


def folding(model: HybridModel, ids: Tensor) -> Any:
    """Matrix that adds up the characters of each class, (V, C), the commonest characters first."""
    if model.short_list is None:
        return np.eye(V)
    counts = np.bincount(ids.numpy(), minlength=V)
    listed = sorted(range(V), key=lambda character: (-counts[character], character))[:SHORT]
    classes = [listed.index(w) if w in listed else SHORT for w in range(V)]
    return np.eye(SHORT + 1)[classes]


def weights_by_hand(model: HybridModel, inputs: Tensor, passed: Any) -> Any:
    hidden, _ = model.network.recurrence(model.network.features(inputs), None)
    on_hidden, bias = model.on_hidden.weight.detach().numpy(), model.on_hidden.bias.detach().numpy()
    scores = hidden.detach().numpy() @ on_hidden.T + bias
    scores = scores + passed @ model.on_passed.weight.detach().numpy().T
    if model.architecture.combination == "mixture":
        return softmax(scores)
    scores[..., ORDER - 1] += 1  # the highest order alone, before the first step
    return scores


def network_by_hand(model: HybridModel, inputs: Tensor, fold: Any) -> Any:
    """Distributions of the network over classes; the commonest of the rest has their output."""
    logits, _ = model.network(inputs)
    powers = np.exp(logits.detach().double().numpy())
    if model.short_list is not None:
        (keys, _, _), (direct, _) = model.ngram._levels()[0], model.ngram.model.terms[0]
        unigrams = np.full(V, model.ngram.model.terms[0][1][0] / V)
        unigrams[keys.numpy()] += direct[:-1]
        *listed, last = model.architecture.short_list or ()
        assert fold[last, SHORT]
        share = unigrams[last] / (unigrams @ fold)[SHORT]
        powers = powers[..., [*listed, last]] / ([1.0] * SHORT + [share])
    return powers / powers.sum(-1, keepdims=True)


def left_out_by_hand(ids: Tensor, begin: int = 0) -> tuple[Any, Any]:
    """Distributions, (N, K, V), and passed, (N, K), of the counted characters."""
    counted = ids[begin:].numpy()
    blocks = stream_blocks(counted, BLOCKS, 0)
    whole, shares = [np.full((len(counted), V), 1 / V)], []
    for one in leave_out(NgramCounts(counted, V, ORDER), ORDER, counted, blocks):
        passed = np.where(one.rows < 0, 1.0, one.level.passed[one.rows])
        distributions = whole[-1] * passed[:, None]
        for position, row in enumerate(one.rows):
            entries = slice(one.level.first[row], one.level.first[row + 1])
            if row >= 0:
                symbols, direct = one.level.symbols[entries], one.level.direct[entries]
                distributions[position, symbols] += direct
        whole.append(distributions)
        shares.append(passed)
    return np.stack(whole[1:], axis=1), np.stack(shares, axis=1)


@pytest.mark.parametrize("combination", ["mixture", "product"])
def test_an_order_above_the_longest_line_is_lowered(combination: Combination) -> None:
    """Its n-grams predict as n-grams of the full order do."""
    lines = torch.tensor([[V, 1, 2, 0], [V, 3, 4, 0], [V, 5, 6, 0], [V, 1, 4, 0]])
    model = hybrid_of(lines.flatten(), combination=combination, lines=True)
    assert model.architecture.ngram.order == 4
    full = NgramLanguageModel(model.architecture.ngram.model_copy(update={"order": 5}))
    full.fit(lines.flatten())
    inputs = torch.from_numpy(np.random.default_rng(7).integers(0, V, (50, 3)))
    inputs[:, 0], inputs[:4] = V, lines[:, :3]
    targets = torch.cat([inputs[:, 1:], torch.zeros(50, 1, dtype=torch.int64)], dim=1)
    found, _ = model.ngram.nats(inputs, targets)
    expected, _ = full.nats(inputs, targets)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("short_list", [None, SHORT])
@pytest.mark.parametrize("combination", ["mixture", "product"])
def test_the_loss_by_hand(combination: Combination, short_list: int | None) -> None:
    ids = random_ids(200)
    model = hybrid_of(ids, combination=combination, short_list=short_list)
    fold = folding(model, ids)
    set_weights(model)
    starts, steps = torch.tensor([4, 90]), torch.arange(10)
    positions = starts[:, None] + steps
    targets = ids[positions + 1].clone()
    targets[1, 7:] = IGNORED
    batch = Batch(ids[positions], targets, starts, starts_stream=True, num_characters=17)
    loss, nats, _ = model.loss(batch, None, 0.1)
    distributions, passed = left_out_by_hand(ids)
    here = (positions + 1).numpy()
    weights = weights_by_hand(model, batch.inputs, passed[here])
    network = network_by_hand(model, batch.inputs, fold)
    total = own = 0.0
    for row, step in np.argwhere(targets.numpy() != IGNORED):
        target = int(targets[row, step])
        ngrams, kind = distributions[here[row, step]], fold[target].argmax()
        members = np.vstack([ngrams @ fold, network[row, step]])
        if combination == "mixture":
            total -= float(np.log(weights[row, step] @ members[:, kind]))
            ngrams = weights[row, step, :-1] @ ngrams
        else:
            whole = softmax(weights[row, step] @ np.log(members))
            total -= float(np.log(whole[kind]))
            ngrams = ngrams[-1]
        total -= float(np.log(ngrams[target] / (ngrams @ fold)[kind]))
        logs = np.log(network[row, step])
        own -= float(0.9 * logs[kind] + 0.1 * logs.mean())
    assert nats.item() == pytest.approx(total, rel=1e-5)
    weight = {"mixture": 1.0, "product": 0.3}[combination]
    assert loss.item() == pytest.approx(total + weight * own, rel=1e-5)


def test_the_network_of_a_mixture_learns_by_its_own_loss_alone() -> None:
    ids = random_ids(200)
    model = hybrid_of(ids)
    set_weights(model)
    windows = ids[:40].reshape(2, 20)
    inputs, targets = windows[:, :-1], windows[:, 1:]
    batch = Batch(inputs, targets, torch.tensor([0, 20]), starts_stream=True, num_characters=38)
    model.loss(batch, None, 0.1)[0].backward()
    found = [parameter.grad for parameter in model.network.parameters()]
    model.network.zero_grad(set_to_none=True)
    assert model.on_hidden.weight.grad is not None
    logits, _ = model.network(inputs)
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1, reduction="sum"
    ).backward()
    for gradient, parameter in zip(found, model.network.parameters(), strict=True):
        assert gradient is not None and parameter.grad is not None
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-4)


def validation_batches(ids: Tensor) -> list[Batch]:
    """Two batches of one stream, (1, 20) each, the second with padding."""
    batches = [
        Batch(ids[None, at : at + 20], ids[None, at + 1 : at + 21].clone(), torch.tensor([at]),
              starts_stream=at == 0, num_characters=20)
        for at in (0, 20)
    ]  # fmt: skip
    batches[1].targets[0, 15:] = IGNORED
    return batches


def validation_nats(model: HybridModel, batches: list[Batch]) -> float:
    state, total = None, 0.0
    for batch in batches:
        nats, state = model.score(batch, state)
        total += float(nats.double().sum())
    return total


def test_the_share_of_the_network_suits_the_validation_split() -> None:
    model = hybrid_of(random_ids(200)).train()
    set_weights(model)
    model.eval()
    batches = validation_batches(random_ids(300)[200:])
    with torch.no_grad():
        for parameter in (*model.on_hidden.parameters(), *model.on_passed.parameters()):
            parameter.mul_(0.1)
        model.network.output.bias.copy_((random_ids(300).bincount(minlength=V) / 300).log() / 2)
        for bias, inside in ((2.0, True), (0.0, True), (-9.0, False)):
            model.on_hidden.bias[-1] = bias
            nats = []
            for shift in SHIFTS:
                model.shift.fill_(shift)
                nats.append(validation_nats(model, batches))
            best = int(np.argmin(nats))
            assert (0 < best < len(SHIFTS) - 1) == inside
            model.calibrate(batches, lambda total: total)
            assert float(model.shift) == pytest.approx(float(SHIFTS[best]))
            # the sums of several processes decide, not those of one
            model.calibrate(batches, lambda total: -total)
            assert float(model.shift) == pytest.approx(float(SHIFTS[int(np.argmax(nats))]))


def test_a_product_and_n_grams_alone_fit_nothing() -> None:
    ids = random_ids(200)
    batches = validation_batches(random_ids(300)[200:])
    product = hybrid_of(ids, combination="product").train()
    set_weights(product)
    for model in (product.eval(), hybrid_of(ids).eval()):
        model.calibrate(batches, lambda total: total)
        assert float(model.shift) == 0


@pytest.mark.parametrize("short_list", [None, SHORT])
@pytest.mark.parametrize("combination", ["mixture", "product"])
def test_predictions_by_hand_and_in_pieces(
    combination: Combination, short_list: int | None
) -> None:
    ids = random_ids(300)
    model = hybrid_of(ids, combination=combination, short_list=short_list)
    fold = folding(model, ids)
    set_weights(model)
    inputs = torch.from_numpy(np.random.default_rng(8).integers(0, V, (3, 12)))
    ngrams = model.ngram.model
    contexts = ngrams.contexts(inputs.numpy())
    members = [
        NgramModel(ngrams.grams, ngrams.terms[:k], "kneser_ney").distributions(contexts[:k])
        for k in range(1, ORDER + 1)
    ]
    passed = np.stack([p[c] for (_, p), c in zip(ngrams.terms, contexts, strict=True)], axis=-1)
    with torch.no_grad(), eval_mode(model):
        weights = weights_by_hand(model, inputs, passed)
        of_classes = [*(each @ fold for each in members), network_by_hand(model, inputs, fold)]
        parts = of_classes if combination == "mixture" else [np.log(each) for each in of_classes]
        expected = sum(weights[..., k, None] * each for k, each in enumerate(parts))
        expected = expected if combination == "mixture" else softmax(expected)
        dividing = members[-1]
        if combination == "mixture":
            dividing = np.array(sum(weights[..., k, None] * each for k, each in enumerate(members)))
        expected = (expected / (dividing @ fold)) @ fold.T * dividing
        found, _ = model(inputs)
        np.testing.assert_allclose(found.double().exp().numpy(), expected, rtol=1e-5)
        state, pieces = None, []
        for piece in inputs.split([1, 4, 7], dim=1):
            logs, state = model(piece, state)
            pieces.append(logs)
        torch.testing.assert_close(torch.cat(pieces, dim=1), found)


@pytest.mark.parametrize("short_list", [None, SHORT])
@pytest.mark.parametrize("combination", ["mixture", "product"])
def test_an_untrained_model_is_its_n_gram_model(
    combination: Combination, short_list: int | None
) -> None:
    model = hybrid_of(random_ids(300), combination=combination, short_list=short_list)
    inputs = random_ids(50)[None]
    with torch.no_grad(), eval_mode(model):
        found, _ = model(inputs)
        expected, _ = model.ngram(inputs)
        for layer in (model.on_hidden, model.on_passed):
            layer.weight.normal_()
        model.on_hidden.bias.normal_()
        trained, _ = model.eval()(inputs)
        model.reset_weighing()
        reset, _ = model(inputs)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5)
    assert (trained - expected).abs().max() > 0.1
    torch.testing.assert_close(reset, found)


@pytest.mark.parametrize("short_list", [None, SHORT])
def test_characters_that_are_not_counted_use_the_whole_counts(short_list: int | None) -> None:
    ids = random_ids(300)
    model = hybrid_of(ids, max_chars=100, combination="product", short_list=short_list)
    fold = folding(model, ids)
    tables = model.training_tables
    assert tables is not None
    starts = torch.tensor([10, 195])
    positions = starts[:, None] + torch.arange(10)
    batch = Batch(ids[positions], ids[positions + 1], starts, True, 20)
    passed, by_order, by_class = tables.terms(batch)
    probabilities = probabilities_of(tables.logs(batch, torch.float64))
    ngrams = model.ngram.model
    contexts = ngrams.contexts(batch.inputs.numpy())
    whole = list(ngrams.by_order(contexts, batch.targets.numpy()))
    own, shares = left_out_by_hand(ids, begin=200)
    for k, (probability, share) in enumerate(whole):
        np.testing.assert_allclose(by_order[:10, k], probability[0], rtol=1e-6)
        np.testing.assert_allclose(passed[:10, k], share[0], rtol=1e-6)
        lower = NgramModel(ngrams.grams, ngrams.terms[: k + 1], "kneser_ney")
        expected = lower.distributions(contexts[: k + 1])[0]
        np.testing.assert_allclose(probabilities[k][:10], expected @ fold, rtol=1e-12)
        kinds = fold[batch.targets[0]].argmax(-1)
        found = by_class[:10, k]
        np.testing.assert_allclose(found, (expected @ fold)[np.arange(10), kinds], rtol=1e-6)
        # position 200 is the first that is counted
        np.testing.assert_allclose(probabilities[k][14:], own[:6, k] @ fold, rtol=1e-12)
        np.testing.assert_allclose(passed[14:, k], shares[:6, k], rtol=1e-6)
        targets = batch.targets[1, 4:].numpy()
        np.testing.assert_allclose(by_order[14:, k], own[np.arange(6), k, targets], rtol=1e-6)


def test_the_network_alone_divides_the_rest_by_frequency() -> None:
    ids = random_ids(300)
    model = hybrid_of(ids, short_list=SHORT)
    set_weights(model)
    fold, inputs = folding(model, ids), random_ids(20)[None]
    batch = Batch(inputs[:, :-1], inputs[:, 1:], torch.tensor([0]), True, 19)
    counts = NgramCounts(ids.numpy(), V, ORDER)
    frequencies = smooth_counts(counts, ORDER, "kneser_ney").terms[0]
    unigrams = frequencies[0][:-1] + frequencies[1][0] / V
    with torch.no_grad(), eval_mode(model):
        network = network_by_hand(model, batch.inputs, fold)
        expected = network @ fold.T * unigrams / (unigrams @ fold @ fold.T)
        found = extract_network(model)(batch.inputs)[0].double().softmax(-1)
        _, parts, _ = model.score_parts(batch, None)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    own = np.take_along_axis(expected, batch.targets[..., None].numpy(), -1)[..., 0]
    np.testing.assert_allclose(parts["network"], -np.log(own), rtol=1e-5)


def test_a_short_list_needs_twice_as_many_characters() -> None:
    for short_list, length in ((3, 4), (4, None)):  # of 7; one output serves for the rest
        listed = hybrid_of(random_ids(200), short_list=short_list).architecture.short_list
        assert (listed and len(listed)) == length


def test_the_tables_survive_half_precision_and_the_state_dict() -> None:
    model, other = hybrid_of(random_ids(300)), hybrid_of(random_ids(200))
    set_weights(model)
    other.load_state_dict(model.half().state_dict())
    for name, tensor in model.ngram.state_dict().items():
        assert tensor.dtype in (torch.int64, torch.float64)
        assert torch.equal(tensor, other.ngram.state_dict()[name])
    inputs = random_ids(20)[None]
    with torch.no_grad(), eval_mode(model), eval_mode(other):
        torch.testing.assert_close(model.float()(inputs)[0], other(inputs)[0])
