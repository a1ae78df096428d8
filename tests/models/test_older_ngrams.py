"""N-grams of two texts, joined, equal the formula on dictionaries of counts."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.left_out import fit_weight, leave_out
from lyricgen.models.ngram.model import Floats, NgramCounts, Numbers, smooth_counts
from lyricgen.models.ngram.older import ELSEWHERE, WEIGHTS, JoinedCounts, OlderNgrams, drop_symbols
from lyricgen.models.options import NgramArchitecture

V = 6
IDS = np.array([0, 2, 3, 5, 6])  # new ids of the older symbols 0 … 3 and START
PRESENT = np.isin(np.arange(V), [0, 1, 2, 4])  # the older text alone has 3 and 5; 4 is held out


def draw_texts() -> tuple[Numbers, Numbers]:
    draw = np.random.default_rng(3)
    return draw.choice([0, 1, 2], 60), draw.integers(0, 4, 200)


def discount(counted: Counter[tuple[int, ...]]) -> float:
    once, twice = (list(counted.values()).count(number) for number in (1, 2))
    return once / (once + 2 * twice) if once and twice else 0.5


def terms_of(
    counted: Counter[tuple[int, ...]], context: tuple[int, ...], cut: float
) -> tuple[Floats, float, float, int]:
    """direct, passed, c(h) and T(h) of a context, from counts of grams, some of them zero."""
    row = {gram[-1]: n for gram, n in counted.items() if gram[:-1] == context and n}
    total = sum(row.values())
    direct = np.zeros(V)
    if not total:
        return direct, 1.0, 0.0, 0
    for symbol, n in row.items():
        direct[symbol] = (n - cut) / total
    return direct, cut * len(row) / total, total, len(row)


def count(ids: list[int], without: tuple[Numbers, int] | None = None) -> list[Counter]:  # type: ignore[type-arg]
    """Kneser-Ney's counts of 1- and 2-grams that end outside a block."""
    kept = [without is None or without[0][end] != without[1] for end in range(len(ids))]
    pairs = Counter(gram for end, gram in enumerate(pairwise(ids), 1) if kept[end])
    return [Counter((gram[1],) for gram in pairs), pairs]


def join_by_hand(
    new: list[Counter],
    cuts: list[float],
    old: list[int],
    weight: float,
    context: int,  # type: ignore[type-arg]
) -> Floats:
    """Distribution of order 2 after a context."""
    p, theirs = np.full(V, 1 / V), count(old)
    for k, key in ((0, ()), (1, (context,))):
        direct, passed, c, _ = terms_of(new[k], key, cuts[k])
        direct_old, passed_old, _, followers = terms_of(theirs[k], key, discount(theirs[k]))
        if k == 0:
            direct[PRESENT] += (1 - ELSEWHERE) * passed / PRESENT.sum()
            passed *= ELSEWHERE
        o = weight * followers / passed_old
        s = c / (c + o) if c + o else 1.0
        p = s * (direct + passed * p) + (1 - s) * (direct_old + passed_old * p)
    return p


def join(order: int = 2) -> tuple[JoinedCounts, Numbers, list[int]]:
    new, old = draw_texts()
    older = smooth_counts(NgramCounts(old, 4, 2), 2, "kneser_ney")
    counts = JoinedCounts(NgramCounts(new, V, order), OlderNgrams(older, IDS, PRESENT))
    return counts, new, IDS[old].tolist()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_distributions_equal_the_formula(weight: float) -> None:
    counts, new, old = join()
    counts.weight = weight
    own = count(new.tolist())
    contexts = np.arange(V)[:, None]
    model = smooth_counts(counts, 2, "kneser_ney")
    found = model.distributions(model.contexts(contexts))[:, 0]
    for context in range(V):
        expected = join_by_hand(own, [discount(one) for one in own], old, weight, context)
        np.testing.assert_allclose(found[context], expected, rtol=1e-12)
        assert found[context].sum() == pytest.approx(1)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_a_position_leaves_out_its_block_of_the_new_text_alone(weight: float) -> None:
    counts, new, old = join()
    counts.weight = weight
    blocks = np.arange(len(new)) // 20
    whole = count(new.tolist())
    cuts = [discount(one) for one in whole]
    p: Floats = np.full(len(new), 1 / V)
    for one in leave_out(counts, 2, new, blocks):
        passed = np.where(one.rows < 0, 1.0, one.level.passed[one.rows])
        p = one.direct + passed * p
    for end in range(1, len(new)):
        left = count(new.tolist(), (blocks, blocks[end]))
        # a pair at a border of blocks belongs to the block of its end
        expected = join_by_hand(left, cuts, old, weight, int(new[end - 1]))
        assert p[end] == pytest.approx(expected[new[end]], rel=1e-12), end


def test_the_weight_has_the_least_nats_of_left_out_blocks() -> None:
    counts, new, _ = join()
    blocks, nats = np.arange(len(new)) // 20, []
    for counts.weight in WEIGHTS.tolist():
        p: Floats = np.full(len(new), 1 / V)
        for one in leave_out(counts, 2, new, blocks):
            p = one.direct + np.where(one.rows < 0, 1.0, one.level.passed[one.rows]) * p
        nats.append(-np.log(p).sum())
    fit_weight(counts, 2, new, blocks)
    assert counts.weight == WEIGHTS[int(np.argmin(nats))]
    assert min(nats) < max(nats)


def test_symbols_are_dropped_and_their_shares_passed_on() -> None:
    """The terms of each gram, on a dictionary of grams, without the grams that have a 2."""
    text = np.append(4, np.random.default_rng(5).integers(0, 4, 150))  # 4 is START
    text[[40, 90]] = 4
    older = smooth_counts(NgramCounts(text, 4, 3), 3, "kneser_ney")
    grams: list[tuple[int, ...]] = [()]
    direct: dict[tuple[int, ...], float] = {}
    passed: dict[tuple[int, ...], float] = {}
    for keys, (each, given) in zip(older.grams.keys, older.terms, strict=True):
        passed |= zip(grams, given[:-1].tolist(), strict=True)
        grams = [(*grams[key // 5], key % 5) for key in keys.tolist()]
        direct |= zip(grams, each[:-1].tolist(), strict=True)

    def probability(gram: tuple[int, ...]) -> float:
        if not gram:
            return 1 / 3
        share = passed.get(gram[:-1], 1.0) + direct.get((*gram[:-1], 2), 0.0)
        return direct.get(gram, 0.0) + share * probability(gram[1:])

    dropped = drop_symbols(older, np.array([False, False, True, False, False]))
    new = {0: 0, 1: 1, 3: 2, 4: 3}
    for context in ((0, 1), (3, 3), (4, 1), (1, 0)):
        read = np.array([[new[one] for one in context]])
        found = dropped.distributions(dropped.contexts(read))[0, -1]
        expected = [probability((*context, symbol)) for symbol in (0, 1, 3)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_result_is_an_n_gram_model(order: int) -> None:
    """Its tensors pass the checks of a file, whichever of the two orders is larger."""
    counts, _, _ = join(order)
    architecture = NgramArchitecture(
        kind="ngram", order=order, smoothing="kneser_ney", k=1.0, vocabulary_size=V,
        start_symbol=False,
    )  # fmt: skip
    model = NgramLanguageModel(architecture)
    model.set_counts(counts)
    again = NgramLanguageModel.from_tensors(architecture, model.state_dict())
    logits, _ = again(torch.tensor([[5, 3, 0, 1]]))
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(1, 4, dtype=torch.float64))
