"""Continued texts, against loops that draw one character at a time."""

import itertools
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lyricgen.errors import UserError
from lyricgen.generation.continuing import below_one, draw_characters, draw_uniforms
from lyricgen.generation.rules import PartialTexts
from lyricgen.models.network import LanguageModel
from tests.helpers.decoding import continue_by_rereading, continue_prefixes, draw_texts
from tests.helpers.networks import architecture

V, START = 5, 5
PREFIXES = [[0], [1, 2, 3], [START, 4, 4], [2, 0, 1, 3, 3, 1], [START]]
EACH_CELL = pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
EACH_INPUT = pytest.mark.parametrize("kind", ["embedding", "one_hot"])


def network(cell: str = "lstm", **options: Any) -> LanguageModel:
    """A network with weights so large that its texts differ."""
    torch.manual_seed(0)
    model = LanguageModel(architecture(cell, hidden_size=12, layers=2, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=1.0 if parameter.dim() > 1 else 0.1)
    return model.eval()


def network_of(probabilities: list[float]) -> LanguageModel:
    """A network that gives each character a fixed probability after any text."""
    model = network()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor(probabilities).log())
    return model


@torch.no_grad()
def draw_one_by_one(
    model: LanguageModel, prefix: list[int], length: int, temperature: float, seed: int
) -> list[int]:
    """Draw each character by a loop over the cumulative distribution."""
    state = None
    for symbol in prefix:
        logits, state = model(torch.tensor([[symbol]]), state)
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = []
    for number in torch.rand(length, generator=generator).tolist():
        weights = np.exp(logits[0, 0].double().numpy() / temperature)
        below, symbol = 0.0, 0
        for symbol in range(V):
            below += weights[symbol] / weights.sum()
            if number < below:
                break
        drawn.append(symbol)
        logits, state = model(torch.tensor([[symbol]]), state)
    return drawn


@EACH_CELL
@EACH_INPUT
@pytest.mark.parametrize("residual", [False, True])
def test_greedy_takes_the_most_probable_character(cell: str, kind: str, residual: bool) -> None:
    model = network(cell, input=kind, residual=residual)
    expected = [continue_by_rereading(model, prefix, 20) for prefix in PREFIXES]
    assert len({tuple(text) for text in expected}) > 1
    assert continue_prefixes(model, PREFIXES, temperature=0.0) == expected
    # a greedy text does not depend on the seed
    assert (
        continue_prefixes(model, PREFIXES, temperature=0.0, seeds=[9] * len(PREFIXES)) == expected
    )


@EACH_CELL
@EACH_INPUT
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_equal_a_loop_over_single_characters(
    cell: str, kind: str, temperature: float
) -> None:
    model = network(cell, input=kind)
    expected = [
        draw_one_by_one(model, prefix, 20, temperature, seed)
        for seed, prefix in enumerate(PREFIXES)
    ]
    assert continue_prefixes(model, PREFIXES, temperature=temperature) == expected


def chi_square(drawn: list[int], probabilities: np.ndarray) -> float:
    expected = len(drawn) * probabilities
    seen = np.array([drawn.count(symbol) for symbol in range(len(probabilities))])
    return float(((seen - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax_at_a_temperature(temperature: float) -> None:
    probabilities = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
    rows = continue_prefixes(
        network_of(probabilities.tolist()),
        [[0]] * 20,
        length=500,
        temperature=temperature,
    )
    drawn = [symbol for row in rows for symbol in row]
    assert len(drawn) == 10_000
    powers = probabilities ** (1 / temperature)  # softmax(ln p / t)
    assert chi_square(drawn, powers / powers.sum()) < 18.47  # 4 degrees of freedom: 0.1 %
    for other in {0.5, 1.0, 3.0} - {temperature}:
        wrong = probabilities ** (1 / other)
        assert chi_square(drawn, wrong / wrong.sum()) > 100


def test_neighbouring_draws_do_not_depend_on_each_other() -> None:
    rows = continue_prefixes(network_of([0.2] * 5), [[0]] * 20, length=500)
    pairs = Counter(pair for row in rows for pair in itertools.pairwise(row))
    total = sum(pairs.values())
    seen = np.array([pairs[i, j] for i in range(V) for j in range(V)])
    assert ((seen - total / 25) ** 2 / (total / 25)).sum() < 51.18  # 24 degrees: 0.1 %
    columns = zip(*rows, strict=True)  # one draw of each seed
    across = Counter(pair for column in columns for pair in itertools.pairwise(column))
    seen = np.array([across[i, j] for i in range(V) for j in range(V)])
    assert ((seen - seen.sum() / 25) ** 2 / (seen.sum() / 25)).sum() < 51.18


@pytest.mark.parametrize("temperature", [1e-2, 1e-5, 1e-30, 1e-60])
def test_a_temperature_near_zero_is_greedy(temperature: float) -> None:
    model = network()
    greedy = continue_prefixes(model, PREFIXES, temperature=0.0)
    assert continue_prefixes(model, PREFIXES, temperature=temperature) == greedy


def test_a_character_without_probability_is_never_drawn() -> None:
    model = network_of([0.0, 0.5, 0.0, 0.5, 0.0])
    rows = continue_prefixes(model, [[0]] * 10, length=500)
    assert {symbol for row in rows for symbol in row} == {1, 3}


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_a_text_does_not_depend_on_the_others(temperature: float) -> None:
    model = network()
    seeds = [11, 22, 33, 44, 55]
    together = continue_prefixes(model, PREFIXES, temperature=temperature, seeds=seeds)
    for prefix, seed, text in zip(PREFIXES, seeds, together, strict=True):
        assert continue_prefixes(model, [prefix], temperature=temperature, seeds=[seed]) == [text]
    backwards = continue_prefixes(model, PREFIXES[::-1], temperature=temperature, seeds=seeds[::-1])
    assert backwards == together[::-1]
    doubled = continue_prefixes(model, PREFIXES * 3, temperature=temperature, seeds=seeds * 3)
    assert doubled == together * 3


def test_seeds_make_different_texts_of_one_prefix() -> None:
    model = network()
    texts = continue_prefixes(model, [[1]] * 10, seeds=list(range(10)))
    assert len({tuple(text) for text in texts}) == 10
    assert continue_prefixes(model, [[1]] * 2, seeds=[3, 3]) == [texts[3]] * 2


@pytest.mark.parametrize("short", [1, 5, 15, 16, 17, 40])
def test_a_longer_text_begins_with_the_shorter_text(short: int) -> None:
    model = network()
    longer = continue_prefixes(model, PREFIXES, length=60)
    assert continue_prefixes(model, PREFIXES, length=short) == [text[:short] for text in longer]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("stop", range(V))
@pytest.mark.parametrize("stops", [None, [1, 2, 3] * 6 + [1, 2]])
def test_a_stop_character_ends_a_text_and_is_left_out(
    temperature: float, stop: int, stops: list[int] | None
) -> None:
    model = network()
    prefixes = PREFIXES * 4
    endless = continue_prefixes(model, prefixes, temperature=temperature)
    expected = []
    for text, number in zip(endless, stops or [1] * 20, strict=True):
        kept: list[int] = []
        for symbol in text:
            if symbol == stop and kept.count(stop) == number - 1:
                break
            kept.append(symbol)
        expected.append(kept)
    assert all(len(text) == 20 for text in endless)
    found = continue_prefixes(model, prefixes, temperature=temperature, stop=stop, stops=stops)
    assert found == expected
    if temperature:
        assert len({len(text) for text in expected}) > 2


def test_a_stop_character_in_the_prefix_does_not_end_the_text() -> None:
    model = network_of([0.0, 0.5, 0.5, 0.0, 0.0])
    assert [len(text) for text in continue_prefixes(model, [[3, 0, 3]], stop=3)] == [20]


def test_all_texts_may_stop_at_once() -> None:
    model = network_of([0.0, 0.0, 0.0, 1.0, 0.0])
    assert continue_prefixes(model, PREFIXES, stop=3) == [[]] * len(PREFIXES)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_comes_back(training: bool) -> None:
    model = network(dropout=0.5, depth_dropout=0.5)
    expected = continue_prefixes(network(), PREFIXES)
    model.train(training)
    assert continue_prefixes(model, PREFIXES) == expected
    assert all(module.training == training for module in model.modules())
    with pytest.raises(ValueError, match="prefix"):
        continue_prefixes(model, [[1], []])
    assert all(module.training == training for module in model.modules())


def test_a_network_can_train_after_generation() -> None:
    model = network().train()
    continue_prefixes(model, PREFIXES)
    logits, _ = model(torch.tensor([[1, 2, 3]]))
    logits.sum().backward()
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_random_generator_of_the_process_is_touched(temperature: float) -> None:
    model = network(dropout=0.5).train()

    def states() -> tuple[Tensor, object, object]:
        return torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]

    before = states()
    first = continue_prefixes(model, PREFIXES, temperature=temperature)
    after = states()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.manual_seed(123)
    assert continue_prefixes(model, PREFIXES, temperature=temperature) == first


@pytest.mark.parametrize("length", [0, -1])
def test_a_length_below_1_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"length.*{length}"):
        continue_prefixes(network(), [[1]], length=length)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_prefixes_of_any_integer_type(dtype: torch.dtype) -> None:
    model = network()
    prefix = torch.tensor([1, 2, 3], dtype=dtype)
    uniforms = draw_uniforms("torch", [0], 20)
    texts = draw_texts(model, [prefix], 1.0, uniforms)
    assert texts == continue_prefixes(model, [[1, 2, 3]])
    assert all(isinstance(symbol, int) for symbol in texts[0])


def test_numpys_numbers_are_reseeded_for_every_character() -> None:
    drawn = draw_uniforms("numpy_reseeded", [0, 5], 4)
    assert drawn.dtype == torch.float64
    for row, seed in zip(drawn.tolist(), (0, 5), strict=True):
        for step, value in enumerate(row):
            np.random.seed(2 * step + seed)
            assert value == np.random.random_sample()


def test_double_precision_is_kept_in_the_draw() -> None:
    """Of two equally probable characters a number just above one half draws the second."""
    model = network_of([0.5, 0.5, *[1e-300] * (V - 2)]).double()
    uniforms = torch.tensor([[0.5 - 1e-12, 0.5 + 1e-12]], dtype=torch.float64)
    assert draw_texts(model, [torch.tensor([1])], 1.0, uniforms) == [[0, 1]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("stops", [None, [1, 2] * 20])
def test_finished_texts_leave_the_batch(
    temperature: float, watched: bool, stops: list[int] | None
) -> None:
    """Rules get fewer and fewer rows, with their numbers."""
    model, prefixes, stop = network(), PREFIXES * 8, 2
    seen: list[PartialTexts] = []
    streamed: list[list[int]] = [[] for _ in prefixes]

    def note_rows(logits: Tensor, written: PartialTexts) -> Tensor:
        assert len(logits) == len(written.text) == len(written.rows)
        seen.append(written)
        return logits

    def watch(rows: Tensor, characters: Tensor) -> None:
        for row, character in zip(rows.tolist(), characters.tolist(), strict=True):
            streamed[row].append(character)

    options: dict[str, Any] = {"temperature": temperature, "stop": stop, "stops": stops}
    texts = continue_prefixes(
        model, prefixes, **options, rules=[note_rows], watch=watch if watched else None
    )
    assert texts == continue_prefixes(model, prefixes, **options)
    assert streamed == (texts if watched else [[] for _ in prefixes])
    longest = max(len(text) for text in texts)
    for step, written in enumerate(seen):
        assert written.step == step
        rows = written.rows.tolist()
        running = {row for row, text in enumerate(texts) if len(text) >= step}
        assert set(rows) >= running
        assert rows == sorted(rows)
        if watched:
            assert set(rows) == running
        else:  # the device is asked only every few steps
            assert all(len(texts[row]) > step - 4 for row in rows)
        for row, text in zip(rows, written.text.tolist(), strict=True):
            known = [one for one in text if one >= 0]
            begun = [*prefixes[row], *texts[row]]
            assert known[: len(begun)] == begun[: len(known)]
    assert len(seen) - longest in (range(1, 2) if watched else range(1, 5)) or longest == 20


def test_texts_are_equal_bit_for_bit_in_every_batch() -> None:
    """Hundreds of texts, some of which end early, equal those of small batches and single rows."""
    torch.manual_seed(0)
    model = LanguageModel(architecture("lstm", hidden_size=64, vocabulary_size=97)).eval()
    with torch.no_grad():
        model.output.weight.mul_(10)
    prefixes = [[97, row % 97, row * 5 % 97][: 1 + row % 3] for row in range(203)]
    seeds = list(range(203))
    together = continue_prefixes(model, prefixes, length=60, stop=4)
    assert 20 < sum(len(text) < 60 for text in together) < 180
    for some in (slice(0, 2), slice(5, 8), slice(10, 14), slice(20, 90), *map(only_row, range(9))):
        few = continue_prefixes(model, prefixes[some], length=60, stop=4, seeds=seeds[some])
        assert few == together[some]


def only_row(row: int) -> slice:
    return slice(row, row + 1)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("step", [0, 3, 4, 19])
def test_constraints_that_leave_no_character_are_refused(temperature: float, step: int) -> None:
    def forbid_all(logits: Tensor, written: PartialTexts) -> Tensor:
        impossible = (written.rows == 3) & (written.step == step)
        return logits.masked_fill(impossible[:, None], -torch.inf)

    with pytest.raises(UserError, match=f"position {step + 1} of a text") as raised:
        continue_prefixes(network(), PREFIXES, temperature=temperature, rules=[forbid_all])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_constraints_do_not_bind_a_text_that_has_ended(temperature: float) -> None:
    """A constraint may forbid every character after the stop."""

    def stop_at_two(logits: Tensor, written: PartialTexts) -> Tensor:
        if written.step < 2:
            return logits.index_fill(1, torch.tensor(3), -torch.inf)
        if written.step == 2:
            return logits.masked_fill(torch.arange(V) != 3, -torch.inf)
        return logits - torch.inf

    texts = continue_prefixes(
        network(), PREFIXES, temperature=temperature, stop=3, rules=[stop_at_two]
    )
    assert [len(text) for text in texts] == [2] * len(PREFIXES)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_diverged_model_is_refused(temperature: float) -> None:
    model = network()
    with torch.no_grad():
        model.output.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="diverged"):
        continue_prefixes(model, PREFIXES, temperature=temperature)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_numbers_draw_allowed_characters(dtype: torch.dtype) -> None:
    """Rounding must not go past the last character that has a probability."""
    logits = torch.randn(2000, 50, dtype=dtype, generator=torch.Generator().manual_seed(0))
    logits[:, -7:] = -torch.inf
    for number in (1 - 2**-24, 1 - 2**-53):
        numbers = below_one(torch.full((2000, 1), number, dtype=torch.float64), dtype)
        drawn = draw_characters(logits, numbers)
        assert (drawn == 42).all()
    logits[:, :5] = -torch.inf
    assert (draw_characters(logits, torch.zeros(2000, 1, dtype=dtype)) == 5).all()
