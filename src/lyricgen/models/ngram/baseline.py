"""N-gram models of the training split, scored on the characters that a network is scored on.

N characters in a split.
"""

import logging
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lyricgen.data.splits import Split
from lyricgen.models.ngram.counts import NgramCounts
from lyricgen.models.ngram.model import nats_by_order
from lyricgen.models.options import Interpolated

log = logging.getLogger(__name__)


class NgramBaseline:
    """Counts the training split once, for models of every order and smoothing.

    Args:
        splits: "train", which is counted, and those to score.
        vocabulary_size: V.
        max_order: the longest n-grams.
        max_chars: count only the last so many characters of the training split, those next to a
            text's held-out splits, and of a list of lines whole lines; None for all. The log says
            where it is not all.

    Attributes:
        characters: counted.
        sampled: whether the training split has more.
    """

    def __init__(
        self,
        splits: Mapping[str, Split],
        vocabulary_size: int,
        max_order: int,
        max_chars: int | None = None,
    ) -> None:
        train = splits["train"]
        ids = train.sound_ids if max_chars is None else train.last(max_chars)
        self.characters = int((ids < vocabulary_size).sum())
        self.sampled = len(ids) < len(train.ids)
        if self.sampled:
            log.info(
                "n-grams are counted on the last %s characters of the training split "
                "(callbacks.baseline.max_chars=null: on all)",
                f"{self.characters:,}",
            )
        self._held_out = {split: splits[split] for split in splits if split != "train"}
        self._counts = NgramCounts(ids.numpy(), vocabulary_size, max_order)
        texts = [split.sound_ids.numpy() for split in self._held_out.values()]
        self._texts = [(each, self._counts.number(each, max_order)) for each in texts]

    def nats_by_order(self, smoothing: Interpolated) -> Iterator[dict[str, Tensor]]:
        """Score the held-out splits with the models of every order from 1 up.

        Yields:
            For each order, (N,) float64 of each split; nan where a network predicts nothing either.
        """
        for nats in nats_by_order(self._counts, self._texts, smoothing):
            yield {
                name: _as_scored(torch.from_numpy(each), self._held_out[name])
                for name, each in zip(self._held_out, nats, strict=True)
            }


def _as_scored(nats: Tensor, split: Split) -> Tensor:
    if split.line_starts is None:
        nats[0] = torch.nan  # a stream's first character: no network reads anything before it
    return nats
