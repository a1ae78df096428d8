"""Overlap of texts drawn in training with the splits of the corpus."""

import logging
from collections.abc import Sequence

from lyricgen.data.splits import Split
from lyricgen.evaluation.memorisation import (
    LOGGED_DISTINCT,
    LOGGED_IN_HELD_OUT,
    LOGGED_LINES,
    LOGGED_LONGEST,
    LOGGED_NGRAMS,
    SharedNgrams,
    copied,
    distinct_ngrams,
    held_out_names,
    share_in,
)
from lyricgen.models.trained_model import TrainedModel

log = logging.getLogger(__name__)

MOST_COMPARED = 10_000_000  # characters of a training split that texts are compared with


class Copying:
    """Compares generated texts with the training split.

    `samples/copied_fraction` is the share of whole lines that stand there verbatim,
    `samples/copied_ngrams_N` the share of N characters in a row that stand there anywhere, and
    `samples/longest_copied` the length of the longest run; prefixes are left out of these two. Of
    names there are also the share that stands in the validation and test splits,
    `samples/in_held_out`, and distinct-2, `samples/distinct_2`. A figure of nothing is left out.

    Args:
        model: writes the texts.
        splits: of the corpus.
        length: new characters a text may have.
    """

    def __init__(self, model: TrainedModel, splits: dict[str, Split], length: int) -> None:
        self.model = model
        self.length = length
        self._lines: frozenset[str] | None = None
        self._shared: SharedNgrams | None = None
        self._held_out: frozenset[str] = frozenset()
        vocabulary, ids = model.vocabulary, splits["train"].ids
        if len(ids) > MOST_COMPARED:
            log.info(
                "%s and the like: left out, the training split is too long for it", LOGGED_LINES
            )
        else:
            self._lines = frozenset(self._split(splits["train"].text(vocabulary)))
            self._shared = SharedNgrams(splits["train"].sound_ids.numpy(), len(vocabulary) + 1)
        if model.layout == "lines":
            self._held_out = held_out_names(splits, vocabulary)

    def figures(self, drawn: Sequence[tuple[str, str]]) -> dict[str, float]:
        """Compare texts, each given as its prefix and the whole of it."""
        figures = {}
        lines = [line for prefix, text in drawn for line in self._whole_lines(prefix, text)]
        if self._lines is not None and lines:
            figures[LOGGED_LINES] = share_in(lines, self._lines)
        vocabulary = self.model.vocabulary
        texts = [vocabulary.encode(text[len(prefix) :]).numpy() for prefix, text in drawn]
        if self._shared is not None and any(map(len, texts)):
            common = copied(self._shared, texts, list(LOGGED_NGRAMS))
            figures |= {LOGGED_NGRAMS[n]: share for n, share in common.ngrams.items()}
            figures[LOGGED_LONGEST] = float(common.longest)
        if lines and self._held_out:
            figures[LOGGED_IN_HELD_OUT] = share_in(lines, self._held_out)
        if self.model.layout == "lines" and (distinct := distinct_ngrams(texts, 2)) is not None:
            figures[LOGGED_DISTINCT] = distinct
        return figures

    def _whole_lines(self, prefix: str, text: str) -> list[str]:
        if self.model.layout == "lines":
            whole = len(text) - len(prefix) < self.length
            return [text] if whole and text else []
        # the text was cut off at its length, so its last line need not be whole
        return self._split(text[: text.rfind(self._line_end) + 1])

    def _split(self, text: str) -> list[str]:
        return [line for line in text.split(self._line_end) if line]

    @property
    def _line_end(self) -> str:
        """Character that ends a line: the newline, or the space if the corpus has no newline."""
        return "\n" if "\n" in self.model.vocabulary.characters else " "
