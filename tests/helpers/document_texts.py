"""Texts of documents that tests make themselves."""

import random

WORDS = ("moon", "river", "light", "song", "night", "rain", "wind", "stone", "home", "road")
SIGNS = "春夏秋冬山水风月花雪云雨江天日夜人心"


def songs(number: int, seed: int = 1) -> list[str]:
    """Write songs, each of two stanzas with an empty line between them."""
    draw = random.Random(seed)

    def stanza() -> str:
        return "\n".join(" ".join(draw.choices(WORDS, k=3)) for _ in range(2))

    return [f"{stanza()}\n\n{stanza()}" for _ in range(number)]


def stanzas(number: int, seed: int = 1) -> list[str]:
    """Write stanzas of two lines."""
    return [song.partition("\n\n")[0] for song in songs(number, seed)]


def poems(number: int, seed: int = 1) -> list[str]:
    """Write Chinese poems, each on one line with its title."""
    draw = random.Random(seed)

    def verse() -> str:
        return "".join(draw.choices(SIGNS, k=5))

    return [f"{verse()[:2]}:{verse()}，{verse()}。{verse()}，{verse()}。" for _ in range(number)]


def names(number: int, seed: int = 1) -> list[str]:
    """Write names of one word."""
    draw = random.Random(seed)
    return ["".join(draw.choices("aeioulmnrst", k=7)).title() for _ in range(number)]
