"""Short list of a network: the most frequent characters, and one class for the rest.

With many characters, few outputs save most of the time of a step. N-grams divide the rest. Sources:
Schwenk, Computer Speech and Language 21(3), 2007; for the class, Park et al., Interspeech 2010.

Shapes: V vocabulary, C classes; R rows of a level, E entries in all of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lyricgen.models.ngram.levels import Level
from lyricgen.models.ngram.model import Floats, Ids


class ShortList(nn.Module):
    """Classes of characters: those of the list have one each, and the last holds the rest.

    Args:
        rows: ids of the C - 1 characters of the list, and of the character of the rest whose output
            serves for the rest.
        vocabulary_size: V.

    Attributes:
        rows: (C,) the same.
        classes: (V,) class of each character; `numbers` in NumPy.
        last: the class of the rest.
    """

    rows: Tensor
    classes: Tensor
    _order: Tensor

    def __init__(self, rows: Sequence[int], vocabulary_size: int) -> None:
        super().__init__()
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

    def is_rest(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Whether each symbol belongs to the rest; V, the start of a line, does not."""
        found: npt.NDArray[np.bool_] = np.append(self.numbers, 0)[ids] == self.last
        return found

    def rest_shares(self, level: Level) -> Floats:
        """Add up `direct` of the rest in each row; (R + 1,), the last for unseen contexts."""
        direct = level.direct * self.is_rest(level.symbols)
        found: Any = np.bincount(level.entry_rows(), direct, len(level.passed) + 1)
        return np.asarray(found, dtype=np.float64)
