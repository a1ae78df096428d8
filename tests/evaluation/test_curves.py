"""Curves of perplexity against loops that read one character at a time, in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import RARE_SYMBOL, Vocabulary
from lyricgen.evaluation import curves
from lyricgen.evaluation.curves import (
    context_begins,
    context_lengths,
    frequency_bins,
    means_by_bin,
    nats_after,
    nats_in_windows,
    target_positions,
    window_starts,
)
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.options import NgramArchitecture
from tests.helpers import hybrid_models
from tests.helpers.checkpoints import VOCABULARY, model_of

V = len(VOCABULARY)
MODELS = ["rnn", "gru", "lstm", "ngram", "mixture", "product"]


def network_of(kind: str, layout: str = "stream") -> Any:
    if kind in ("mixture", "product"):
        return hybrid_models.network_of(layout, combination=kind).double()
    if kind != "ngram":
        return model_of(kind, layout=layout).network.double()
    counted = NgramLanguageModel(
        NgramArchitecture(
            kind="ngram",
            order=3,
            smoothing="kneser_ney",
            k=0.1,
            vocabulary_size=V,
            start_symbol=layout == "lines",
        )
    )
    counted.fit(lines_of(9).ids if layout == "lines" else text_of(200, seed=9))
    return counted


def text_of(length: int, seed: int = 0) -> Tensor:
    return torch.randint(V, (length,), generator=torch.Generator().manual_seed(seed))


def lines_of(seed: int = 0) -> Split:
    """Lines of a start symbol, random characters and a newline."""
    numbers = np.random.default_rng(seed)
    lines = [[V, *numbers.integers(1, V, size), 0] for size in (3, 1, 6, 12, 2, 5, 9)]
    starts = np.cumsum([0, *map(len, lines)])[:-1]
    return Split(torch.from_numpy(np.concatenate(lines)), torch.from_numpy(starts))


def nats_one_by_one(network: Any, read: list[int], symbols: list[int]) -> list[float]:
    """Nats of the symbol after each character read, step by step from state zero."""
    found, state = [], None
    with torch.no_grad():
        for one, following in zip(read, symbols, strict=True):
            logits, state = network(torch.tensor([[one]]), state)
            found.append(-float(torch.log_softmax(logits[0, 0], -1)[following]))
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_windows_against_a_loop(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(curves, "EVALUATION_LOGITS", 3 * 7 * V)  # three windows at once
    network, ids = network_of(kind), text_of(60)
    starts = torch.tensor([0, 1, 5, 6, 30, 52, 12])
    found = nats_in_windows(network, VOCABULARY, ids, starts, num_steps=7)
    for start, row in zip(starts.tolist(), found, strict=True):
        window = ids[start : start + 8].tolist()
        assert row == pytest.approx(nats_one_by_one(network, window[:-1], window[1:]), rel=1e-9)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("length", [1, 2, 5, 16])
def test_contexts_against_a_loop(monkeypatch: pytest.MonkeyPatch, kind: str, length: int) -> None:
    monkeypatch.setattr(curves, "_STEPS", 3 * length)  # three targets at once
    network, ids = network_of(kind), text_of(60)
    places = target_positions(Split(ids, None), V, longest=16)
    assert places.tolist() == list(range(16, 60))
    begins = context_begins(Split(ids, None), places, length)
    found = nats_after(network, VOCABULARY, ids, begins, places)
    for place, nats in zip(places.tolist(), found, strict=True):
        read = ids[place - length : place].tolist()
        expected = nats_one_by_one(network, read, ids[place - length + 1 : place + 1].tolist())
        assert nats == pytest.approx(expected[-1], rel=1e-9)


def test_rare_characters_are_charged() -> None:
    characters = sorted(VOCABULARY.characters[: V - 1] + RARE_SYMBOL)
    vocabulary = Vocabulary("".join(characters), "xyz")
    network, ids = network_of("lstm"), text_of(60)
    starts, places = torch.arange(20), torch.arange(20, 40)
    windows, contexts = (
        nats_in_windows(network, vocabulary, ids, starts, num_steps=7),
        nats_after(network, vocabulary, ids, starts, places),
    )
    targets = ids[starts[:, None] + torch.arange(1, 8)]
    windows -= math.log(3) * (targets == characters.index(RARE_SYMBOL)).numpy()
    contexts -= math.log(3) * (ids[places] == characters.index(RARE_SYMBOL)).numpy()
    assert windows == pytest.approx(nats_in_windows(network, VOCABULARY, ids, starts, num_steps=7))
    assert contexts == pytest.approx(nats_after(network, VOCABULARY, ids, starts, places))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("length", [1, 4, 16])
def test_contexts_end_where_a_line_begins(kind: str, length: int) -> None:
    network, split = network_of(kind, "lines"), lines_of()
    places = target_positions(split, V, longest=3)
    ids = split.ids.tolist()
    assert places.tolist() == [place for place, one in enumerate(ids) if one != V][3:]
    found = nats_after(
        network, VOCABULARY, split.ids, context_begins(split, places, length), places
    )
    for place, nats in zip(places.tolist(), found, strict=True):
        start = max(at for at in range(place) if ids[at] == V)
        begin = max(start, place - length)
        expected = nats_one_by_one(network, ids[begin:place], ids[begin + 1 : place + 1])
        assert nats == pytest.approx(expected[-1], rel=1e-9)


def test_lengths_of_contexts() -> None:
    assert context_lengths(Split(text_of(10_000), None), V) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert context_lengths(Split(text_of(511), None), V)[-1] == 128  # the other half is predicted
    assert context_lengths(Split(text_of(2), None), V) == [1]
    assert context_lengths(lines_of(), V) == [1, 2, 4, 8, 16]  # the longest line has 13 targets


def test_many_targets_are_evenly_spaced() -> None:
    places = target_positions(Split(text_of(100_000), None), V, longest=256).tolist()
    assert len(places) == len(set(places)) == 512
    assert (places[0], places[-1]) == (256, 99_999)
    assert set(np.diff(places)) <= {195, 196}  # 99,743 / 511


def test_windows_cover_a_short_text_and_sample_a_long_one_in_runs() -> None:
    assert window_starts(100, 35).tolist() == list(range(65))
    assert window_starts(36, 35).tolist() == [0]
    starts = window_starts(500_000, 35).numpy()
    assert 0.85 * 2**18 <= 35 * len(starts) <= 2**18
    assert (starts[0], starts[-1]) == (0, 500_000 - 35 - 1)
    assert len(set(starts.tolist())) == len(starts)
    assert (np.diff(starts) == 1).mean() > 0.99


def test_bins_of_frequencies() -> None:
    counts = [0, 1, 2, 3, 4, 7, 8, 15, 16, 1023, 1024, 10**12]
    expected = [0, 1, 2, 2, 3, 3, 4, 4, 5, 10, 11, 40]
    assert frequency_bins(np.array(counts)).tolist() == expected


def test_means_of_bins_against_a_loop() -> None:
    numbers = np.random.default_rng(0)
    nats, bins = numbers.gamma(2, 1, 200), numbers.integers(0, 6, 200)
    bins[bins == 4] = 5
    nats[:3] = np.nan
    by_bin: dict[int, list[float]] = {number: [] for number in range(6)}
    for value, number in zip(nats.tolist(), bins.tolist(), strict=True):
        if not math.isnan(value):
            by_bin[number].append(value)
    characters, perplexities = means_by_bin(nats, bins, 6)
    assert characters == [len(values) for values in by_bin.values()]
    assert characters[4] == 0
    assert perplexities[4] is None
    for number in (0, 1, 2, 3, 5):
        mean = math.fsum(by_bin[number]) / len(by_bin[number])
        assert perplexities[number] == pytest.approx(math.exp(mean), rel=1e-12)
