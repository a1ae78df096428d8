"""N-gram distributions of many positions, and contexts of growing texts, in torch, on any device.

Shapes: M positions, K orders, V vocabulary, R rows of a level, E entries in all of them; B texts,
P prefix characters.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from lyricgen.models.ngram.levels import Level
from lyricgen.models.ngram.model import NOTHING, Floats, NgramModel, Numbers

Array: TypeAlias = npt.NDArray[Any]

DENSE_BYTES = 2**26  # most bytes of the tables that hold whole distributions of short contexts


def _changes(levels: Sequence[Level], below: Floats) -> Iterator[Floats]:
    """Compute ln p_k - ln p_{k-1} - ln passed_k of the entries of each level, (E,).

    An entry of a level has an entry in the level below it.

    Args:
        levels: the levels from k = j + 1 up.
        below: (R, V) distributions of level j.
    """
    size, keys, probabilities = below.shape[1], None, below.ravel()
    for level in levels:
        row = level.entry_rows()
        sought = level.shorter[row] * size + level.symbols
        index = sought if keys is None else np.searchsorted(keys, sought)
        lower = level.passed[row] * probabilities[index]
        keys, probabilities = row * size + level.symbols, level.direct + lower
        yield np.log(probabilities / lower)


Change: TypeAlias = tuple[Tensor, Tensor, Tensor]  # of one order, see Logs


class Logs(NamedTuple):
    """Log-probabilities of the orders for M positions, up to a constant of each position.

    Level k is ln p_k = ln p_{k-1} + ln passed_k, except at its entries.

    Attributes:
        table: (rows, V) logarithms of whole distributions.
        table_rows: (M, L) row of each of the L lowest orders in the table.
        changes: for each further order, the number of its entries at each position, (M,), their
            indices among the M · V logarithms, and what they add there.
    """

    table: Tensor
    table_rows: Tensor
    changes: list[Change]


class Distributions:
    """Distributions of the levels of an n-gram model.

    The lowest levels are tables of whole distributions, as long as these are small. Each further
    level multiplies the distributions of the level below by `passed`, and adds `direct` to its
    entries. No two entries have the same index, so the result does not depend on their order. With
    `logarithms` the tables hold logarithms, and each entry adds its change, as `Logs` explains.

    Args:
        levels: levels 1 … K.
        vocabulary_size: V.
        device: where to put the tables, and where rows are looked up.
        dtype: type of the probabilities.
        logarithms: whether the tables hold logarithms, for `logs` and sums of logarithms.
        classes: (V,) class of each character, which then take the place of characters; or None.
    """

    @torch.inference_mode(mode=False)  # gradients of a network are computed through the tables, too
    def __init__(
        self,
        levels: Sequence[Level],
        vocabulary_size: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        logarithms: bool,
        classes: Numbers | None = None,
    ) -> None:
        lowest = np.full(vocabulary_size, 1 / vocabulary_size)
        if classes is not None:
            levels = [level.fold(classes) for level in levels]
            lowest = np.bincount(classes, lowest)
        self.device, self.dtype, self.vocabulary_size = device, dtype, len(lowest)
        self._logarithms = logarithms
        # before the rows of each level, one for unseen contexts
        passed = [np.append(1.0, level.passed) for level in levels]
        self._passed = torch.from_numpy(np.concatenate(passed)).to(device, dtype)
        first = 1 + np.cumsum([0, *map(len, passed[:-1])])
        self._first_passed = torch.from_numpy(first)[:, None].to(device)  # (K, 1)
        room = DENSE_BYTES // (dtype.itemsize * len(lowest))  # rows
        tables: list[Tensor] = []
        below = torch.from_numpy(lowest)[None]
        for level in levels:
            if tables and sum(map(len, tables)) + len(level.passed) > room:
                break
            below = below[torch.from_numpy(level.shorter)] * torch.from_numpy(level.passed)[:, None]
            below[level.entry_rows(), level.symbols] += torch.from_numpy(level.direct)
            tables.append(below)
        self._offsets = [0, *np.cumsum([len(one) for one in tables]).tolist()][:-1]
        table = torch.cat(tables)
        # (rows of these levels, V)
        self._table = (table.log_() if logarithms else table).to(device, dtype)
        high = levels[len(tables) :]
        numbers = _changes(high, tables[-1].numpy()) if logarithms else [one.direct for one in high]
        self._sparse = [
            (
                torch.from_numpy(level.first).to(device),
                torch.from_numpy(level.symbols).to(device, torch.int32),
                torch.from_numpy(number).to(device, dtype),
            )
            for level, number in zip(high, numbers, strict=True)
        ]
        self._arrays: list[Array] = []  # the same for NumPy, on a CPU
        if device.type == "cpu":
            tensors = [self._table, *(tensor for level in self._sparse for tensor in level)]
            self._arrays = [tensor.numpy() for tensor in tensors]

    def passed_shares(self, rows: Tensor) -> Tensor:
        """Find `passed` of each order, (K, M) from rows (K, M); 1 for an unseen context, row -1."""
        return self._passed.take(rows + self._first_passed)

    def logs(self, rows: Tensor) -> Logs:
        """Find the log-probabilities of each order; `mix` explains the rows."""
        return Logs(self._table, self._find_table_rows(rows), list(self._entries(rows)))

    def mix(self, weights: Tensor, rows: Tensor, passed: Tensor) -> Tensor:
        """Compute the sum of the orders' distributions, or of their logarithms, with weights.

        Args:
            weights: (K, M) weight of each order.
            rows: (K, M) int64; -1 for an unseen context, which takes the next shorter one's row.
            passed: (K, M) from `passed_shares`.

        Returns:
            Probabilities, (M, V); they sum to the sum of the weights. Or logarithms, (M, V), up to
            a constant of each position.
        """
        if self._logarithms:
            # ln p_k is ln p_{k-1} plus the changes of order k, up to a constant of the position
            passed = torch.ones_like(passed)
        # for one position, many small operations of torch take longer than those of NumPy
        if self._arrays and rows.shape[1] == 1 and not weights.requires_grad:
            one = (values.flatten().tolist() for values in (weights, rows, passed))
            return torch.from_numpy(self._mix_one(*one))[None]
        table_rows = self._find_table_rows(rows)
        # the weights of p_k in all orders from k up
        each, passes = weights.unbind(), passed.unbind()
        share, shares = each[-1], []
        for k in range(len(rows) - 1, table_rows.shape[1] - 1, -1):
            shares.append(share)
            share = torch.addcmul(each[k - 1], share, passes[k])
        low = torch.stack([*each[: table_rows.shape[1] - 1], share], dim=1)  # (M, L)
        mixed = F.embedding_bag(table_rows, self._table, mode="sum", per_sample_weights=low)
        for (count, index, number), share in zip(
            self._entries(rows), reversed(shares), strict=True
        ):
            spread = torch.repeat_interleave(share, count, output_size=len(index))
            mixed.view(-1).scatter_add_(0, index, number * spread)
        return mixed

    def _mix_one(self, weights: list[float], rows: list[int], passed: list[float]) -> Array:
        """Compute the same as `mix` for one position, of K weights, rows and shares; (V,)."""
        whole, low, last = len(self._offsets), list(weights), 0
        for k in range(len(rows) - 1, whole - 1, -1):
            low[k - 1] += low[k] * passed[k]
        known = zip(rows[:whole], self._offsets, strict=True)
        table_rows = [last := last if row < 0 else row + offset for row, offset in known]
        table, *levels = self._arrays
        mixed: Array = np.array(low[:whole], table.dtype).dot(table.take(table_rows, axis=0))
        for k in range(whole, len(rows)):
            if rows[k] >= 0:
                first, symbols, number = levels[3 * (k - whole) : 3 * (k - whole) + 3]
                some = slice(first[rows[k]], first[rows[k] + 1])
                mixed[symbols[some]] += low[k] * number[some]
        return mixed

    def _find_table_rows(self, rows: Tensor) -> Tensor:
        """Find the rows of low orders in the table, (M, L); unseen contexts take the shorter's."""
        found = [rows[0].clamp(min=0)]
        for offset, row in zip(self._offsets[1:], rows[1:], strict=False):
            found.append(torch.where(row < 0, found[-1], row + offset))
        return torch.stack(found, dim=1)

    def _entries(self, rows: Tensor) -> Iterator[Change]:
        """Find the entries of each high order, as `Change`; without logarithms, with `direct`."""
        begins, counts = [], []
        for (first, _, _), row in zip(self._sparse, rows[len(self._offsets) :], strict=True):
            known = row.clamp(min=0)
            begins.append(first[known])
            counts.append(torch.where(row < 0, 0, first[known + 1] - begins[-1]))
        if not counts:
            return
        totals = torch.stack(counts).sum(dim=1).tolist()  # one wait for the device
        positions = torch.arange(rows.shape[1], device=rows.device)
        for (_, symbols, number), begin, count, total in zip(
            self._sparse, begins, counts, totals, strict=True
        ):
            position = torch.repeat_interleave(positions, count, output_size=total)
            shift = begin - (count.cumsum(0) - count)
            entry = torch.arange(total, device=rows.device).add_(shift.index_select(0, position))
            index = position * self.vocabulary_size + symbols.index_select(0, entry)
            yield count, index, number.index_select(0, entry)


class GrowingContexts:
    """Contexts of texts that grow by one character at a time.

    The grams of all lengths stand in one table, the shorter ones first, so that one search finds
    the grams of all lengths. A gram is named by its index in the table; the empty gram by 0.

    Args:
        model: the n-gram model.
        prefixes: B tensors (P,) of at least one input id each, on the CPU.
        device: where to put the table.

    Attributes:
        rows: (K, B) int64 numbers of the contexts of the next characters, -1 for an unseen context;
            valid until the next character.
    """

    def __init__(self, model: NgramModel, prefixes: Sequence[Tensor], device: torch.device) -> None:
        self._symbols = model.grams.vocabulary_size + 1
        length = len(model.terms) - 1  # symbols of the longest context
        keys = model.grams.keys[:length]
        first = np.cumsum([0, 1, *map(len, keys)])[: length + 1]  # index of a length's first gram
        ends = np.iinfo(np.int64).min, np.iinfo(np.int64).max  # so that each search ends at a key
        placed = [key + index * self._symbols for key, index in zip(keys, first, strict=False)]
        table = np.concatenate([ends[:1], *placed, ends[1:]])
        self._keys = torch.from_numpy(table).to(device)
        self._first = torch.from_numpy(first)[:, None].to(device)  # (K, 1)
        longs = [prefix.long() for prefix in prefixes]
        padded = pad_sequence(longs, True, padding_value=NOTHING, padding_side="left")
        found = model.contexts(padded[:, -max(length, 1) :].numpy())  # K arrays (B, T)
        self._hold(torch.from_numpy(np.stack(found)[..., -1]).to(device))

    def append(self, characters: Tensor) -> None:
        """Append a character to each text, (B,) int64; contexts with the id V are unseen."""
        # NOTHING makes the key negative
        torch.add(characters, self._shorter, alpha=self._symbols, out=self._sought)
        torch.searchsorted(self._keys, self._sought, out=self._longer)
        unseen = self._keys.take(self._longer) != self._sought
        torch.sub(self._longer, self._first[1:], out=self._longer_rows).masked_fill_(unseen, -1)
        self._longer.masked_fill_(unseen, NOTHING)

    def select(self, texts: Tensor) -> None:
        """Keep only the texts with these numbers, in this order; a number may occur repeatedly."""
        self._hold(self.rows.index_select(1, texts))

    def _hold(self, rows: Tensor) -> None:
        """Take the numbers of contexts, and make buffers."""
        self.rows, self._longer_rows = rows, rows[1:]
        indices = torch.where(rows < 0, NOTHING, rows + self._first)  # (K, B)
        self._shorter, self._longer = indices[:-1], indices[1:]  # (K - 1, B)
        self._sought = torch.empty_like(self._shorter)


class Product(torch.autograd.Function):
    """Weighted sum of logarithms; the changes of n-grams get no gradient."""

    @staticmethod
    @override
    def forward(
        ctx: Any, total: Tensor, weights: Tensor, logits: Tensor, changes: list[Change]
    ) -> Tensor:
        """Add changes and logits with their weights, (M, changes + 1), to `total`, in place."""
        ctx.save_for_backward(weights, logits)
        ctx.changes = changes
        ctx.mark_dirty(total.addcmul_(logits, weights[:, -1:]))
        for (count, index, change), weight in zip(changes, weights.unbind(1), strict=False):
            spread = torch.repeat_interleave(weight, count, output_size=len(index))
            total.view(-1).scatter_add_(0, index, spread.mul_(change))
        return total

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        [gradient], (weights, logits), found = gradients, ctx.saved_tensors, []
        for count, index, change in ctx.changes:
            shares = gradient.flatten().index_select(0, index).mul_(change)
            # a sum in a fixed order on every device; without its checks, which wait for the device
            found.append(torch.segment_reduce(shares, "sum", lengths=count, unsafe=True))
        found.append(torch.linalg.vecdot(gradient, logits))
        return gradient, torch.stack(found, dim=1), gradient * weights[:, -1:], None


def multiply(logs: Logs, logits: Tensor, weights: Tensor) -> Tensor:
    """Multiply the distributions of all orders and of a network, to the powers of their weights.

    Args:
        logs: of the orders, without gradients.
        logits: (M, V) of the network.
        weights: (M, K + 1), that of the network last.

    Returns:
        Logits, (M, V).
    """
    low, (*each, own) = logs.table_rows.shape[1], weights.unbind(1)
    for k in range(len(each) - 1, low - 1, -1):
        each[k - 1] = each[k - 1] + each[k]  # the changes of an order belong to all from it up
    whole = F.embedding_bag(
        logs.table_rows, logs.table, mode="sum", per_sample_weights=torch.stack(each[:low], dim=1)
    )
    total: Tensor = Product.apply(  # type: ignore[no-untyped-call]
        whole, torch.stack([*each[low:], own], dim=1), logits, logs.changes
    )
    return total
