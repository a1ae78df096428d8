"""A corpus as the ids of its characters: all that splitting, batching and describing need.

N characters in the corpus, V in the vocabulary.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from lyricgen.data.checked_mapping import CheckedMapping
from lyricgen.data.corpus import Corpus
from lyricgen.data.options import Unit
from lyricgen.data.vocabulary import Vocabulary

_CHUNK = 1 << 22  # ids counted at a time: bincount takes eight bytes for each


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus ready to be cut into parts.

    Attributes:
        name: What to call it in messages.
        unit: ``text`` for one running text, ``line`` for a list of short ones.
        vocabulary: Its distinct characters.
        ids: (N,) its characters, of the vocabulary's type.
        counts: (V,) int64, how often each character occurs.
        digest: The SHA-256 sum of the ids and the characters, which tells this text from any other.
        mapping: Of the file in which the ids lie, where they are not in memory.
    """

    name: str
    unit: Unit
    vocabulary: Vocabulary
    ids: Tensor
    counts: Tensor
    digest: str
    mapping: CheckedMapping | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def opening(self) -> str:
        """How the text begins, without the white space that it may begin with."""
        for start in range(0, len(self), 1000):
            ids = self.ids[start : start + 1000]
            if self.mapping is not None:
                self.mapping.check(ids)
            text = self.vocabulary.decode(ids).lstrip()
            if text:
                return text
        return ""

    @property
    def lines(self) -> list[str]:
        r"""The lines of a list, repeats included, without their ``\n``."""
        return self.vocabulary.decode(self.ids).removesuffix("\n").split("\n")


def encode(corpus: Corpus) -> EncodedCorpus:
    """Encode a corpus that lies in memory."""
    vocabulary = Vocabulary.of(corpus.text)
    ids = vocabulary.encode(corpus.text)
    digest = hashlib.sha256(ids.numpy().data)
    digest.update(vocabulary.characters.encode())
    counts = count_ids(ids, len(vocabulary))
    return EncodedCorpus(corpus.name, corpus.unit, vocabulary, ids, counts, digest.hexdigest())


def count_ids(ids: Tensor, size: int) -> Tensor:
    """How often each of the ids 0 … size - 1 occurs, (size,) int64; an id beyond is left out."""
    counts = torch.zeros(size, dtype=torch.int64)
    for chunk in torch.split(ids, _CHUNK):
        counts += torch.bincount(chunk, minlength=size)[:size]
    return counts
