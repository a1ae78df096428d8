"""N-gram distributions of many positions at once, in torch, on any device.

Shapes: M positions, K orders, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lyricgen.models.ngram.model import NgramModel

DENSE_BYTES = 2**26  # most bytes of the tables that hold whole distributions of short contexts


class Distributions:
    """Distributions of an n-gram model that interpolates.

    Those of the shortest contexts are whole tables, as long as the tables are small. Each longer
    context multiplies the distribution of the shorter one by `passed`, and adds `direct` to its
    entries. No two entries of a position have the same place, so the result does not depend on
    their order.

    Args:
        model: the n-gram model.
        device: where to put the tables, and where contexts are looked up.
        dtype: type of the probabilities.
    """

    def __init__(self, model: NgramModel, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.vocabulary_size = size = model.grams.vocabulary_size
        self._passed = [self._move(passed[:-1]) for _, passed in model.terms]
        self._sparse: list[tuple[Tensor, Tensor, Tensor]] = []
        room = DENSE_BYTES // (dtype.itemsize * size)  # rows
        tables, table = list[Tensor](), torch.full((1, size), 1 / size, dtype=torch.float64)
        below = np.zeros(0, dtype=np.int64)  # keys of the grams one symbol shorter
        shorter = np.zeros(1, dtype=np.int64)  # of each context, the number without its oldest
        for keys, (direct, passed) in zip(model.grams.keys, model.terms, strict=False):
            context, symbols = np.divmod(keys, size + 1)
            predicted = symbols < size
            room -= len(shorter)
            if not self._sparse and (not tables or room >= 0):
                table = table[torch.from_numpy(shorter)]
                table *= torch.from_numpy(passed[:-1])[:, None]
                table[context[predicted], symbols[predicted]] += torch.from_numpy(
                    direct[:-1][predicted]
                )
                tables.append(table)
            else:
                sizes = np.bincount(context[predicted], minlength=len(shorter))
                first = self._move(np.append(0, np.cumsum(sizes)))
                symbol = self._move(symbols[predicted].astype(np.int32))
                self._sparse.append((first, symbol, self._move(direct[:-1][predicted])))
            longer = np.searchsorted(below, shorter[context] * (size + 1) + symbols)
            below, shorter = keys, longer if len(below) else np.zeros_like(keys)
        self._offsets = [0, *np.cumsum([len(one) for one in tables]).tolist()][:-1]
        self._table = torch.cat(tables).to(device, dtype)  # (rows of these levels, V)

    def _move(self, values: np.ndarray[Any, Any]) -> Tensor:
        moved = torch.from_numpy(values)
        return moved.to(self.device, self.dtype if moved.is_floating_point() else moved.dtype)

    def passed_shares(self, rows: Tensor) -> Tensor:
        """Find `passed` of each order, (K, M) from rows (K, M); 1 for an unseen context, row -1."""
        shares = [
            torch.where(row < 0, 1.0, one[row.clamp(min=0)])
            for one, row in zip(self._passed, rows, strict=True)
        ]
        return torch.stack(shares)

    def mix(self, weights: Tensor, rows: Tensor, passed: Tensor) -> Tensor:
        """Compute the sum of the orders' distributions with weights.

        Args:
            weights: (K, M) weight of each order.
            rows: (K, M) int64 numbers of the contexts; -1 for an unseen context.
            passed: (K, M) from `passed_shares`.

        Returns:
            Probabilities, (M, V); they sum to the sum of the weights.
        """
        places = self._places(rows)
        # the weights of p_k in all orders from k up
        share, shares = weights[-1], []
        for k in range(len(rows) - 1, len(places) - 1, -1):
            shares.append(share)
            share = weights[k - 1] + share * passed[k]
        mixed = self._table[places[-1]] * share[:, None]
        for weight, place in zip(weights[: len(places) - 1], places, strict=False):
            mixed.addcmul_(self._table[place], weight[:, None])
        for (position, symbols, direct), share in zip(
            self._entries(rows), reversed(shares), strict=True
        ):
            place = position * self.vocabulary_size + symbols
            mixed.view(-1).index_add_(0, place, direct * share[position])
        return mixed

    def _places(self, rows: Tensor) -> list[Tensor]:
        """Find the row of each low order in the table, (M,); unseen contexts take the shorter's."""
        places = [rows[0].clamp(min=0)]
        for offset, row in zip(self._offsets[1:], rows[1:], strict=False):
            places.append(torch.where(row < 0, places[-1], row + offset))
        return places

    def _entries(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Find the position, the symbol and `direct` of all entries of each high order."""
        begins, counts = [], []
        for (first, _, _), row in zip(self._sparse, rows[len(self._offsets) :], strict=True):
            known = row.clamp(min=0)
            begins.append(first[known])
            counts.append(torch.where(row < 0, 0, first[known + 1] - begins[-1]))
        if not counts:
            return
        totals = torch.stack(counts).sum(dim=1).tolist()  # one wait for the device
        positions = torch.arange(rows.shape[1], device=rows.device)
        for (_, symbols, direct), begin, count, total in zip(
            self._sparse, begins, counts, totals, strict=True
        ):
            position = torch.repeat_interleave(positions, count, output_size=total)
            shift = begin - (count.cumsum(0) - count)
            entry = torch.arange(total, device=rows.device) + shift[position]
            yield position, symbols[entry], direct[entry]
