import os
import zipfile
from fractions import Fraction
from math import log
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lyricgen.models.ngram.language_model import nats_by_order
from lyricgen.models.ngram.model import (
    NOTHING,
    Floats,
    Ids,
    NgramCounts,
    NgramModel,
    smooth_counts,
)
from lyricgen.models.options import Interpolated, Smoothing
from tests.conftest import need_published
from tests.helpers.ngram_reference import INTERPOLATED, SMOOTHINGS, K, Reference, nats_of

ORDERS = (1, 2, 3, 4, 5)
LETTERS = "abcdrz"  # z is in the vocabulary but not in the text
ABRACADABRA = np.array([LETTERS.index(letter) for letter in "abracadabra"])


def model_of(ids: npt.ArrayLike, size: int, order: int, smoothing: Smoothing) -> NgramModel:
    counts = NgramCounts(np.asarray(ids, dtype=np.int64), size, order)
    return smooth_counts(counts, order, smoothing, K)


def distribution_after(model: NgramModel, context: Ids) -> Floats:
    """Probabilities of every symbol after a context, which may be empty, (V,)."""
    read = np.insert(context.astype(np.int64), 0, NOTHING)
    return model.distributions([numbers[-1:] for numbers in model.contexts(read)])[0]


def letters(text: str) -> npt.NDArray[np.int64]:
    return np.array([LETTERS.index(letter) for letter in text], dtype=np.int64)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[int, list[int], list[int]]:
    """Draw a vocabulary size, a training text and another text; each running or line by line."""
    size = draw(st.integers(1, 4))

    def text(alphabet: int) -> list[int]:
        lines = draw(st.lists(st.lists(st.integers(0, alphabet - 1), max_size=15), max_size=5))
        opening = [size] if draw(st.booleans()) else []
        return [symbol for line in lines for symbol in (*opening, *line)]

    training = text(draw(st.integers(1, size)))  # some symbols may be missing
    last = draw(st.integers(0, size - 1))  # one symbol to predict at least
    return size, [*training, last], text(size)


# abracadabra: a 5, b 2, r 2, c 1, d 1, z 0; ab 2, br 2, ra 2, ac 1, ca 1, ad 1, da 1.
HAND_WORKED = [
    # The unigram is the highest order: n1 = 2 (c, d), n2 = 2 (b, r), D = 2/6 = 1/3.
    # p(a) = (14/3)/11 + (1/3)(5/11)(1/6) = 84/198 + 5/198;   b, r: 30/198;   c, d: 12/198
    ("kneser_ney", 1, "", "89/198 35/198 17/198 17/198 35/198 5/198"),
    # Unigrams by distinct predecessors: a 3 (r, c, d), b 1, r 1, c 1, d 1, of 7; n2 = 0, D = 1/2.
    # p1(a) = (5/2)/7 + (1/2)(5/7)(1/6) = 30/84 + 5/84; b, c, d, r: 6/84 + 5/84; z: 5/84.
    # Bigrams raw: n1 = 4, n2 = 3, D = 4/10. After a: ab 2, ac 1, ad 1, total 4, three distinct.
    # p(b|a) = (8/5)/4 + (2/5)(3/4)(11/84) = 112/280 + 11/280
    # p(c|a) = (3/5)/4 + 11/280 = 42/280 + 11/280;   p(a|a) = (3/10)(35/84) = 35/280
    ("kneser_ney", 2, "a", "35/280 123/280 53/280 53/280 11/280 5/280"),
    # z never occurs, so only the unigrams above count.
    ("kneser_ney", 2, "z", "35/84 11/84 11/84 11/84 11/84 5/84"),
    # Trigrams raw: abr 2, bra 2 and five once, D = 5/9. Bigrams by distinct predecessors are all 1
    # (ab at the very start has none, the other d), D = 1/2: after a, ab, ac, ad of 3:
    # p2(b|a) = (1/2)/3 + (1/2)(11/84) = 39/168;  c, d the same;  a (1/2)(35/84) = 35/168
    # p(b|da) = (4/9)/1 + (5/9)(39/168) = 672/1512 + 195/1512
    ("kneser_ney", 3, "da", "175/1512 867/1512 195/1512 195/1512 55/1512 25/1512"),
    # c = 11, T = 5: p(a) = (5 + 5/6)/16 = 35/96
    ("witten_bell", 1, "", "35/96 17/96 11/96 11/96 17/96 5/96"),
    # c(a) = 4, T(a) = 3: p(b|a) = (2 + 3 * 17/96)/7 = (64/32 + 17/32)/7
    ("witten_bell", 2, "a", "35/224 81/224 43/224 43/224 17/224 5/224"),
    # k = 1/4: p(a) = (5 + 1/4)/(11 + 6/4) = 21/50
    ("add_k", 1, "", "21/50 9/50 5/50 5/50 9/50 1/50"),
    # p(b|a) = (2 + 1/4)/(4 + 6/4) = 9/22
    ("add_k", 2, "a", "1/22 9/22 5/22 5/22 1/22 1/22"),
    # a trigram uses the whole context, here one symbol: p(b|a) = 9/22 again
    ("add_k", 3, "a", "1/22 9/22 5/22 5/22 1/22 1/22"),
    # an unseen context is not shortened
    ("add_k", 3, "za", "1/6 1/6 1/6 1/6 1/6 1/6"),
]


@pytest.mark.parametrize(("smoothing", "order", "context", "expected"), HAND_WORKED)
def test_abracadabra_by_hand(smoothing: Smoothing, order: int, context: str, expected: str) -> None:
    worked = [Fraction(value) for value in expected.split()]
    assert sum(worked) == 1
    model = model_of(ABRACADABRA, len(LETTERS), order, smoothing)
    np.testing.assert_allclose(
        distribution_after(model, letters(context)), [float(value) for value in worked], rtol=1e-13
    )


def test_kneser_ney_keeps_the_counts_of_grams_that_open_a_line_by_hand() -> None:
    # Lines "ab", "ab", "b" with a = 0, b = 1, START = 2.
    # Unigrams by predecessors: a 1 (START), b 2 (START, a): D = 1/3.
    #   p1(a) = (2/3)/3 + (1/3)(2/3)(1/2) = 1/3,  p1(b) = 2/3
    # Bigrams: START a 2 and START b 1 raw, ab 1 (START): n1 = 2, n2 = 1, D = 1/2.
    #   p2(a|START) = (3/2)/3 + (1/2)(2/3)(1/3) = 11/18,  p2(b|a) = 1/2 + (1/2)(2/3) = 5/6
    # Trigrams raw: START a b 2, n1 = 0, D = 1/2.
    #   p3(b|START a) = (3/2)/2 + (1/2)(1/2)(5/6) = 23/24
    start = 2
    model = model_of([start, 0, 1, start, 0, 1, start, 1], 2, 3, "kneser_ney")
    expected = [np.nan, -log(11 / 18), -log(23 / 24)]
    np.testing.assert_allclose(nats_of(model, np.array([start, 0, 1])), expected, rtol=1e-13)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", ORDERS)
@given(corpus=corpora())
@settings(deadline=None, max_examples=40)
def test_nats_agree_with_the_reference(
    order: int, smoothing: Smoothing, corpus: tuple[int, list[int], list[int]]
) -> None:
    size, training, text = corpus
    reference = Reference(training, size, order, smoothing)
    counts = NgramCounts(np.array(training), size, max(ORDERS))
    model = smooth_counts(counts, order, smoothing, K)
    ids = np.array(text, dtype=np.int64)
    expected = []
    for t, symbol in enumerate(text):
        probabilities = [float(value) for value in reference.distribution(text[:t])]
        np.testing.assert_allclose(distribution_after(model, ids[:t]), probabilities, rtol=1e-12)
        expected.append(np.nan if symbol == size else -log(probabilities[symbol]))
    np.testing.assert_allclose(nats_of(model, ids), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@given(corpus=corpora(), order=st.sampled_from(ORDERS))
@settings(deadline=None)
def test_every_distribution_sums_to_one_and_gives_the_nats(
    smoothing: Smoothing, corpus: tuple[int, list[int], list[int]], order: int
) -> None:
    size, training, text = corpus
    model = model_of(training, size, order, smoothing)
    # seen contexts, then mostly unseen contexts; t = 0 is the empty context
    for part in (training, text):
        ids = np.array(part, dtype=np.int64)
        nats = nats_of(model, ids)
        assert nats.dtype == np.float64
        assert nats.shape == ids.shape
        for t, symbol in enumerate(part):
            probabilities = distribution_after(model, ids[:t])
            assert probabilities.shape == (size,)
            assert (probabilities > 0).all()
            assert probabilities.sum() == pytest.approx(1, abs=1e-12)
            if symbol != size:
                assert nats[t] == pytest.approx(-log(probabilities[symbol]), abs=1e-12)


@given(corpus=corpora(), smoothing=st.sampled_from(INTERPOLATED))
@settings(deadline=None)
def test_all_orders_at_once_equal_the_models_one_by_one(
    corpus: tuple[int, list[int], list[int]], smoothing: Interpolated
) -> None:
    size, training, text = corpus
    counts = NgramCounts(np.array(training), size, 4)
    ids = [np.array(part, dtype=np.int64) for part in (text, training, text[:1], [])]
    found = list(nats_by_order(counts, [(each, counts.number(each, 4)) for each in ids], smoothing))
    assert len(found) == 4
    for order, scored in enumerate(found, 1):
        model = smooth_counts(counts, order, smoothing)
        for nats, each in zip(scored, ids, strict=True):
            np.testing.assert_array_equal(nats, nats_of(model, each))


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_large_distributions_sum_to_one(smoothing: Smoothing) -> None:
    size = 300
    ids = (np.random.default_rng(0).pareto(1, 20_000) * 4).astype(np.int64) % size
    model = model_of(ids, size, 5, smoothing)
    for end in range(0, 200, 7):
        for context in (ids[:end], ids[:end][::-1]):
            assert distribution_after(model, context).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_no_context_crosses_a_line(smoothing: Smoothing) -> None:
    start = 3
    lines = [[start, 0, 1, 2, 0, 1], [start, 1, 1, 0, 2], [start, 2, 0, 1, 2]]
    ids = np.concatenate(lines)
    model = model_of(ids, start, 4, smoothing)
    joined = nats_of(model, ids)
    separate = [nats_of(model, np.array(line)) for line in lines]
    assert all(np.isnan(line[0]) and not np.isnan(line[1:]).any() for line in separate)
    np.testing.assert_array_equal(joined, np.concatenate(separate))
    # The text after a START is the same whatever the line before it held.
    np.testing.assert_array_equal(
        distribution_after(model, np.array([0, 1, start, 2])),
        distribution_after(model, np.array([start, 2])),
    )
    # Without a START the nats differ.
    opened = distribution_after(model, np.array([start, 2]))
    running = distribution_after(model, np.array([2]))
    assert not np.allclose(opened, running)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_type_of_the_ids_makes_no_difference(smoothing: Smoothing) -> None:
    size = 255  # START fills the last value of a byte
    ids = np.random.default_rng(1).integers(0, size + 1, 3000)
    wide = model_of(ids, size, 3, smoothing)
    narrow = smooth_counts(NgramCounts(ids.astype(np.uint8), size, 3), 3, smoothing, K)
    np.testing.assert_array_equal(nats_of(narrow, ids.astype(np.uint8)), nats_of(wide, ids))
    np.testing.assert_array_equal(
        distribution_after(narrow, ids[:9].astype(np.uint8)), distribution_after(wide, ids[:9])
    )


def test_a_text_without_symbols_has_no_scores() -> None:
    model = model_of([0, 1, 0], 2, 2, "kneser_ney")
    assert nats_of(model, np.array([], dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_texts_side_by_side_equal_the_texts_one_by_one(smoothing: Smoothing) -> None:
    size = 4
    ids = np.random.default_rng(2).integers(0, size + 1, (3, 2, 50))
    model = model_of(ids.ravel(), size, 3, smoothing)
    ids[1, 0, :7] = ids[2, 1, :50] = NOTHING
    contexts = model.contexts(ids)
    nats, probabilities = model.nats(contexts, ids), model.distributions(contexts)
    assert probabilities.shape == (3, 2, 50, size)
    for place in np.ndindex(3, 2):
        single = model.contexts(ids[place])
        np.testing.assert_array_equal(nats[place], model.nats(single, ids[place]))
        np.testing.assert_array_equal(probabilities[place], model.distributions(single))
    # nothing was read at empty places
    fresh = model.contexts(ids[1, 0, 7:])
    np.testing.assert_array_equal(probabilities[1, 0, 7:], model.distributions(fresh))
    empty = distribution_after(model, ids[0, 0, :0])
    np.testing.assert_array_equal(probabilities[2, 1], np.tile(empty, (50, 1)))


@pytest.mark.parametrize(
    ("ids", "max_order", "message"),
    [
        ([0, 1], 0, "max_order"),
        ([], 2, "no symbol to predict"),
        ([2, 2], 2, "no symbol to predict"),
        ([0, 3], 2, "symbols in 0"),
        ([0, -1], 2, "symbols in 0"),
        ([[0, 1]], 2, "1-D"),
    ],
)
def test_counting_refuses_wrong_arguments(ids: list[int], max_order: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NgramCounts(np.array(ids, dtype=np.int64), 2, max_order)


def test_a_model_refuses_orders_and_smoothings_that_it_lacks() -> None:
    counts = NgramCounts(np.array([0, 1, 0]), 2, 2)
    for order in (0, 3):
        with pytest.raises(ValueError, match="order must lie in"):
            smooth_counts(counts, order, "kneser_ney")
    with pytest.raises(ValueError, match="smoothing"):
        smooth_counts(counts, 2, "laplace")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [[3], [-2], [0, 1, 3]])
def test_a_model_refuses_ids_outside_the_vocabulary(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="symbols in 0"):
        model_of([0, 1, 0], 2, 2, "kneser_ney").contexts(np.array(bad))


# Perplexities of the Jay Chou lyrics, measured by other programs and known to the digits given:
# smoothing, order, newlines as spaces, training split, scored split, perplexity, half a last digit.
PUBLISHED = [
    ("witten_bell", 1, True, (0, 90), (90, 100), 426.6, 0.05),
    ("witten_bell", 2, True, (0, 90), (90, 100), 234.3, 0.05),
    ("witten_bell", 3, True, (0, 90), (90, 100), 291.8, 0.05),
    ("witten_bell", 1, False, (0, 80), (80, 90), 494, 0.5),
    ("witten_bell", 2, False, (0, 80), (80, 90), 284, 0.5),
    ("witten_bell", 3, False, (0, 80), (80, 90), 366, 0.5),
    ("kneser_ney", 5, False, (0, 80), (80, 90), 220, 0.5),
    ("kneser_ney", 5, False, (0, 80), (90, 100), 232, 0.5),
]


@pytest.fixture(scope="module")
def lyrics() -> str:
    need_published("jaychou")
    path = Path(os.environ["LYRICGEN_DATA"]) / "jaychou_lyrics.txt.zip"
    with zipfile.ZipFile(path) as archive:
        return archive.read("jaychou_lyrics.txt").decode("utf-8")


@pytest.mark.parametrize(
    ("smoothing", "order", "spaces", "training", "scored", "perplexity", "tolerance"), PUBLISHED
)
def test_perplexities_equal_those_of_other_programs(
    *,
    lyrics: str,
    smoothing: Smoothing,
    order: int,
    spaces: bool,
    training: tuple[int, int],
    scored: tuple[int, int],
    perplexity: float,
    tolerance: float,
) -> None:
    text = lyrics.replace("\n", " ") if spaces else lyrics
    vocabulary = sorted(set(text))
    number = {symbol: index for index, symbol in enumerate(vocabulary)}
    ids = np.array([number[symbol] for symbol in text])

    def part(percents: tuple[int, int]) -> npt.NDArray[np.int64]:
        return ids[slice(*(len(ids) * percent // 100 for percent in percents))]

    # The first symbol of the scored split has no context and is not scored.
    nats = nats_of(model_of(part(training), len(vocabulary), order, smoothing), part(scored))[1:]
    assert np.exp(nats.mean()) == pytest.approx(perplexity, abs=tolerance)
