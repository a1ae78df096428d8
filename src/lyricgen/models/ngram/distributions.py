"""N-gram distributions of many positions at once, in torch, on any device.

Shapes: M positions, K orders, V vocabulary, R rows of a level, E entries in all of them.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lyricgen.models.ngram.left_out import Level

DENSE_BYTES = 2**26  # most bytes of the tables that hold whole distributions of short contexts


class Distributions:
    """Distributions of the levels of an n-gram model.

    The lowest levels are tables of whole distributions, as long as these are small. Each further
    level multiplies the distributions of the level below by `passed`, and adds `direct` to its
    entries. No two entries have the same place, so the result does not depend on their order.

    Args:
        levels: levels 1 … K.
        vocabulary_size: V.
        device: where to put the tables, and where rows are looked up.
        dtype: type of the probabilities.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        vocabulary_size: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.vocabulary_size = vocabulary_size
        self.passed = [torch.from_numpy(one.passed).to(device, dtype) for one in levels]
        tables: list[Tensor] = []
        room = DENSE_BYTES // (2 * dtype.itemsize * vocabulary_size)  # rows, also of logarithms
        for level in levels:
            if tables and sum(map(len, tables)) + len(level.passed) > room:
                break
            below = torch.full((1, vocabulary_size), 1 / vocabulary_size, dtype=torch.float64)
            below = tables[-1] if tables else below
            table = below[torch.from_numpy(level.shorter)]
            table *= torch.from_numpy(level.passed)[:, None]
            sizes = torch.from_numpy(level.first).diff()
            rows = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
            table[rows, torch.from_numpy(level.symbols)] += torch.from_numpy(level.direct)
            tables.append(table)
        self._offsets = [0, *torch.tensor([len(one) for one in tables]).cumsum(0).tolist()][:-1]
        self._table = torch.cat(tables).to(device, dtype)  # (rows of these levels, V)
        self._logs = self._table.log()
        self._sparse = [
            (
                torch.from_numpy(level.first).to(device),
                torch.from_numpy(level.symbols).to(device, torch.int32),
                torch.from_numpy(level.direct).to(device, dtype),
            )
            for level in levels[len(tables) :]
        ]

    def passed_shares(self, rows: Tensor) -> Tensor:
        """Find `passed` of each order, (K, M) from rows (K, M); 1 for an unseen context, row -1."""
        shares = [
            torch.where(row < 0, 1.0, one[row.clamp(min=0)])
            for one, row in zip(self.passed, rows, strict=True)
        ]
        return torch.stack(shares)

    def logs(self, rows: Tensor, passed: Tensor) -> list[Tensor]:
        """Compute the log-probabilities of each order.

        Args:
            rows: (K, M) int64; -1 for an unseen context, which takes the next shorter one's row.
            passed: (K, M) from `passed_shares`.

        Returns:
            (M, V) for each order from 1 up.
        """
        places = self._places(rows)
        found = [self._logs[place] for place in places]
        if not self._sparse:
            return found
        probabilities = self._table[places[-1]]
        for k, entries in enumerate(self._entries(rows), start=len(places)):
            probabilities = probabilities * passed[k][:, None]
            self._add(probabilities, *entries)
            found.append(probabilities.log())
        return found

    def mix(self, weights: Tensor, rows: Tensor, passed: Tensor) -> Tensor:
        """Compute the sum of the orders' distributions with weights.

        Args:
            weights: (K, M) weight of each order.
            rows: (K, M), as in `logs`.
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
            self._add(mixed, position, symbols, direct * share[position])
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

    def _add(
        self, probabilities: Tensor, position: Tensor, symbols: Tensor, direct: Tensor
    ) -> None:
        """Add `direct` of entries to probabilities, (M, V), in place."""
        place = position * self.vocabulary_size + symbols
        probabilities.view(-1).index_add_(0, place, direct)
