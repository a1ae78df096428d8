"""Memorisation: how much of a model's texts, and of held-out texts, is in the training split.

`SharedNgrams` compares hashes of n-grams (Karp and Rabin 1987). The n-gram that starts at i has the
hash Σ_k r[x_{i+k}]·B^k mod 2^64; r holds a random number for each symbol. One running sum gives the
hashes for every n. Exact counts would need much more time and memory on long texts.

Shapes: T characters of the training split, N of the compared texts, W n-grams, U distinct n-grams,
S symbols.
"""

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lyricgen.console import progress
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.generation.texts import generate_texts
from lyricgen.models.ngram.model import Ids
from lyricgen.models.trained_model import TrainedModel

NGRAMS = range(4, 13)
DISTINCT = (1, 2, 3)
REPEATED = (4, 8)
HELD_OUT = ("val", "test")
# Names of the figures that training logs about the samples of `callbacks.samples`.
LOGGED_LINES = "samples/copied_fraction"
LOGGED_NGRAMS = {n: f"samples/copied_ngrams_{n}" for n in (4, 8, 12)}
LOGGED_LONGEST = "samples/longest_copied"
LOGGED_IN_HELD_OUT = "samples/in_held_out"
LOGGED_DISTINCT = "samples/distinct_2"

READINGS = 16  # approximate number of readings of the training split
DRAWN_TEXTS, TEXT_LENGTH = 64, 250  # number of drawn texts, and of characters in each
DRAWN_NAMES, NAME_LENGTH = 1000, 100  # number of drawn names, and least limit of their length

BASE = 0x9E3779B97F4A7C13  # B
INVERSE = pow(BASE, -1, 2**64)
CHUNK = 1 << 18  # number of characters of the searched text that are hashed at a time
SHORT = 8  # length that the search for the longest run tries first

Flags = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """Overlap of texts with the training split."""

    texts: int  # number of texts
    characters: int  # number of characters in all texts
    # by n, share of the n-grams that are in the training split; without n longer than all texts
    ngrams: dict[int, float]
    longest: int  # length of the longest run that is in the training split


@dataclass(frozen=True)
class Names:
    """Comparison of complete generated names with the names of the corpus."""

    whole: int  # number of complete names
    in_train: float  # share of names that are in the training split
    in_held_out: float | None  # share in the validation and test splits; None without these splits
    distinct: float  # distinct names over all names
    distinct_ngrams: dict[int, float]  # by n, distinct n-grams over all n-grams


@dataclass(frozen=True)
class Memorisation:
    """Memorisation figures of a model.

    The model was not trained on the held-out splits. So the overlap of these splits shows how much
    any text of this kind has in common with the training split.
    """

    generated: Overlap  # overlap of texts drawn from the model
    held_out: Overlap | None  # overlap of the validation and test splits; None without these splits
    # by n, share of a drawn text's n-grams that stand earlier in the same text
    repeated: dict[int, float]
    names: Names | None  # None for running text, or if no name is complete
    temperature: float  # temperature of the samples
    seed: int


def measure(
    model: TrainedModel,
    splits: dict[str, Split],
    *,
    count: int | None = None,
    length: int | None = None,
    temperature: float,
    seed: int,
) -> Memorisation:
    """Draw texts without a prefix, and compare them with the splits of the corpus.

    Args:
        model: a model that continues texts.
        splits: "train", and "val" and "test" if the corpus has them.
        count: number of texts; None for 64 texts or 1,000 names.
        length: largest number of characters of a text. None means 250 in running text; for names it
            means the model's default length, but at least 100.
        temperature: sampling temperature.
        seed: seed of the samples.

    Raises:
        UserError: the model fills gaps, its training has diverged, a number is out of range, or
            the ids of a split are damaged and cannot be restored.
    """
    if model.fills_gaps:
        raise UserError("this model fills gaps: most of what it writes was given, not remembered")
    names_only = model.layout == "lines"
    if count is None:
        count = DRAWN_NAMES if names_only else DRAWN_TEXTS
    if length is None:
        length = max(NAME_LENGTH, model.default_length) if names_only else TEXT_LENGTH
    drawn = generate_texts(
        model, [""], count=count, length=length, temperature=temperature, seed=seed
    )
    generated = [model.vocabulary.encode(text).numpy() for text in drawn]
    held_out = [text for name in HELD_OUT if name in splits for text in list_texts(splits[name])]
    whole = [text for text in drawn if len(text) < length]
    train = splits["train"].sound_ids.numpy()
    with progress("looking for copied runs", READINGS * len(train)) as moved:
        shared = SharedNgrams(train, len(model.vocabulary) + 1, moved)
        return Memorisation(
            generated=measure_overlap(shared, generated),
            held_out=measure_overlap(shared, held_out) if held_out else None,
            repeated=repeated_ngrams(generated),
            names=names(whole, splits, model.vocabulary) if names_only else None,
            temperature=temperature,
            seed=seed,
        )


def measure_overlap(
    shared: "SharedNgrams", texts: Sequence[Ids], lengths: Sequence[int] = NGRAMS
) -> Overlap:
    """Measure the overlap of texts, (N_i,) ids each, with the training split in `shared`.

    `lengths` lists the n of the n-grams. No n-gram crosses the end of a text.
    """
    found = shared.find(texts, lengths)
    return Overlap(
        texts=len(texts),
        characters=sum(map(len, texts)),
        ngrams={n: float(there.mean()) for n, there in found.items() if len(there)},
        longest=shared.longest(texts),
    )


def repeated_ngrams(texts: Sequence[Ids]) -> dict[int, float]:
    """Compute the share of n-grams that stand earlier in the same text, by n in `REPEATED`.

    An n that is longer than all texts is left out.
    """
    found = {}
    for n in REPEATED:
        windows = [np.lib.stride_tricks.sliding_window_view(t, n) for t in texts if len(t) >= n]
        if windows:
            distinct = sum(len(np.unique(each, axis=0)) for each in windows)
            found[n] = 1 - distinct / sum(map(len, windows))
    return found


def distinct_ngrams(texts: Sequence[Ids], n: int) -> float | None:
    """Compute the share of distinct n-grams (Li et al. 2016); None if there are no n-grams."""
    windows = [np.lib.stride_tricks.sliding_window_view(t, n) for t in texts if len(t) >= n]
    if not windows:
        return None
    every = np.concatenate(windows)
    return len(np.unique(every, axis=0)) / len(every)


def names(generated: list[str], splits: dict[str, Split], vocabulary: Vocabulary) -> Names | None:
    """Compare complete generated names with the names of the corpus; None without any."""
    if not generated:
        return None
    held_out = held_out_names(splits, vocabulary)
    ids = [vocabulary.encode(name).numpy() for name in generated]
    return Names(
        whole=len(generated),
        in_train=share_in(generated, collect_lines(splits["train"], vocabulary)),
        in_held_out=share_in(generated, held_out) if held_out else None,
        distinct=len(set(generated)) / len(generated),
        distinct_ngrams={n: share for n in DISTINCT if (share := distinct_ngrams(ids, n))},
    )


def list_texts(split: Split) -> list[Ids]:
    """Divide a split into texts to compare: lines without newlines, or the whole running text."""
    ids = split.sound_ids.numpy()
    if split.line_starts is None:
        return [ids]
    lines: list[Ids] = np.split(ids, split.line_starts.numpy()[1:])
    return [line[1:-1] for line in lines]  # between the start symbol and the newline


def collect_lines(split: Split, vocabulary: Vocabulary) -> frozenset[str]:
    """Return the distinct lines of a split, without the empty line."""
    return frozenset(line for line in split.text(vocabulary).split("\n") if line)


def held_out_names(splits: dict[str, Split], vocabulary: Vocabulary) -> frozenset[str]:
    """Return the distinct lines of the validation and test splits, without the empty line."""
    held_out = (collect_lines(splits[name], vocabulary) for name in HELD_OUT if name in splits)
    return frozenset[str]().union(*held_out)


def share_in(lines: Collection[str], known: Set[str]) -> float:
    """Compute the share of `lines` that are in `known`; `lines` must not be empty."""
    return sum(line in known for line in lines) / len(lines)


class SharedNgrams:
    """Search for n-grams of other texts in one text, which is read again for each search.

    Two different n-grams of up to 12 symbols have equal hashes with a probability of at most 2^-47.

    Args:
        text: (T,) ids of the searched text, from 0 to S - 1.
        symbols: S, the number of different ids.
        report: function that is called after each piece of the searched text with the number of
            characters that all searches have read so far.
    """

    def __init__(
        self, text: Ids, symbols: int, report: Callable[[int], object] = lambda _: None
    ) -> None:
        self.text = text
        self.report = report
        self._read = 0
        self._numbers: Hashes = np.random.default_rng(0).integers(
            2**64 - 1, size=symbols, dtype=np.uint64, endpoint=True
        )

    def find(self, texts: Sequence[Ids], lengths: Sequence[int]) -> dict[int, Flags]:
        """Find the n-grams of some texts that occur in the searched text.

        Args:
            texts: (N_i,) ids each; no n-gram crosses the end of a text.
            lengths: the n of the n-grams; the searched text is read once for all of them.

        Returns:
            For each n, (W,) whether each n-gram occurs in the searched text, in the order of
            `texts`.
        """
        searches = {n: _NgramSearch(self._hashes(texts, n)) for n in lengths}
        for hashes in self._chunks(max(lengths, default=1)):
            for n, search in searches.items():
                search.look_through(hashes.of(n))
        return {n: search.flags for n, search in searches.items()}

    def longest(self, texts: Sequence[Ids]) -> int:
        """Find the length of the longest n-gram that a text shares with the searched text, or 0."""
        low, high = 0, max((len(text) for text in texts), default=0)  # the range of the answer
        while low < high:
            n = min((low + high + 1) // 2, max(SHORT, 2 * low))
            search = _NgramSearch(self._hashes(texts, n))
            there = any(search.look_through(hashes.of(n)) for hashes in self._chunks(n))
            low, high = (n, high) if there else (low, n - 1)
        return low

    def _hashes(self, texts: Sequence[Ids], n: int) -> Hashes:
        """Compute the hash of each n-gram of the texts, (W,)."""
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        ids = np.concatenate([np.empty(0, np.int64), *texts]).astype(np.int64)  # (N,)
        left = np.repeat(sizes.cumsum(), sizes) - np.arange(len(ids))  # symbols left in the text
        hashes = _RunningHashes(ids, self._numbers).of(n)
        return hashes[left[: len(hashes)] >= n]

    def _chunks(self, most: int) -> Iterator["_RunningHashes"]:
        """Yield hashes of pieces of the searched text; the pieces overlap by `most` - 1 symbols."""
        for start in range(0, len(self.text), CHUNK):
            yield _RunningHashes(self.text[start : start + CHUNK + most - 1], self._numbers)
            self._read += len(self.text[start : start + CHUNK])
            self.report(self._read)


class _RunningHashes:
    """Hashes of all n-grams of a piece of text, for any n."""

    def __init__(self, ids: Ids, numbers: Hashes) -> None:
        terms = numbers[ids] * _powers(BASE, len(ids))
        self._sums = np.concatenate([np.zeros(1, np.uint64), terms.cumsum(dtype=np.uint64)])
        self._inverse = _powers(INVERSE, len(ids))

    def of(self, n: int) -> Hashes:
        """Compute the hashes of the n-grams, (number of ids - n + 1,) or (0,)."""
        differences = self._sums[n:] - self._sums[:-n]
        hashes: Hashes = differences * self._inverse[: len(differences)]
        return hashes


class _NgramSearch:
    """Search for n-grams, given by their hashes, (W,)."""

    def __init__(self, hashes: Hashes) -> None:
        self._distinct, self._which = np.unique(hashes, return_inverse=True)  # (U,), (W,)
        self._seen = np.zeros(len(self._distinct), np.bool_)
        # one look-up by the first bits rules out most n-grams of a text
        bits = 4 + len(self._distinct).bit_length()
        self._shift = np.uint64(64 - bits)
        self._first_bits = np.zeros(1 << bits, np.bool_)
        self._first_bits[self._distinct >> self._shift] = True

    def look_through(self, hashes: Hashes) -> bool:
        """Mark the n-grams whose hashes are among `hashes`; return whether one was marked."""
        if not len(self._distinct):
            return False
        maybe = hashes[self._first_bits[hashes >> self._shift]]
        index = np.searchsorted(self._distinct, maybe).clip(max=len(self._distinct) - 1)
        there = index[self._distinct[index] == maybe]
        self._seen[there] = True
        return len(there) > 0

    @property
    def flags(self) -> Flags:
        """Whether each n-gram was found, (W,)."""
        flags: Flags = self._seen[self._which]
        return flags


def _powers(base: int, count: int) -> Hashes:
    """Compute the first `count` powers of a base mod 2^64, beginning with base^0."""
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return powers.cumprod(dtype=np.uint64)
