"""Short list of a network: the most frequent characters, and one class for the rest.

With many characters, few outputs save most of the time of a step. N-grams divide the rest. Sources:
Schwenk, Computer Speech and Language 21(3), 2007; for the class, Park et al., Interspeech 2010.

Shapes: V vocabulary, C classes; R rows of a level, E entries in all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lyricgen.models.ngram.levels import Level
from lyricgen.models.ngram.model import Floats, Ids, NgramModel


class ShortList(nn.Module):
    """Classes of characters: one for each listed character, and the last for the rest.

    Args:
        rows: ids of the C - 1 listed characters, and of one more, whose output serves for the rest.
        vocabulary_size: V.
        ngrams: function that finds the n-gram model, whose 1-grams divide the rest.

    Attributes:
        rows: (C,) the ids, as a tensor.
        classes: (V,) class of each character; `numbers` in NumPy.
        last: the class of the rest.
        shares: (V,) logarithm of each character's share in its class by the 1-grams; None until it
            is needed, or if the n-gram model has changed.
    """

    rows: Tensor
    classes: Tensor
    shares: Tensor | None
    _order: Tensor

    def __init__(
        self, rows: Sequence[int], vocabulary_size: int, ngrams: Callable[[], NgramModel]
    ) -> None:
        super().__init__()
        self._ngrams, self.shares = ngrams, None
        self.last = len(rows) - 1
        self.numbers = classes = np.full(vocabulary_size, self.last)
        classes[list(rows)] = np.arange(len(rows))
        order = np.argsort(classes, kind="stable")
        for name, values in (("rows", np.array(rows)), ("classes", classes), ("_order", order)):
            # not made by torch, which makes no memory while a file is checked
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def fold(self, values: Tensor) -> Tensor:
        """Add up the values of the characters of each class, (…, V) -> (…, C)."""
        listed, rest = values.index_select(-1, self._order).tensor_split([self.last], dim=-1)
        return torch.cat([listed, rest.sum(-1, keepdim=True)], dim=-1)

    def spread(self, values: Tensor) -> Tensor:
        """Give each character the value of its class, (…, C) -> (…, V)."""
        return values.index_select(-1, self.classes)

    def take(self, logits: Tensor) -> Tensor:
        """Take logits of classes, (…, C), from logits of a network, (…, V)."""
        return (logits - self._log_shares(logits)).index_select(-1, self.rows)

    def divide(self, logits: Tensor) -> Tensor:
        """Compute logits of characters, (…, V), from logits of classes, by the 1-grams."""
        return self.spread(logits) + self._log_shares(logits)

    def _log_shares(self, like: Tensor) -> Tensor:
        if self.shares is None:
            model = self._ngrams()
            unigrams = NgramModel(model.grams, model.terms[:1], model.smoothing)
            shares = unigrams.distributions([np.zeros(1, dtype=np.int64)])[0]
            in_class = np.bincount(self.numbers, shares)[self.numbers]
            self.shares = torch.from_numpy(shares / in_class).log()
        self.shares = self.shares.to(like.device)
        return self.shares.to(like.dtype)

    def is_rest(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Whether each symbol belongs to the rest; V, the start of a line, does not."""
        found: npt.NDArray[np.bool_] = np.append(self.numbers, 0)[ids] == self.last
        return found

    def rest_shares(self, level: Level) -> Floats:
        """Add up `direct` of the rest in each row; (R + 1,), the last for unseen contexts."""
        direct = level.direct * self.is_rest(level.symbols)
        found: Any = np.bincount(level.entry_rows(), direct, len(level.passed) + 1)
        return np.asarray(found, dtype=np.float64)
