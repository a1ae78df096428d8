"""Figures of dynamic evaluation, where networks learn a held-out text while they read it.

`learner.Learner` explains the steps of learning. Their size is the best one on the beginning of the
validation split, for a network with a memory on top as for a network without it.

Shapes: N symbols of a split, with the start symbols of lines.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from lyricgen.errors import UserError
from lyricgen.evaluation.intervals import KindWithMemory, RowWithMemory, Series
from lyricgen.evaluation.learner import STEPS, Learner
from lyricgen.evaluation.scores import CheckpointWithText, check_left_to_right
from lyricgen.evaluation.with_memory import row_with_memory
from lyricgen.models.memory import Memory
from lyricgen.models.memory_model import is_memory, without_memory
from lyricgen.models.scoring import charge_characters

RATES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)  # sizes of steps, rising
READ = {"lines": "line", "documents": "document"}  # by layout, what a network learns at a time
TUNED_ON = 20_000  # most symbols of the validation split on which the size is chosen


def score_dynamically(
    fixed: Sequence[CheckpointWithText],
    remembering: Sequence[CheckpointWithText],
    splits: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, list[RowWithMemory]]:
    """Score held-out splits while the networks of checkpoints learn them.

    Args:
        fixed: checkpoints of one text, without memories.
        remembering: checkpoints of `separate_with_memory`. Their memories are fitted to the
            networks that learn, also memories that were trained.
        splits: names of the splits; the training split is left out.
        resamples: as in `intervals.row`.
        seed: as in `intervals.row`.

    Raises:
        UserError: no split is held out, or the text has no validation split; a checkpoint has no
            network that predicts the next character; or a network diverges.
    """
    found: dict[str, list[RowWithMemory]] = {split: [] for split in splits if split != "train"}
    for each in fixed:
        _check_dynamic(each, list(found))
    for each in fixed:
        learner = Learner(each.model.network, each.splits["train"])
        read = cache(partial(_read, learner, each))
        unit = READ.get(each.model.layout, f"segment of {STEPS} characters")
        networks = [(one, one.model.network) for one in remembering]
        on_top = [one for one, whole in networks if without_memory(whole) is each.model.network]
        for one in (each, *on_top):
            rate, nats = _score_dynamically(one, read, list(found))
            note = (
                f"the network learns each {unit} after scoring it, in a step of size {rate:g}, the "
                f"best one on val (on at most {TUNED_ON:,} characters)"
            ) + "; the memory is fitted on val" * (one is not each)
            kind: KindWithMemory = "dynamic" if one is each else "dynamic_memory"
            for name, of_split in found.items():
                of_text = charge_characters(nats[name], one.splits[name], one.model.vocabulary)
                series = Series(f"{one.label}, dynamic", "checkpoint", of_text)
                numbers = {"resamples": resamples, "seed": seed}
                of_split.append(row_with_memory(one, name, series, kind, note, **numbers))
    return found


def _check_dynamic(checkpoint: CheckpointWithText, held_out: Sequence[str]) -> None:
    check_left_to_right("--dynamic", checkpoint)
    if not checkpoint.model.network.trains_in_steps:
        raise UserError(
            f"--dynamic lets a network learn, and {checkpoint.label} is none: leave it out"
        )
    if not held_out:
        raise UserError("--dynamic needs a held-out split: choose val or test, or leave it out")
    if "val" not in checkpoint.splits:
        raise UserError(
            "--dynamic chooses its step on the validation split, which the text does not have: "
            "leave it out"
        )


def _read(
    learner: Learner,
    checkpoint: CheckpointWithText,
    name: str,
    rate: float,
    most: int | None = None,
) -> Tensor:
    what = f"learning {name} with {checkpoint.label}, step {rate:g}"
    return learner.read(checkpoint.splits[name], rate, what, most)


def _score_dynamically(
    checkpoint: CheckpointWithText, read: Callable[..., Tensor], splits: Sequence[str]
) -> tuple[float, dict[str, Tensor]]:
    """Choose the rate on val, and score the splits, with the memory if the checkpoint has one.

    `read` computes the nats of a split without the memory at a rate, by `_read`.

    Returns:
        The rate, and the nats by split, (N,).
    """
    network, names = checkpoint.model.network, {"val": None, **dict.fromkeys(splits)}
    recalled = {name: network.recollect(checkpoint.splits[name]) for name in names}
    counts = {name: one.counts for name, one in recalled.items() if one is not None}

    def remember(nats: dict[str, Tensor]) -> dict[str, Tensor]:
        if not is_memory(network):
            return nats
        memory, scored = Memory(network.architecture.recall, None), ~nats["val"].isnan()
        memory.fit(nats["val"][scored], counts["val"][scored])
        with torch.no_grad():
            return {name: memory.nats(one, counts[name]) for name, one in nats.items()}

    losses: dict[float, float] = {}
    for rate in RATES:
        nats = read("val", rate, TUNED_ON)
        diverges = bool(nats.isinf().any())
        losses[rate] = math.inf if diverges else float(remember({"val": nats})["val"].nanmean())
        if losses[rate] > min(losses.values()):
            break  # a larger step is worse still
    best = min(losses, key=losses.__getitem__)
    found = {name: read(name, best) for name in names}
    for name, nats in found.items():
        if bool(nats.isinf().any()):
            raise UserError(
                f"--dynamic: {checkpoint.label} diverges while it learns {name}: leave it out"
            )
    return best, remember(found)
