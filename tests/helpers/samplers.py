"""A sampler of every kind."""

import torch

from lyricgen.data.batch import Sampler
from lyricgen.data.samplers import ConsecutiveSampler, LineSampler, RandomSampler, StreamSampler

KINDS = (
    "random",
    "offset",
    "consecutive",
    "remainder",
    "lines",
    "lines in order",
    "stream",
    "all random",
    "all offset",
)


def sampler_of(kind: str, length: int, batch_size: int, num_steps: int, seed: int = 0) -> Sampler:
    """Sampler of a kind over N characters; lines have 2 … T + 1 characters in turn."""
    if kind in ("random", "offset", "all random", "all offset"):
        offset, drop_last = kind.endswith("offset"), not kind.startswith("all")
        return RandomSampler(
            length, batch_size, num_steps, seed=seed, random_offset=offset, drop_last=drop_last
        )
    if kind in ("consecutive", "remainder"):
        return ConsecutiveSampler(length, batch_size, num_steps, drop_last=kind == "consecutive")
    if kind == "stream":
        return StreamSampler(length, batch_size, num_steps)
    stands, counts, start = [], [], 0
    while start + 2 <= length:
        characters = min(2 + len(stands) % num_steps, length - start)
        stands.append(start)
        counts.append(characters - 1)
        start += characters
    return LineSampler(
        torch.tensor(stands),
        torch.tensor(counts),
        batch_size,
        seed=seed,
        shuffle="each_epoch" if kind == "lines" else "none",
    )
