"""Batches of character ids, cut from the corpus by one gather each.

B rows, T time steps, N characters in a part of the corpus.
"""

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lyricgen.data.encoding import forget_pages
from lyricgen.data.evaluation import evaluation_sampler
from lyricgen.data.parts import Part
from lyricgen.data.samplers import Sampler, Windows
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError

IGNORED = -100  # the target of padding, as in torch.nn.functional.cross_entropy
# Rows read from a mapped text before its pages are given back: Linux maps up to 2 MB around each.
FORGET_EVERY = 128
_COPIED = 1 << 24  # ids copied to a device at a time


@dataclass  # not frozen: Lightning copies its fields for some precisions
class Batch:
    """One step's input and target characters."""

    inputs: Tensor  # (B, T) int64, id V is the start of a line
    targets: Tensor  # (B, T) int64, IGNORED where there is only padding
    starts: Tensor  # (B,) int64: inputs[b, t] stands at starts[b] + t in its part
    starts_stream: bool  # the state is zeroed first
    num_characters: int  # targets that count, known without asking the device
    following: Tensor | None = None  # (B, K) int64 the characters after, IGNORED past the text


def cut(ids: Tensor, windows: Windows) -> Batch:
    """Gather one batch from a text.

    Args:
        ids: (N,) integers on any device.
        windows: which characters.
    """
    starts = windows.starts.to(ids.device, non_blocking=True)
    steps = torch.arange(windows.num_steps + 1, device=ids.device)  # (T+1,)
    positions = starts[:, None] + steps  # (B, T+1)
    if windows.lengths is None:
        characters = ids[positions].long()
        inputs, targets = characters[:, :-1], characters[:, 1:]
    else:
        characters = ids[positions.clamp_(max=len(ids) - 1)].long()
        padding = steps[:-1] >= windows.lengths.to(ids.device, non_blocking=True)[:, None]
        # padded inputs are an ordinary character, valid whatever the layout
        inputs = characters[:, :-1].masked_fill(padding, 0)
        targets = characters[:, 1:].masked_fill(padding, IGNORED)
    following = None
    if windows.following:
        places = starts[:, None] + torch.arange(windows.following, device=ids.device)
        places += windows.num_steps + 1  # (B, K)
        following = ids[places.clamp(max=len(ids) - 1)].long()
        following = following.masked_fill(places >= len(ids), IGNORED)
    return Batch(inputs, targets, starts, windows.starts_stream, windows.num_characters, following)


class BatchLoader:
    """The batches of one part, epoch after epoch, in the sampler's order.

    Args:
        ids: (N,) the part's characters; where they lie, the batches are cut.
        sampler: says which characters make a batch.
        device: where the batches go.
        position: tells the current epoch, and how many of its batches have been read before.
        mapping: of the file in which the ids lie. Its pages would count as this process's memory
            once they are read, so they are given back from time to time.
    """

    def __init__(
        self,
        ids: Tensor,
        sampler: Sampler,
        device: torch.device,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
        mapping: mmap.mmap | None = None,
    ) -> None:
        self.ids = _copied(ids, device, mapping) if _fits(ids, device) else ids
        self._mapping = mapping
        self._sampler = sampler  # Lightning looks into what is called `sampler`
        self.device = device
        self.position = position

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.position()
        rows = 0
        for index in range(first, len(self._sampler)):
            windows = self._sampler.windows(epoch, index)
            rows += len(windows.starts)
            if rows > FORGET_EVERY:
                forget_pages(self._mapping)
                rows = len(windows.starts)
            batch = cut(self.ids, windows)
            if self.ids.device != self.device:
                batch = _moved(batch, self.device)
            yield batch


class CharacterDataModule(pl.LightningDataModule):
    """The training, validation and test parts of a corpus.

    Validation and test read a part as one stream, whatever the training sampler, so that their
    figures do not depend on the batch size; lines are scored each from its own start.

    Args:
        vocabulary: of the whole corpus.
        parts: "train", and "val" and "test" where there are such parts.
        sampler: of the training part.
        following: characters after each window of held-out text that are known as well.

    Raises:
        UserError: a held-out part is too short to predict anything.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        parts: dict[str, Part],
        sampler: Sampler,
        following: int = 0,
    ) -> None:
        super().__init__()
        self.following = following
        self.vocabulary = vocabulary
        self.parts = parts
        self.sampler = sampler
        for name, part in parts.items():
            if len(part.ids) < 2:
                raise UserError(
                    f"the {name} part has {len(part.ids)} character, at least 2 are needed: "
                    f"raise data.{name}_fraction, or set it to 0 for none"
                )

    def train_dataloader(self) -> BatchLoader:
        """Batches in the sampler's order."""
        trainer, part = self._trainer, self.parts["train"]

        def position() -> tuple[int, int]:
            # asked with the first batch, when a resumed trainer knows where it is
            progress = trainer.fit_loop.epoch_loop.batch_progress
            return trainer.current_epoch, progress.current.ready

        return BatchLoader(part.ids, self.sampler, self._device, position, part.mapping)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The validation part, every character once; nothing where there is no such part."""
        return self.evaluation_loader("val") if "val" in self.parts else []

    def test_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """The test part, every character once; nothing where there is no such part."""
        return self.evaluation_loader("test") if "test" in self.parts else []

    def evaluation_loader(self, name: str) -> BatchLoader:
        """Every character of a part that can be predicted, once, in order."""
        part = self.parts[name]
        sampler = evaluation_sampler(part, len(self.vocabulary), self.following)
        return BatchLoader(part.ids, sampler, self._device, mapping=part.mapping)

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
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device


def _fits(ids: Tensor, device: torch.device) -> bool:
    """Whether a text may lie on the device for good: a quarter of a GPU's free memory at most."""
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return ids.nbytes <= free // 4


def _copied(ids: Tensor, device: torch.device, mapping: mmap.mmap | None) -> Tensor:
    if ids.device == device:
        return ids
    copy = torch.empty(len(ids), dtype=ids.dtype, device=device)
    for start in range(0, len(ids), _COPIED):  # a mapped text never lies in memory as a whole
        copy[start : start + _COPIED] = ids[start : start + _COPIED].to(device)
        forget_pages(mapping)
    return copy


def _moved(batch: Batch, device: torch.device) -> Batch:
    return Batch(
        batch.inputs.to(device, non_blocking=True),
        batch.targets.to(device, non_blocking=True),
        batch.starts.to(device, non_blocking=True),
        batch.starts_stream,
        batch.num_characters,
        None if batch.following is None else batch.following.to(device, non_blocking=True),
    )
