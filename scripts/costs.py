"""What do n-grams and a memory cost? python scripts/costs.py RUN [--rounds 5].

RUN is a run of model=hybrid whose text is at hand. The whole model is compared with its network
alone, and the whole model with a memory with that without one. The times are measured in turn in
one process, and the ratios are those of the medians over the rounds.
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
from lyricgen.models.hybrid_building import build_hybrid
from lyricgen.models.memory_model import MemoryModel, add_memory
from lyricgen.models.model import Model
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

    def step(of: Model) -> None:
        of.loss(batch, None, 0.0)[0].backward()

    batches = f"{options.data.batch_size} x {options.data.num_steps}"
    models = (plain.member("network"), plain, model)
    works: dict[str, list[Callable[[], object]]] = {
        f"a training step of {batches} characters": [
            partial(step, each) for each in (trained.network, trained, memory.train())
        ],
        "scoring the test split": [
            partial(split_nats, each, splits["test"], "scoring") for each in models
        ],
    }
    for texts, length in ((1, 500), (256, 100)):
        works[f"writing {texts} x {length} characters"] = [
            partial(generate_texts, each, [""], count=texts, length=length) for each in models
        ]
    for name, of_models in works.items():
        network, whole, with_memory = measure(*of_models, rounds=arguments.rounds)
        print(f"{name}: the whole model {whole / network:.2f} times the time of its network, with "
              f"memory {with_memory / whole:.2f} times that of the whole")  # fmt: skip


if __name__ == "__main__":
    main()
