"""Scores of checkpoints with a memory.

They have tables of their own, because they learn from the text that they are scored on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lyricgen.evaluation.intervals import KindWithMemory, RowWithMemory, Series, SplitText, row
from lyricgen.evaluation.scores import CheckpointWithText
from lyricgen.generation.remembering import check_own_memory, remember
from lyricgen.models.memory_model import crosses_lines, is_memory, without_memory
from lyricgen.models.scoring import split_nats


def separate_with_memory(
    checkpoints: Sequence[CheckpointWithText], memory: Mapping[str, Any] | None
) -> tuple[list[CheckpointWithText], list[CheckpointWithText]]:
    """Separate models with fixed weights from models with a memory.

    A checkpoint that was trained with a memory is among both: without its memory, too.

    Args:
        checkpoints: checkpoints of one text.
        memory: options by which the other checkpoints get a memory, too; None: they get none.

    Raises:
        UserError: a checkpoint cannot get a memory.
    """
    fixed, remembering = [], []
    for each in checkpoints:
        check_own_memory(each.model, memory)
        if is_memory(each.model.network):
            plain = replace(each.model, network=without_memory(each.model.network))
            label = each.label.replace(" + memory", " without its memory", 1)
            fixed.append(replace(each, model=plain, label=label))
            remembering.append(each)
            continue
        fixed.append(each)
        if memory is not None:
            model = remember(each.model, memory, each.splits)
            remembering.append(replace(each, model=model, label=f"{each.label} with memory"))
    return fixed, remembering


def score_with_memory(
    checkpoints: Sequence[CheckpointWithText],
    splits: Sequence[str],
    further: Sequence[Mapping[str, Sequence[RowWithMemory]]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, list[RowWithMemory]]:
    """Score checkpoints with a memory on splits.

    Args:
        checkpoints: checkpoints of one text, all with a memory.
        splits: names of the splits.
        further: rows of other models that learn as they read, by split, which come last.
        resamples: as in `intervals.row`.
        seed: as in `intervals.row`.

    Raises:
        UserError: as for `split_nats`.
    """
    found: dict[str, list[RowWithMemory]] = {split: [] for split in splits}
    for each in checkpoints:
        network = each.model.network
        trained = is_memory(network) and network.reads_hidden
        note = f"the memory is {'trained' if trained else 'fitted on val'}"
        for name, of_split in found.items():
            nats = split_nats(each.model, each.splits[name], f"scoring {name} with {each.label}")
            series = Series(each.label, "checkpoint", nats)
            numbers = {"resamples": resamples, "seed": seed}
            of_split.append(row_with_memory(each, name, series, "memory", note, **numbers))
    for rows in further:
        for split, of_split in found.items():
            of_split.extend(rows.get(split, ()))
    return found


def row_with_memory(
    checkpoint: CheckpointWithText,
    split: str,
    series: Series,
    kind: KindWithMemory,
    note: str,
    *,
    resamples: int,
    seed: int,
) -> RowWithMemory:
    """Compute the figures of a series on a split of the checkpoint's text.

    `RowWithMemory` explains `kind` and `note`, and `intervals.row` the numbers.
    """
    part = checkpoint.splits[split]
    text = SplitText.of(part, checkpoint.corpus.vocabulary, checkpoint.corpus.unit)
    network = checkpoint.model.network
    if kind != "memory" or crosses_lines(network):
        text = text.in_blocks()
    found = row(series, series, text, resamples=resamples, seed=seed)
    return RowWithMemory(
        found.characters,
        found.loss,
        series.name,
        kind,
        note,
        scope=network.architecture.recall.scope if is_memory(network) else None,
        reach=network.reach(part) if is_memory(network) else None,
        block_length=found.block_length,
        nats=series.nats,
    )
