"""The data module, which gives the splits of a corpus to Lightning."""

from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lyricgen.data.batch import BatchLoader, Sampler, rank, world_size
from lyricgen.data.recall import Recollection
from lyricgen.data.samplers import evaluation_sampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError


class CharacterDataModule(pl.LightningDataModule):
    """Data module with the training, validation and test splits of a corpus.

    Validation and test read a whole split by an `evaluation_sampler`, so their metrics do not
    depend on the training sampler. In the layout "lines" each line is scored by itself.

    Args:
        vocabulary: the characters of the whole corpus.
        splits: the splits "train", "val" and "test"; an empty split is left out.
        sampler: chooses the positions of each training batch.
        following: number of characters that the model also reads after each held-out window.

    Attributes:
        recollections: by split, what a reader recalls of it; empty for a model without memory.

    Raises:
        UserError: a split has fewer than two characters.
    """

    def __init__(
        self, vocabulary: Vocabulary, splits: dict[str, Split], sampler: Sampler, following: int = 0
    ) -> None:
        super().__init__()
        self.following = following
        self.vocabulary = vocabulary
        self.splits = splits
        self.sampler = sampler
        self.recollections: dict[str, Recollection] = {}
        for name, split in splits.items():
            if len(split.ids) < 2:
                raise UserError(
                    f"the {name} split has {len(split.ids)} character, at least 2 are needed: "
                    f"raise data.{name}_fraction, or set it to 0 for none"
                )

    @cached_property
    def present(self) -> Tensor:
        """Whether the text has each character, (V,)."""
        counts = [split.character_counts(len(self.vocabulary)) for split in self.splits.values()]
        return torch.stack(counts).sum(0) > 0

    @override
    def train_dataloader(self) -> BatchLoader:
        trainer, split = self.trainer, self.splits["train"]
        if trainer is None:
            raise RuntimeError("the data module has no Trainer yet: pass it to Trainer.fit")

        def position() -> tuple[int, int]:
            # called with the first batch, when a resumed trainer knows its position
            progress = trainer.fit_loop.epoch_loop.batch_progress
            return trainer.current_epoch, progress.current.ready

        process = rank(), world_size()
        return BatchLoader(
            *(split.ids, self.sampler, self._device, position, split.mapping, process),
            recollection=self.recollections.get("train"),
        )

    @override
    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        return self.evaluation_loader("val") if "val" in self.splits else []

    def evaluation_loader(self, name: str) -> BatchLoader:
        """Make a loader of the whole split `name`; each process reads its own rows.

        Raises:
            KeyError: there is no such split.
            UserError: the split's mapped ids are damaged and cannot be restored.
        """
        split = self.splits[name]
        sampler = evaluation_sampler(split, len(self.vocabulary), self.following)
        process = rank(), world_size()
        return BatchLoader(
            *(split.ids, sampler, self._device),
            mapping=split.mapping,
            process=process,
            recollection=self.recollections.get(name),
        )

    @override
    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        del device, dataloader_idx
        return batch  # the loader has already put it on the device

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
