"""Rules on logits, against loops over single characters in double precision."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lyricgen.generation import rules
from lyricgen.generation.rules import PartialTexts, Rule

INF = math.inf
V = 11
Row = list[float]
Loop = Callable[[Row, list[int]], Row]  # logits and the text so far


def partial_texts(texts: list[list[int]]) -> PartialTexts:
    width = max(len(text) for text in texts)
    padded = [[-1] * (width - len(text)) + text for text in texts]
    rows = torch.arange(len(texts))
    return PartialTexts(torch.tensor(padded, dtype=torch.int64).view(len(texts), width), 0, rows)


def softmax(logits: Row) -> Row:
    largest = max(logits)
    weights = [math.exp(one - largest) for one in logits]
    return [one / sum(weights) for one in weights]


def top_k_loop(k: int) -> Loop:
    def keep(logits: Row, _: list[int]) -> Row:
        # a logit stays if fewer than k others are larger
        return [one if sum(other > one for other in logits) < k else -INF for one in logits]

    return keep


def top_p_loop(p: float) -> Loop:
    def keep(logits: Row, _: list[int]) -> Row:
        probabilities = softmax(logits)
        total, least = 0.0, INF
        for one in sorted(probabilities, reverse=True):
            if total >= p:
                break
            total, least = total + one, one
        return [
            logit if one >= least else -INF
            for logit, one in zip(logits, probabilities, strict=True)
        ]

    return keep


def min_p_loop(p: float) -> Loop:
    def keep(logits: Row, _: list[int]) -> Row:
        probabilities = softmax(logits)
        least = p * max(probabilities) * (1 - 1e-12)
        return [
            logit if one >= least else -INF
            for logit, one in zip(logits, probabilities, strict=True)
        ]

    return keep


def penalty_loop(value: float) -> Loop:
    def changed(logits: Row, text: list[int]) -> Row:
        changed = list(logits)
        for symbol in set(text) & set(range(len(logits))):
            logit = logits[symbol]
            changed[symbol] = logit / value if logit > 0 else logit * value
        return changed

    return changed


def ngram_loop(n: int) -> Loop:
    def keep(logits: Row, text: list[int]) -> Row:
        keep = list(logits)
        for symbol in range(len(logits)):
            gram = [*text[len(text) - n + 1 :], symbol]
            if len(gram) == n and any(
                text[start : start + n] == gram for start in range(len(text) - n + 1)
            ):
                keep[symbol] = -INF
        return keep

    return keep


RULES: dict[str, tuple[Rule, Loop]] = {
    "temperature 0.5": (rules.temperature(0.5), lambda row, _: [2 * one for one in row]),
    "temperature 3": (rules.temperature(3), lambda row, _: [one / 3 for one in row]),
    **{f"top_k {k}": (rules.top_k(k), top_k_loop(k)) for k in (1, 3, V - 1, V, V + 5)},
    **{f"top_p {p}": (rules.top_p(p), top_p_loop(p)) for p in (1e-9, 0.3, 0.9, 0.999, 1.0)},
    **{f"min_p {p}": (rules.min_p(p), min_p_loop(p)) for p in (1e-9, 0.1, 0.5, 1.0)},
    **{
        f"repetition_penalty {value}": (rules.repetition_penalty(value), penalty_loop(value))
        for value in (0.5, 1.0, 1.3)
    },
    **{f"no_repeat_ngram {n}": (rules.no_repeat_ngram(n), ngram_loop(n)) for n in (1, 2, 3, 5)},
}
EACH = pytest.mark.parametrize("name", RULES)


def random_logits(rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(rows, V, dtype=torch.float64, generator=generator)


def random_texts(rows: int, longest: int) -> list[list[int]]:
    """Texts of three characters, so that n-grams repeat; half begin with a start symbol."""
    generator = torch.Generator().manual_seed(1)
    texts = []
    for row in range(rows):
        length = row % (longest + 1)
        text = torch.randint(3, (length,), generator=generator).tolist()
        texts.append([V, *text] if row % 2 else text)
    return texts


def check(name: str, logits: Tensor, texts: list[list[int]]) -> Tensor:
    rule, loop = RULES[name]
    before = logits.clone()
    changed = rule(logits, partial_texts(texts))
    assert torch.equal(logits, before)  # a rule returns new logits
    each = zip(logits.tolist(), texts, strict=True)
    expected = torch.tensor([loop(row, text) for row, text in each], dtype=torch.float64)
    if name.startswith("temperature"):  # it may shift all logits of a row
        expected -= expected.amax(dim=1, keepdim=True)
        changed = changed - changed.amax(dim=1, keepdim=True)
    torch.testing.assert_close(changed, expected, rtol=1e-12, atol=1e-12)
    return changed


@EACH
def test_rule_equals_a_loop(name: str) -> None:
    changed = check(name, random_logits(60), random_texts(60, 20))
    neutral = {f"top_k {V}", f"top_k {V + 5}", "top_p 1.0", "min_p 1e-09", "repetition_penalty 1.0"}
    assert torch.equal(changed, random_logits(60)) == (name in neutral)


@EACH
def test_equal_logits_are_treated_alike(name: str) -> None:
    """Equal logits are kept or forbidden together."""
    logits = random_logits(60).round()
    assert any(len(set(row)) < V for row in logits.tolist())
    changed = check(name, logits, random_texts(60, 20))
    if not name.startswith(("repetition", "no_repeat")):
        for before, after in zip(logits.tolist(), changed.tolist(), strict=True):
            assert len(set(zip(before, after, strict=True))) == len(set(before))


@EACH
def test_one_character_left(name: str) -> None:
    """Forbidden characters stay forbidden, and no truncation removes the last character."""
    logits = torch.full((V, V), -INF).double()
    logits.fill_diagonal_(0.7)
    changed = RULES[name][0](logits, partial_texts([[V, 3]] * V))
    possible = changed > -INF
    assert not changed.isnan().any()
    assert not possible[~torch.eye(V, dtype=torch.bool)].any()
    lost = 3 if name == "no_repeat_ngram 1" else None
    assert possible.diagonal().tolist() == [symbol != lost for symbol in range(V)]


@EACH
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    logits, texts, rule = random_logits(30).float(), random_texts(30, 12), RULES[name][0]
    together = rule(logits, partial_texts(texts))
    for row, text in enumerate(texts):
        assert torch.equal(
            rule(logits[row : row + 1], partial_texts([text])), together[row : row + 1]
        )


def test_rules_leave_a_text_without_characters_unchanged() -> None:
    """The text is only the start of a line, or shorter than n."""
    logits = random_logits(2)
    for name in ("no_repeat_ngram 1", "no_repeat_ngram 3", "repetition_penalty 1.3"):
        assert torch.equal(RULES[name][0](logits, partial_texts([[V], [V]])), logits)
    assert torch.equal(RULES["no_repeat_ngram 3"][0](logits, partial_texts([[1], [2]])), logits)


def test_padding_before_a_shorter_text_repeats_nothing() -> None:
    """Padding counts neither in a context nor as a character after it."""
    logits = random_logits(2)
    changed = rules.no_repeat_ngram(3)(logits, partial_texts([[1], [4, 5, 6, 4, 5]]))
    assert torch.equal(changed[0], logits[0])
    assert changed[1].isinf().nonzero()[:, 0].tolist() == [6]


def test_the_nucleus_of_holtzman() -> None:
    """0.5 + 0.3 reach 0.79, so the third is out; they do not reach 0.81, so it is in."""
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
    nothing = partial_texts([[0]])
    assert rules.top_p(0.79)(logits, nothing).isinf().tolist() == [[False, False, True, True]]
    assert rules.top_p(0.81)(logits, nothing).isinf().tolist() == [[False, False, False, True]]


def test_the_penalty_of_keskar() -> None:
    logits = torch.tensor([[2.4, -1.0, 3.0, -2.0]])
    changed = rules.repetition_penalty(1.2)(logits, partial_texts([[0, 1, 0]]))
    torch.testing.assert_close(changed, torch.tensor([[2.0, -1.2, 3.0, -2.0]]))
