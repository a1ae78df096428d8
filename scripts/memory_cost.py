"""How much does a memory cost? python scripts/memory_cost.py RUN [--rounds 5].

RUN is a run of model=hybrid whose text is at hand. The times are ratios with and without a memory,
side by side in one process, medians over the rounds.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch

from lyricgen.data.batch import BatchLoader
from lyricgen.data.samplers import StreamSampler
from lyricgen.evaluation.scores import open_checkpoints
from lyricgen.generation.remembering import remember
from lyricgen.generation.texts import generate_texts
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.hybrid_building import build_hybrid
from lyricgen.models.memory_model import MemoryModel, add_memory
from lyricgen.models.scoring import split_nats
from lyricgen.training.options import parse


def measure(*works: Callable[[], object], rounds: int) -> list[float]:
    """Return the median seconds of each work over rounds in turn, after one round of warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds + 1):
        for work, of_work in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            of_work.append(time.perf_counter() - start)
    return [median(of_work[1:]) for of_work in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    [opened] = open_checkpoints([arguments.run])
    plain, splits = opened.model, opened.splits
    model = remember(plain, {}, splits)
    network = model.network
    assert isinstance(network, MemoryModel)
    start = time.perf_counter()
    recollection = network.recollect(splits["train"])
    seconds = time.perf_counter() - start
    count = len(splits["train"].ids)
    print(f"counts: {recollection.counts.nbytes / count:.0f} bytes a character, counted in "
          f"{1e6 * seconds / count:.1f} s a million characters")  # fmt: skip

    options = parse(plain.options)
    trained = build_hybrid(
        options.model,
        network.hybrid.network.architecture,
        splits,
        plain.vocabulary,  # type: ignore[arg-type]
    ).train()
    memory = add_memory(trained, network.architecture.recall, plain.vocabulary, reads_hidden=True)
    sampler = StreamSampler(count, options.data.batch_size, options.data.num_steps)
    loader = BatchLoader(
        splits["train"].ids, sampler, torch.device("cpu"), recollection=memory.recollect_training()
    )
    batch = next(iter(loader))

    def step(of: HybridModel | MemoryModel) -> None:
        of.loss(batch, None, 0.0)[0].backward()

    names = {
        f"a training step of {options.data.batch_size} x {options.data.num_steps} characters": (
            partial(step, trained), partial(step, memory.train()),
        ),
        "scoring the test split": tuple(
            lambda each=each: split_nats(each, splits["test"], "scoring") for each in (plain, model)
        ),
    }  # fmt: skip
    for texts, length in ((1, 500), (256, 100)):
        names[f"writing {texts} texts of {length} characters"] = tuple(
            lambda each=each, texts=texts, length=length: generate_texts(
                each, [""], count=texts, length=length
            )
            for each in (plain, model)
        )
    for name, works in names.items():
        without, with_memory = measure(*works, rounds=arguments.rounds)
        print(f"{name}: {with_memory / without:.2f} times the time without")


if __name__ == "__main__":
    main()
