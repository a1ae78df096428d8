"""Tables of n-grams for the training of a hybrid model.

Shapes: B batch, T time steps, M = B·T, V vocabulary, K orders, N counted characters.
"""

import numpy as np
import torch
from torch import Tensor

from lyricgen.data.batch import Batch
from lyricgen.models.ngram.distributions import Distributions, Logs
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.left_out import leave_out
from lyricgen.models.ngram.levels import Level, join, whole_levels
from lyricgen.models.ngram.model import Floats, Ids, NgramCounts, Numbers
from lyricgen.models.ngram.short_list import ShortList


class TrainingTables:
    """N-gram probabilities for the characters of a training split.

    The last N characters were counted, and their probabilities leave their block out. The
    characters before them are new to the n-grams, so their probabilities come from all counts. Each
    step looks these up, which waits for the device, with contexts that begin in the window.

    Args:
        ngram: the n-gram model of the split.
        counts: its counted grams.
        ids: (N,) the counted characters.
        blocks: (N,) the block of each.
        begin: position of the first counted character in the split.
        short_list: classes of the characters, or None.
        with_distributions: whether `logs` will be called.

    Attributes:
        ids: as given.
        blocks: as given.
        begin: as given.
    """

    def __init__(
        self,
        ngram: NgramLanguageModel,
        counts: NgramCounts,
        ids: Ids,
        blocks: Numbers,
        begin: int,
        short_list: ShortList | None,
        *,
        with_distributions: bool,
    ) -> None:
        self._ngram, self._short_list = ngram, short_list
        self.ids, self.blocks, self.begin = ids, blocks, begin
        order, size = ngram.architecture.order, ngram.vocabulary_size
        # passed, p_k of the character and, with a short list, p_k of its class
        terms = np.empty((2 if short_list is None else 3, len(ids), order), dtype=np.float32)
        rows = np.empty((order, len(ids) if with_distributions else 0), dtype=np.int32)
        self._levels: list[Level] = []
        probability: Floats = np.full(len(ids), 1 / size)
        rest: Floats = probability * (0 if short_list is None else size - short_list.last)
        for k, one in enumerate(leave_out(counts, order, ids, blocks)):
            passed = np.where(one.rows < 0, 1.0, one.level.passed[one.rows])
            probability = one.direct + passed * probability
            terms[0, :, k], terms[1, :, k] = passed, probability
            if short_list is not None:
                rest = short_list.rest_shares(one.level)[one.rows] + passed * rest
                terms[2, :, k] = np.where(short_list.is_rest(ids), rest, probability)
            if with_distributions:
                rows[k] = one.rows
                self._levels.append(one.level)
        self._whole_rows = np.array([[len(level.passed)] for level in self._levels])  # (K, 1)
        whole = whole_levels(ngram.model) if begin else []
        self._rest_shares = [short_list.rest_shares(each) for each in whole if short_list]
        if begin and with_distributions:
            self._levels = join(self._levels, whole)
        self._terms, self._rows = torch.from_numpy(terms), torch.from_numpy(rows)
        self._distributions: Distributions | None = None

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Look up a batch's targets.

        Returns:
            For each target, the share that each order passes on, its probability by each order, and
            that of its class, (M, K) float32 each; arbitrary for padding. Without a short list, the
            class is the character.
        """
        positions, indices = self._find_indices(batch)
        self._terms = self._terms.to(positions.device)
        found = self._terms[:, indices]  # (2 or 3, M, K)
        if self.begin:
            new = torch.from_numpy(self._new_terms(batch)).to(found)
            found = torch.where(positions[:, None] >= 0, found, new)
        return found[0], found[1], found[-1]

    def _new_terms(self, batch: Batch) -> Floats:
        """Compute the terms of a batch's targets by the whole counts, (2 or 3, M, K)."""
        contexts, _ = self._ngram.contexts(batch.inputs, None)
        targets = batch.targets.clamp(min=0).cpu().numpy()
        by_order = list(self._ngram.model.by_order(contexts, targets))  # K of 2, (B, T)
        terms = [[passed for _, passed in by_order], [probability for probability, _ in by_order]]
        if self._short_list is not None:
            rest = np.full(targets.shape, 1 - self._short_list.last / self._ngram.vocabulary_size)
            are_rest, classes = self._short_list.is_rest(targets), list[Floats]()
            for shares, rows, (probability, passed) in zip(
                self._rest_shares, contexts, by_order, strict=True
            ):
                rest = shares[rows] + passed * rest
                classes.append(np.where(are_rest, rest, probability))
            terms.append(classes)
        return np.moveaxis(np.array(terms).reshape(len(terms), len(by_order), -1), 1, 2)

    def logs(self, batch: Batch, dtype: torch.dtype) -> Logs:
        """Find the distributions of the classes of a batch's targets; arbitrary for padding."""
        positions, indices = self._find_indices(batch)
        made = self._distributions
        if made is None or (made.device, made.dtype) != (positions.device, dtype):
            size = self._ngram.vocabulary_size
            made = Distributions(
                *(self._levels, size, positions.device, dtype),
                logarithms=True,
                classes=None if self._short_list is None else self._short_list.numbers,
            )
            self._distributions, self._rows = made, self._rows.to(positions.device)
        rows = self._rows[:, indices].long()  # (K, M)
        if self.begin:
            contexts, _ = self._ngram.contexts(batch.inputs, None)
            numbers = np.stack(contexts).reshape(len(contexts), -1)
            new = torch.from_numpy(np.where(numbers < 0, -1, numbers + self._whole_rows))
            rows = torch.where(positions >= 0, rows, new.to(rows.device))
        return made.logs(rows)

    def _find_indices(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Find a batch's targets among the counted characters, (M,).

        Returns:
            Their positions, negative for characters that were not counted, and the positions within
            the tables.
        """
        steps = torch.arange(1, batch.targets.shape[1] + 1, device=batch.starts.device)
        positions = (batch.starts[:, None] + steps).flatten() - self.begin
        return positions, positions.clamp(0, self._terms.shape[1] - 1)  # also of padding
