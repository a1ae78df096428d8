"""The known names nearest to an unknown name."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

MOST = 3  # names that a message suggests
_LEAST = 0.6  # likeness, as in difflib
_NEAR = 0.1  # to the nearest one, of a name that is suggested with it
_SAME_LEAF, _SAME_WORD, _SAME_INITIALS = 2.0, 1.5, 1.4


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are most like a name, at most three, the nearest first.

    A name is found by its last part too, wherever it stands (lr: optimizer.lr; lyrics_gru:
    notebook/lyrics_gru), by a word of it (epochs: trainer.max_epochs), and by its initials.
    """
    ranked = sorted((-_likeness(name, each), len(each), each) for each in set(known) - {name})
    least = max(_LEAST, -ranked[0][0] - _NEAR) if ranked else _LEAST
    return [each for rank, _, each in ranked if -rank >= least][:MOST]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: a question with the nearest ones, or nothing."""
    names = nearest(name, known)
    *others, last = names or [""]
    listed = f"{', '.join(others)} or {last}" if others else last
    return f": did you mean {listed}?" if names else ""


def _likeness(name: str, known: str) -> float:
    """From 0 to 1; above 1 where a part of the known name is the same."""
    typed, full = _plain(name), _plain(known)
    typed_leaf, leaf = (re.split(r"[./=]", each)[-1] for each in (typed, full))
    words = [word for word in leaf.split("_") if word]
    likeness = max(_ratio(typed, full), _ratio(typed_leaf, leaf))
    if typed_leaf == leaf:
        return _SAME_LEAF + 0.1 * likeness
    if typed_leaf in words:
        return _SAME_WORD + 0.1 * likeness
    if typed == _initials(leaf) or leaf == _initials(typed):
        return _SAME_INITIALS + 0.1 * likeness
    return max([likeness, *(0.9 * _ratio(typed_leaf, word) for word in words)])


def _plain(name: str) -> str:
    return name.strip().lstrip("-+~").lower().replace("-", "_")


def _initials(name: str) -> str | None:
    """The first letters of the words, as in lr for learning_rate; None for a single word."""
    return "".join(word[:1] for word in name.split("_")) if "_" in name else None


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
