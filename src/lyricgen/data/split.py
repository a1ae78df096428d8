"""Split of a corpus into training, validation and test text."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lyricgen.errors import UserError

log = logging.getLogger(__name__)

Range = tuple[int, int]
"""Positions from the first number up to, and without, the second."""


def split_text(
    length: int, val_fraction: float, test_fraction: float, max_held_out: int | None = None
) -> tuple[Range, Range, Range]:
    """Split a running text into three contiguous ranges: training, validation, test, in order.

    Contiguous because choruses repeat: of lines drawn at random, two in three would stand in the
    training part too.

    Args:
        length: Characters in the text.
        val_fraction: Share of the characters to validate on. Not zero: at least two characters,
            one to read and one to predict.
        test_fraction: Share of the characters to test on, likewise.
        max_held_out: The most characters in each of these two parts; the rest is trained on.

    Returns:
        Three ranges that cover 0…length without gap or overlap; one of fraction zero is empty.

    Raises:
        UserError: If the fractions are not possible, or leave fewer than two characters to train
            on.
    """
    val, test = _held_out_sizes(length, val_fraction, test_fraction, least=2, unit="characters")
    if max_held_out is not None and max(val, test) > max_held_out:
        _tell(max_held_out, max(val, test), "validate or test")
        val, test = min(val, max_held_out), min(test, max_held_out)
    train = length - val - test
    return (0, train), (train, train + val), (train + val, length)


def split_lines(
    lines: Sequence[str],
    val_fraction: float,
    test_fraction: float,
    seed: int,
    max_held_out: int | None = None,
) -> tuple[list[int], list[int], list[int]]:
    """Split a list of lines into three parts that share no line: training, validation, test.

    Distinct lines are drawn, so that a repeated one goes wholly into one part, where it keeps its
    repeats.

    Args:
        lines: The lines of the corpus, repeats included.
        val_fraction: Share of the distinct lines to validate on. Not zero: at least one.
        test_fraction: Share of the distinct lines to test on, likewise.
        seed: Which draw; the same seed and lines give the same parts on any machine.
        max_held_out: The most characters in each of these two parts, counting a repeated line
            once, but one line at least; the rest is trained on.

    Returns:
        Three lists of indices into ``lines``, each in rising order; together every index once.

    Raises:
        UserError: If the fractions are not possible, or leave no line to train on.
    """
    number = {line: index for index, line in enumerate(dict.fromkeys(lines))}
    val, test = _held_out_sizes(
        len(number), val_fraction, test_fraction, least=1, unit="distinct lines"
    )
    drawn = np.random.default_rng(seed).permutation(len(number))
    if max_held_out is not None:
        lengths = np.fromiter((len(line) + 1 for line in number), np.intp, len(number))[drawn]
        val = _at_most(lengths[:val], max_held_out, "validate")
        test = _at_most(lengths[val : val + test], max_held_out, "test")
    part_of = np.zeros(len(number), np.uint8)
    part_of[drawn[:val]] = 1
    part_of[drawn[val : val + test]] = 2
    parts = part_of[np.fromiter((number[line] for line in lines), np.intp, len(lines))]
    train_lines, val_lines, test_lines = (
        np.flatnonzero(parts == part).tolist() for part in (0, 1, 2)
    )
    return train_lines, val_lines, test_lines


def _held_out_sizes(
    total: int,
    val_fraction: float,
    test_fraction: float,
    *,
    least: int,
    unit: str,
) -> tuple[int, int]:
    settings = f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction}"
    # Put so that a fraction that is not a number fails as well.
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise UserError(f"{settings}: neither may be negative, and their sum must be below 1")
    val, test = (
        max(least, round(total * fraction)) if fraction else 0
        for fraction in (val_fraction, test_fraction)
    )
    if total - val - test < least:
        raise UserError(
            f"{settings} leave {max(0, total - val - test)} of {total} {unit} to train on, "
            f"where at least {least} must be left; lower them, or give a longer text"
        )
    return val, test


def _at_most(lengths: NDArray[np.intp], characters: int, what: str) -> int:
    """Number of leading lines that fit into a number of characters; at least one."""
    total = int(lengths.sum())
    if total <= characters:
        return len(lengths)
    _tell(characters, total, what)
    return max(1, int(np.searchsorted(np.cumsum(lengths), characters, side="right")))


def _tell(most: int, found: int, what: str) -> None:
    log.info(
        "data.max_held_out=%d: of %d characters to %s on, what is more goes to the training part",
        *(most, found, what),
    )
