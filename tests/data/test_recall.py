"""Characters recalled from earlier occurrences of a context, against a search by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lyricgen.data.options import RecallOptions
from lyricgen.data.recall import Recollection, count_recalled, number_parts, recall

V, NEWLINE = 3, 0


def options(orders: Sequence[int] = (1, 2, 3, 5), **given: object) -> RecallOptions:
    values = {"recent": 0, "occurrences": 3, "size": 1000, "scope": "split", **given}
    return RecallOptions(orders=tuple(orders), **values)  # type: ignore[arg-type]


def by_hand(ids: list[int], parts: list[int], chosen: RecallOptions) -> list[list[list[int]]]:
    """Characters after the newest occurrences, by order and position."""
    found = []
    for k in chosen.orders:
        row = []
        for t in range(len(ids)):
            newest: list[int] = []
            for p in range(t - 1, max(-1, t - 1 - chosen.size), -1):
                before = [range(place - k, place) for place in (t, p)]
                if before[1].start < 0 or parts[p] != parts[t]:
                    continue
                # a context lies in one part, and begins no earlier than its line
                inside = all(
                    parts[place] == parts[end] and V not in ids[place + 1 : end + 1]
                    for span, end in zip(before, (t, p), strict=True)
                    for place in span
                )
                if inside and [ids[i] for i in before[0]] == [ids[i] for i in before[1]]:
                    newest.append(ids[p])
            row.append(newest[: chosen.occurrences])
        found.append(row)
    return found


def texts(*, lines: bool) -> list[np.ndarray]:
    draw = np.random.default_rng(3)
    return [draw.integers(0, V + lines, 60) for _ in range(12)]


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("size", [1000, 9])
@pytest.mark.parametrize("scope", ["split", "document", "line"])
def test_recalled_characters_are_those_found_by_hand(lines: bool, size: int, scope: str) -> None:
    chosen = options(size=size, scope=scope)
    for ids in texts(lines=lines):
        parts = number_parts(ids, chosen.scope, V, NEWLINE, start_symbol=lines)
        expected = by_hand(ids.tolist(), parts.tolist(), chosen)
        found = np.array([list(one) for one in recall(ids, parts, V, chosen)])  # (K, J, N)
        counts = count_recalled(ids, parts, V, chosen).numpy()
        for k, row in enumerate(expected):
            for t, newest in enumerate(row):
                assert [c for c in found[k, :, t].tolist() if c >= 0] == newest
                own = newest.count(int(ids[t]))
                assert counts[t, :, k].tolist() == [own, len(newest), len(set(newest))]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("split", [0] * 8),
        ("line", [0, 0, 1, 2, 2, 2, 3, 4]),
        ("document", [0, 0, 0, 1, 1, 1, 1, 2]),
    ],
)
def test_a_text_is_divided_after_its_lines_or_empty_lines(scope: str, expected: list[int]) -> None:
    ids = np.array([1, NEWLINE, NEWLINE, 1, 2, NEWLINE, NEWLINE, 2])
    assert number_parts(ids, scope, V, NEWLINE, start_symbol=False).tolist() == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("split", [0] * 9),
        ("document", [1, 1, 1, 1, 1, 2, 2, 2, 2]),
        ("line", [1, 1, 2, 3, 3, 4, 4, 4, 5]),
    ],
)
def test_each_line_of_a_list_and_each_document_is_a_document(
    scope: str, expected: list[int]
) -> None:
    """A document goes on after its empty lines; a line of a list has one newline, its last."""
    ids = np.array([V, NEWLINE, NEWLINE, 1, 2, V, 2, NEWLINE, 1])
    parts = number_parts(ids, scope, V, NEWLINE, start_symbol=True)  # type: ignore[arg-type]
    assert parts.tolist() == expected
    lines = np.array([V, 1, NEWLINE, V, 2, 1, NEWLINE])
    found = number_parts(lines, "document", V, NEWLINE, start_symbol=True)
    assert found.tolist() == [1, 1, 1, 2, 2, 2, 2]
    same = number_parts(lines, "line", V, NEWLINE, start_symbol=True)
    assert same.tolist() == found.tolist()


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("scope", ["split", "line"])
def test_recent_characters_are_counted(lines: bool, scope: str) -> None:
    chosen = options(scope=scope, recent=7)
    for ids in texts(lines=lines):
        parts = number_parts(ids, chosen.scope, V, NEWLINE, start_symbol=lines)
        counts = count_recalled(ids, parts, V, chosen)[:, :, 0].tolist()
        for t, character in enumerate(ids.tolist()):
            before = [ids[s] for s in range(t) if parts[s] == parts[t] and ids[s] < V][-7:]
            expected = [before.count(character), len(before), len(set(before))]
            assert counts[t] == (expected if character < V else [0, 0, 0])


def test_what_is_recalled_does_not_depend_on_the_future() -> None:
    chosen = options(recent=9)
    one, *others = texts(lines=False)
    for other in others:
        for now in (10, 30, 50):
            changed = np.concatenate([one[:now], other[now:]])
            counts = [
                count_recalled(ids, np.zeros(60, int), V, chosen)[:now] for ids in (one, changed)
            ]
            assert torch.equal(*counts)


def test_nothing_is_recalled_before_the_counted_text() -> None:
    counts = torch.arange(1, 13, dtype=torch.uint8).view(2, 3, 2)
    found = Recollection(counts, begin=5).look_up(torch.tensor([[4, 5, 6, 99]]))
    assert found[0, 0].sum() == 0
    assert torch.equal(found[0, 1:3], counts)
    assert torch.equal(found[0, 3], counts[1])  # padding


@pytest.mark.parametrize("orders", [[2, 1], [1, 1], [0], []])
def test_orders_rise(orders: list[int]) -> None:
    with pytest.raises(ValueError, match="orders"):
        options(orders)
