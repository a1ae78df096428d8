"""Totals of nats over an epoch."""

from torch import Tensor

from lyricgen.models.metrics import loss_figures
from lyricgen.training.ddp.collectives import summed


class NatsTotal:
    """Total nats over total characters, in float64 on the device, read once an epoch.

    Perplexity is exp(total / characters): never a mean of batch means, never a mean of
    exponentials. Where several processes train, each adds the nats of its own rows and the
    characters of the whole batch.

    Args:
        prefix: of the names of its perplexity and bits: "pseudo_" where characters are predicted
            from both sides.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.reset()

    def reset(self) -> None:
        """Start a new epoch."""
        self.nats: Tensor | None = None
        self.characters = 0

    def add(self, nats: Tensor, characters: int) -> None:
        """Add a batch.

        Args:
            nats: of its characters, or their total; any shape.
            characters: how many they are, those of other processes' rows included.
        """
        nats = nats.detach()
        if nats.device.type == "mps":  # it has no float64
            nats = nats.cpu()
        nats = nats.double().sum()
        self.nats = nats if self.nats is None else self.nats + nats
        self.characters += characters

    def figures(self, part: str) -> dict[str, float]:
        """Loss in nats per character, perplexity and bits per character; empty without text.

        The nats of all processes are summed, so each has to call it.

        Args:
            part: "train", "val" or "test", the first half of the metrics' names.
        """
        if self.nats is None or self.characters == 0:
            return {}
        return loss_figures(part, float(summed(self.nats)) / self.characters, self.prefix)
