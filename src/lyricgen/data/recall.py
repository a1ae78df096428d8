"""Earlier occurrences of the contexts of a text, which a model with a memory recalls.

The context of a character is the k characters before it. A reader who has met the same context
earlier in the text recalls the characters that followed it there.

Shapes: N characters of a text, K lengths of contexts, J occurrences; B rows, T time steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lyricgen.data.options import RecallOptions, Scope

MISSING = -1  # marks a missing occurrence

Ids: TypeAlias = npt.NDArray[np.integer[Any]]
Numbers: TypeAlias = npt.NDArray[np.integer[Any]]
Places: TypeAlias = npt.NDArray[np.int32]


def number_parts(
    ids: Ids, scope: Scope, vocabulary_size: int, newline: int, *, start_symbol: bool
) -> Numbers:
    """Number the parts of a text that a reader remembers by themselves, (N,).

    Args:
        ids: (N,) the text; the id V starts a line, a document, or another text read by itself.
        scope: whether a part is the whole text, a document or a line. In running text a document
            ends with an empty line. In a list of lines each line is a document. Both end before the
            id V.
        vocabulary_size: V.
        newline: id of the newline, -1 if the vocabulary has none.
        start_symbol: whether the text is a list of lines or documents, which begin with the id V.
    """
    starts = ids == vocabulary_size
    if scope == "split":
        return np.zeros(len(ids), dtype=np.int64)
    if start_symbol and scope == "document":
        return np.cumsum(starts)
    ends = ids == newline
    if scope == "document":
        ends[1:] &= ends[:-1]
        ends[:1] = False
    starts[1:] |= ends[:-1]
    return np.cumsum(starts)


def recall(
    ids: Ids, parts: Numbers, vocabulary_size: int, options: RecallOptions
) -> Iterator[Iterator[Numbers]]:
    """Recall the characters after the newest earlier occurrences of each context.

    Args:
        ids: (N,) the text; the id V starts a line, which no context crosses.
        parts: (N,) number of the part of each character; only the same part is remembered.
        vocabulary_size: V.
        options: lengths of the contexts, and how much is recalled.

    Yields:
        For each length of contexts J times the characters, (N,), the newest first; MISSING where
        there is none.
    """
    oldest = np.maximum(np.arange(len(ids)) - options.size, 0)

    def follow(earlier: Places) -> Iterator[Numbers]:
        found = earlier
        for _ in range(options.occurrences):
            found = np.where(found >= oldest, found, MISSING)
            yield np.where(found < 0, MISSING, ids[found].astype(np.int32))
            found = np.where(found < 0, MISSING, earlier[found])

    yield from map(follow, find_earlier(ids, parts, options.orders, vocabulary_size))


def count_recalled(
    ids: Ids, parts: Numbers, vocabulary_size: int, options: RecallOptions
) -> Tensor:
    """Count the recalled characters; `recall` explains the arguments.

    Returns:
        (N, 3, K) uint8: how often the character itself is recalled, how many characters are
        recalled, and how many distinct ones. With `options.recent` the first of the K contexts is
        the empty one.
    """
    first = int(options.recent > 0)
    counts = np.zeros((len(ids), 3, first + len(options.orders)), dtype=np.uint8)
    if first:
        counts[:, :, 0] = count_recent(ids, parts, vocabulary_size, options.newest).T
    for k, recalled in enumerate(recall(ids, parts, vocabulary_size, options), start=first):
        newer: list[Numbers] = []
        for characters in recalled:
            known = characters >= 0
            new = known.copy()
            for one in newer:
                new &= one != characters
            newer.append(characters)
            for place, marks in enumerate((characters == ids, known, new)):
                counts[:, place, k] += marks
    return torch.from_numpy(counts)


def count_recent(ids: Ids, parts: Numbers, vocabulary_size: int, window: int) -> Numbers:
    """Count the newest characters before each character of a text in its part, (3, N).

    `count_recalled` explains the counts and the arguments. `window` is the most characters that are
    counted; starts of lines are none.
    """
    places = np.flatnonzero(ids < vocabulary_size)
    places = places[np.argsort(parts[places], kind="stable")]  # part by part
    part, here = parts[places], np.arange(len(places))
    begins = np.append(True, part[1:] != part[:-1]) if len(places) else np.zeros(0, np.bool_)
    first = np.maximum.accumulate(np.where(begins, here, 0))
    ends = np.append(here[begins][1:], len(here))[np.cumsum(begins) - 1]  # of each one's part
    # the characters of each kind in each part, in their order
    kind = np.unique(part * vocabulary_size + ids[places], return_inverse=True)[1]
    order = np.argsort(kind, kind="stable")
    keys = kind[order] * (len(here) + window + 1) + order
    own = np.empty(len(here), dtype=np.int64)
    own[order] = here - np.searchsorted(keys, keys - window)
    following = np.full(len(here), len(here))  # the next of the same kind
    same = kind[order[1:]] == kind[order[:-1]]
    following[order[:-1][same]] = order[1:][same]
    # a character is the newest of its kind from the next place up to this one
    last = np.minimum(np.minimum(following, here + window), ends - 1)
    changes = np.zeros(len(here) + 2, dtype=np.int64)
    np.add.at(changes, here + 1, 1)
    np.add.at(changes, last + 1, -1)
    found = np.zeros((3, len(ids)), dtype=np.int64)
    found[:, places] = own, np.minimum(here - first, window), changes.cumsum()[: len(here)]
    return found


@dataclass(frozen=True)
class Recollection:
    """Counts of the characters that a reader of a split recalls.

    Attributes:
        counts: (n, 3, K) from `count_recalled`, of the last characters of the split.
        begin: position in the split of the first of them; nothing is recalled before it.
    """

    counts: Tensor
    begin: int = 0

    def to(self, device: torch.device) -> "Recollection":
        """Copy the counts to a device."""
        return Recollection(self.counts.to(device), self.begin)

    def look_up(self, positions: Tensor) -> Tensor:
        """Look up the counts of characters, (B, T, 3, K), by their positions, (B, T)."""
        places = (positions - self.begin).clamp(0, len(self.counts) - 1)  # padding may lie outside
        found = self.counts.index_select(0, places.flatten())
        found = found.view(*places.shape, *self.counts.shape[1:])
        return found if not self.begin else found * (positions >= self.begin)[..., None, None]


def find_earlier(
    ids: Ids, parts: Numbers, orders: tuple[int, ...], vocabulary_size: int
) -> Iterator[Places]:
    """Find, for each character and order, the newest earlier one after the same context.

    A context that occurs once is not looked at with more characters, so most long ones cost
    nothing. `recall` explains the other arguments.

    Yields:
        For each order the positions, (N,), or MISSING.
    """
    length, width = len(ids), vocabulary_size + 1
    begins = ids == vocabulary_size
    begins[1:] |= parts[1:] != parts[:-1]
    begins[:1] = True
    first = np.maximum.accumulate(np.where(begins, np.arange(length), 0))  # of the line or part
    places = np.arange(length)  # characters whose context may occur again
    contexts = np.unique(parts, return_inverse=True)[1].astype(np.int64)
    for k in range(1, orders[-1] + 1):
        long = places - first[places] >= k
        places, contexts = places[long], contexts[long]
        keys = contexts * width + ids[places - k]
        order = np.argsort(keys, kind="stable")
        same = np.diff(keys[order]) == 0
        if k in orders:
            earlier = np.full(length, MISSING, dtype=np.int32)
            earlier[places[order[1:]][same]] = places[order[:-1]][same]
            yield earlier
        again, number = np.zeros(len(order), dtype=np.bool_), np.zeros(len(order), dtype=np.int64)
        again[1:] = same
        again[:-1] |= same
        number[1:] = np.cumsum(~same)
        kept = order[again]
        ascending = np.argsort(kept)
        places, contexts = places[kept[ascending]], number[again][ascending]
