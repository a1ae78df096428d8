"""Tables of n-grams for the training of a hybrid model.

Shapes: B batch, T time steps, M = B·T, V vocabulary, K orders, N counted characters.
"""

import numpy as np
import torch
from torch import Tensor

from lyricgen.data.batch import Batch
from lyricgen.models.ngram.distributions import Distributions, Level, Logs, join, whole_levels
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.left_out import leave_out
from lyricgen.models.ngram.model import Floats, Ids, NgramCounts, Numbers


class TrainingTables:
    """N-gram probabilities for the characters of a training split.

    The last N characters were counted: their probabilities leave their block out. The characters
    before them are new to the n-grams, so their whole counts are used. They are looked up in each
    step, which waits for the device, and with no context before the window.

    Args:
        ngram: the n-gram model of the split.
        counts: its counted grams.
        ids: (N,) the counted characters.
        blocks: (N,) the block of each.
        begin: position of the first counted character in the split.
        with_distributions: whether `logs` will be called.
    """

    def __init__(
        self,
        ngram: NgramLanguageModel,
        counts: NgramCounts,
        ids: Ids,
        blocks: Numbers,
        begin: int,
        *,
        with_distributions: bool,
    ) -> None:
        self._ngram, self._begin, order = ngram, begin, ngram.architecture.order
        terms = np.empty((2, len(ids), order), dtype=np.float32)  # p_k of the character, and passed
        rows = np.empty((order, len(ids) if with_distributions else 0), dtype=np.int32)
        self._levels: list[Level] = []
        probability: Floats = np.full(len(ids), 1 / ngram.vocabulary_size)
        for k, one in enumerate(leave_out(counts, order, ids, blocks)):
            passed = np.where(one.rows < 0, 1.0, one.level.passed[one.rows])
            probability = one.direct + passed * probability
            terms[0, :, k], terms[1, :, k] = probability, passed
            if with_distributions:
                rows[k] = one.rows
                self._levels.append(one.level)
        self._whole_rows = np.array([[len(level.passed)] for level in self._levels])  # (K, 1)
        if begin and with_distributions:
            self._levels = join(self._levels, whole_levels(ngram.model))
        self._terms, self._rows = torch.from_numpy(terms), torch.from_numpy(rows)
        self._distributions: Distributions | None = None

    def terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Look up a batch's targets.

        Returns:
            For each target, its probability by each order and the share that the order passes on,
            (M, K) float32 each; arbitrary for padding.
        """
        positions, places = self._places(batch)
        self._terms = self._terms.to(positions.device)
        found = self._terms[:, places]  # (2, M, K)
        if self._begin:
            contexts, _ = self._ngram.contexts(batch.inputs, None)
            targets = batch.targets.clamp(min=0).cpu().numpy()
            by_order = list(self._ngram.model.by_order(contexts, targets))  # K of 2, (B, T)
            new = torch.from_numpy(np.array(by_order, dtype=np.float32)).flatten(2)
            found = torch.where(
                positions[:, None] >= 0, found, new.to(found.device).permute(1, 2, 0)
            )
        return found[0], found[1]

    def logs(self, batch: Batch, dtype: torch.dtype) -> tuple[Logs, Tensor]:
        """Compute the distributions of a batch's targets.

        Returns:
            Log-probabilities of each order, and the share that each order passes on,
            (M, K); arbitrary for padding.
        """
        positions, places = self._places(batch)
        made = self._distributions
        if made is None or (made.device, made.dtype) != (positions.device, dtype):
            size = self._ngram.vocabulary_size
            made = Distributions(self._levels, size, positions.device, dtype, logarithms=True)
            self._distributions, self._rows = made, self._rows.to(positions.device)
        rows = self._rows[:, places].long()  # (K, M)
        if self._begin:
            contexts, _ = self._ngram.contexts(batch.inputs, None)
            numbers = np.stack(contexts).reshape(len(contexts), -1)
            new = torch.from_numpy(np.where(numbers < 0, -1, numbers + self._whole_rows))
            rows = torch.where(positions >= 0, rows, new.to(rows.device))
        return made.logs(rows), made.passed_shares(rows).T

    def _places(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Find a batch's targets among the counted characters, (M,).

        Returns:
            Their positions, negative for characters that were not counted, and the positions within
            the tables.
        """
        steps = torch.arange(1, batch.targets.shape[1] + 1, device=batch.starts.device)
        positions = (batch.starts[:, None] + steps).flatten() - self._begin
        return positions, positions.clamp(0, self._terms.shape[1] - 1)  # also of padding
