"""The code points of a text as numbers, without Python for each."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Characters at a time: whole, the code points of a text would take four times its room or more.
_CHUNK = 1 << 18
CODE_POINTS = 0x110000


def code_points(text: str) -> NDArray[np.uint32]:
    """The code points of a short text, (N,)."""
    # surrogatepass: a command line that is not UTF-8 gives lone surrogates, to be told as unknown.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def chunks(text: str) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """The code points of a text of any length in pieces, each with the place where it starts."""
    for start in range(0, len(text), _CHUNK):
        yield start, code_points(text[start : start + _CHUNK])


class Distinct:
    """The distinct characters of texts that come one after the other."""

    def __init__(self) -> None:
        self._present = np.zeros(CODE_POINTS, np.bool_)

    def add(self, text: str) -> None:
        """Take note of a text's characters."""
        for _, codes in chunks(text):
            self._present[codes] = True

    @property
    def characters(self) -> str:
        """Distinct characters so far, by rising code point."""
        codes = np.flatnonzero(self._present).astype("<u4")
        return codes.tobytes().decode("utf-32-le", "surrogatepass")


def distinct(text: str) -> str:
    """The distinct characters of a text, by rising code point."""
    found = Distinct()
    found.add(text)
    return found.characters
