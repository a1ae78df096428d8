"""The splits of a corpus as Lightning trains on them."""

from typing import Any

import pytorch_lightning as pl
import torch

from lyricgen.data.batch import BatchLoader, rank, world_size
from lyricgen.data.evaluation_samplers import evaluation_sampler
from lyricgen.data.samplers import Sampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError


class CharacterDataModule(pl.LightningDataModule):
    """The training, validation and test splits of a corpus.

    Validation and test read a split as one stream, whatever the training sampler is, so their
    figures do not depend on the batch size. Each line is scored from its own start.

    Args:
        vocabulary: of the whole corpus.
        splits: "train", and "val" and "test" where there are such splits.
        sampler: of the training split.
        following: number of characters after each held-out window that the model also sees.

    Raises:
        UserError: a held-out split is too short to predict anything.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        splits: dict[str, Split],
        sampler: Sampler,
        following: int = 0,
    ) -> None:
        super().__init__()
        self.following = following
        self.vocabulary = vocabulary
        self.splits = splits
        self.sampler = sampler
        for name, split in splits.items():
            if len(split.ids) < 2:
                raise UserError(
                    f"the {name} split has {len(split.ids)} character, at least 2 are needed: "
                    f"raise data.{name}_fraction, or set it to 0 for none"
                )

    def train_dataloader(self) -> BatchLoader:
        """Batches in the sampler's order."""
        trainer, split = self._trainer, self.splits["train"]

        def position() -> tuple[int, int]:
            # asked with the first batch, when a resumed trainer knows where it is
            progress = trainer.fit_loop.epoch_loop.batch_progress
            return trainer.current_epoch, progress.current.ready

        return BatchLoader(
            split.ids, self.sampler, self._device, position, split.mapping, self._place
        )

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The validation split, every character once; nothing where there is no such split."""
        return self.evaluation_loader("val") if "val" in self.splits else []

    def test_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The test split, every character once; nothing where there is no such split."""
        return self.evaluation_loader("test") if "test" in self.splits else []

    def evaluation_loader(self, name: str) -> BatchLoader:
        """Every character of a split that can be predicted, once, in order.

        Processes that train together share the rows as in training.
        """
        split = self.splits[name]
        sampler = evaluation_sampler(split, len(self.vocabulary), self.following)
        return BatchLoader(
            split.ids, sampler, self._device, mapping=split.mapping, place=self._place
        )

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Leave batches alone: they are cut where they are needed."""
        del device, dataloader_idx
        return batch

    @property
    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise RuntimeError("the data module has no Trainer yet: pass it to Trainer.fit")
        return self.trainer

    @property
    def _place(self) -> tuple[int, int]:
        """Rank of this process, and the number of processes."""
        return rank(), world_size()

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
