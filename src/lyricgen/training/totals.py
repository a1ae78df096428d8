"""Sum up nats and characters, and score held-out splits.

Shapes: B batch, T time steps, N characters in a split.
"""

import torch
from torch import Tensor

from lyricgen.data.batch import Batch
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.cells.cell import State
from lyricgen.models.metrics import loss_figures
from lyricgen.models.model import Model, eval_mode, write_to_positions
from lyricgen.training.ddp.group import sum_over_processes


class NatsTotal:
    """Sum of nats, in float64, and number of characters.

    Perplexity is exp(nats / characters) over the whole split, not a mean over batches.

    Args:
        vocabulary: charges rare characters.
        prefix: begins the names of perplexity and bits; "pseudo_" for models that fill gaps.
    """

    def __init__(self, vocabulary: Vocabulary, prefix: str = "") -> None:
        self.prefix, self.vocabulary = prefix, vocabulary
        self.reset()

    def reset(self) -> None:
        """Set the sum and the number to zero."""
        self.nats: Tensor | None = None
        self.characters = 0

    def add(self, nats: Tensor, characters: int, targets: Tensor) -> None:
        """Add the nats of this process's rows of a batch, and charge its rare characters.

        Args:
            nats: the nats of the targets, or their sum.
            characters: number of characters of the whole batch, in all processes.
            targets: ids of the characters.
        """
        nats = nats.detach()
        if nats.device.type == "mps":  # it has no float64
            nats = nats.cpu()
        nats = nats.double().sum()
        if self.vocabulary.rare_id is not None:
            nats += (targets == self.vocabulary.rare_id).sum().to(nats) * self.vocabulary.charge
        self.nats = nats if self.nats is None else self.nats + nats
        self.characters += characters

    def figures(self, split: str) -> dict[str, float]:
        """Compute loss in nats per character, perplexity and bits per character.

        Every process must call this method, since it sums the nats of all processes. The result is
        empty before the first batch.
        """
        if self.nats is None or self.characters == 0:
            return {}
        return loss_figures(
            split, float(sum_over_processes(self.nats)) / self.characters, self.prefix
        )


def add_batch(
    total: NatsTotal,
    parts: dict[str, NatsTotal],
    batch: Batch,
    nats: Tensor,
    by_part: dict[str, Tensor],
) -> None:
    """Add the nats of a batch to the total of the whole model and to the totals of its parts.

    Args:
        total: total of the whole model.
        parts: totals of the parts of a mixed model by name; a missing one is made.
        batch: the batch.
        nats: nats of its targets by the whole model.
        by_part: the same by each part.
    """
    total.add(nats, batch.num_characters, batch.targets)
    for name, each in by_part.items():
        of_part = parts.setdefault(name, NatsTotal(total.vocabulary))
        of_part.add(each, batch.num_characters, batch.targets)


def part_perplexities(totals: dict[str, NatsTotal], split: str) -> dict[str, float]:
    """Compute the perplexity of each part of a mixed model, as val/network_perplexity."""
    return {
        f"{split}/{name}_perplexity": total.figures(split)[f"{split}/perplexity"]
        for name, total in totals.items()
    }


def score_split(
    model: Model, datamodule: CharacterDataModule, split: str, nats_room: Tensor | None = None
) -> dict[str, float]:
    """Compute the figures of a held-out split; the model must be on the datamodule's device.

    `nats_room`, (N,) float64, gets the nats of each predicted character at its position.
    """
    vocabulary, parts = datamodule.vocabulary, dict[str, NatsTotal]()
    total = NatsTotal(vocabulary, model.metric_prefix)
    state: State | None = None
    with torch.inference_mode(), eval_mode(model):
        for batch in datamodule.evaluation_loader(split):
            before = None if batch.starts_stream else state
            nats, by_part, state = model.score_parts(batch, before)  # (B, T)
            add_batch(total, parts, batch, nats, by_part)
            if nats_room is not None:
                charged = vocabulary.charge_rare(nats, batch.targets)
                write_to_positions(charged, batch, nats_room)
    return total.figures(split) | part_perplexities(parts, split)
