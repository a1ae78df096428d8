"""Batches of ids against slow slices of the text, and the batches of each loader."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lyricgen.data import samplers
from lyricgen.data.batch import IGNORED, Batch, BatchLoader, Sampler, Windows, cut
from lyricgen.data.corpus import encode
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.preparation import Corpus
from lyricgen.data.samplers import (
    ConsecutiveSampler,
    LineSampler,
    RandomSampler,
    evaluation_sampler,
)
from lyricgen.data.splits import Split, make_splits
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from tests.helpers.datamodules import CPU, stub_trainer

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LARGEST = {torch.uint8: 255, torch.int16: 32_767, torch.int32: 2**31 - 1}


def text_module(
    text: str, sampler: Sampler | None = None, val: float = 0.0, test: float = 0.0
) -> CharacterDataModule:
    vocabulary = Vocabulary.of(text)
    splits = make_splits(
        encode(Corpus("a text", "text", text)),
        layout="stream",
        val_fraction=val,
        test_fraction=test,
        split_seed=0,
    )
    return CharacterDataModule(
        vocabulary, splits, sampler or ConsecutiveSampler(2, 1, 1, drop_last=True)
    )


def names_module(lines: list[str], val: float, test: float) -> CharacterDataModule:
    text = "".join(line + "\n" for line in lines)
    vocabulary = Vocabulary.of(text)
    splits = make_splits(
        encode(Corpus("names", "line", text)),
        layout="lines",
        val_fraction=val,
        test_fraction=test,
        split_seed=0,
    )
    train = splits["train"]
    assert train.line_starts is not None
    sampler = LineSampler(train.line_starts, train.line_lengths, 1, seed=0)
    return CharacterDataModule(vocabulary, splits, sampler)


@contextmanager
def constants(**values: int) -> Iterator[None]:
    """Set limits of the module; inside a property test, where no fixture can do it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(samplers, name, value)
        yield


def batches_of(loader: BatchLoader | list[BatchLoader]) -> list[Batch]:
    assert isinstance(loader, BatchLoader)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def scored(batches: Iterable[Batch]) -> dict[int, int]:
    """Position in the split → the character predicted there; no position occurs twice."""
    found: dict[int, int] = {}
    for batch in batches:
        for start, targets in zip(batch.starts.tolist(), batch.targets.tolist(), strict=True):
            for place, target in enumerate(targets, start + 1):
                if target != IGNORED:
                    assert place not in found
                    found[place] = target
    return found


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.inputs, other.inputs)
        and torch.equal(one.targets, other.targets)
        and torch.equal(one.starts, other.starts)
        and one.starts_stream == other.starts_stream
        and one.num_characters == other.num_characters
    )


# ---- cut


@st.composite
def texts(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(list(LARGEST)))
    values = st.integers(0, LARGEST[dtype])
    return torch.tensor(draw(st.lists(values, min_size=2, max_size=40)), dtype=dtype)


@settings(deadline=None)
@given(ids=texts(), data=st.data())
def test_a_batch_equals_slices_of_the_text(ids: Tensor, data: st.DataObject) -> None:
    text = ids.tolist()
    steps = data.draw(st.integers(1, len(text) - 1))
    starts = data.draw(st.lists(st.integers(0, len(text) - 1 - steps), min_size=1, max_size=6))
    starts_stream = data.draw(st.booleans())
    count = steps * len(starts)
    batch = cut(ids, Windows(torch.tensor(starts), steps, None, starts_stream, count))
    assert batch.inputs.tolist() == [text[start : start + steps] for start in starts]
    assert batch.targets.tolist() == [text[start + 1 : start + 1 + steps] for start in starts]
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert batch.inputs.dtype == batch.targets.dtype == batch.starts.dtype == torch.int64
    assert batch.starts.tolist() == starts
    assert (batch.starts_stream, batch.num_characters) == (starts_stream, count)
    assert ids.tolist() == text


@settings(deadline=None)
@given(ids=texts(), data=st.data())
def test_a_padded_batch_equals_padded_slices_of_the_text(ids: Tensor, data: st.DataObject) -> None:
    text = ids.tolist()
    rows = data.draw(
        st.lists(
            st.integers(0, len(text) - 1).flatmap(
                lambda start: st.tuples(st.just(start), st.integers(0, len(text) - 1 - start))
            ),
            min_size=1,
            max_size=6,
        )
    )
    starts, lengths = map(list, zip(*rows, strict=True))
    steps = max(1, *lengths) + data.draw(st.integers(0, 3))
    windows = Windows(torch.tensor(starts), steps, torch.tensor(lengths), True, sum(lengths))
    batch = cut(ids, windows)
    assert batch.inputs.shape == batch.targets.shape == (len(rows), steps)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    for (start, length), inputs, targets in zip(
        rows, batch.inputs.tolist(), batch.targets.tolist(), strict=True
    ):
        assert inputs[:length] == text[start : start + length]
        assert targets[:length] == text[start + 1 : start + 1 + length]
        assert targets[length:] == [IGNORED] * (steps - length)
        assert set(inputs[length:]) <= {0}  # a character that every vocabulary has
    assert batch.num_characters == int((batch.targets != IGNORED).sum())
    assert ids.tolist() == text
    assert (windows.starts.tolist(), windows.lengths.tolist()) == (starts, lengths)


def test_padding_has_the_target_that_the_loss_ignores() -> None:
    logits = torch.zeros(2, 5)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([3, IGNORED]), reduction="sum")
    assert loss.item() == pytest.approx(torch.tensor(5.0).log().item())


def test_lines_by_hand() -> None:
    data = names_module(["ab", "c", "def"], 0, 0)
    ids, vocabulary = data.splits["train"].ids, data.vocabulary
    assert vocabulary.characters == "\nabcdef"
    sampler = LineSampler(torch.tensor([0, 4, 7]), torch.tensor([3, 2, 4]), 2, shuffle="none")
    first, second = BatchLoader(ids, sampler, CPU)
    assert first.inputs.tolist() == [[7, 1, 2], [7, 3, 0]]  # V a b, V c and padding
    assert first.targets.tolist() == [[1, 2, 0], [3, 0, IGNORED]]  # a b \n, c \n and padding
    assert second.inputs.tolist() == [[7, 4, 5, 6]]
    assert second.targets.tolist() == [[4, 5, 6, 0]]
    assert (first.num_characters, second.num_characters) == (5, 4)


# ---- training


def test_the_loader_serves_the_epoch_of_the_trainer() -> None:
    text = LETTERS * 8
    data = text_module(text, RandomSampler(len(text), 3, 5, seed=4, drop_last=True))
    trainer = stub_trainer()
    data.trainer = trainer  # type: ignore[assignment]
    loader = data.train_dataloader()
    for epoch in (0, 1, 2, 1):
        trainer.current_epoch = epoch
        expected = [
            cut(
                data.splits["train"].ids,
                RandomSampler(len(text), 3, 5, seed=4, drop_last=True).windows(epoch, i),
            )
            for i in range(len(loader))
        ]
        assert all(map(same, batches_of(loader), expected))
        for batch in expected:
            for start, inputs in zip(batch.starts.tolist(), batch.inputs, strict=True):
                assert data.vocabulary.decode(inputs) == text[start : start + 5]
    trainer.fit_loop.epoch_loop.batch_progress.current.ready = 2  # as in a resumed run
    resumed = list(loader)
    assert len(resumed) == len(expected) - 2
    assert all(map(same, resumed, expected[2:]))
    trainer.fit_loop.epoch_loop.batch_progress.current.ready = 0
    trainer.current_epoch = 0
    first = batches_of(loader)
    trainer.current_epoch = 1
    assert not any(map(same, batches_of(loader), first))


class Recorder(pl.LightningModule):
    """Module that keeps its batches; its one weight has nothing to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[Batch]] = []
        self.validated: list[list[Batch]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def on_validation_epoch_start(self) -> None:
        self.validated.append([])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen[-1].append(batch)
        return self.weight.square()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated[-1].append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore::FutureWarning:pytorch_lightning.utilities._pytree")
def test_lightning_gets_the_batches_of_each_epoch() -> None:
    text = LETTERS * 8
    data = text_module(text, RandomSampler(187, 3, 5, seed=4, drop_last=True), val=0.1)
    assert len(data.splits["train"].ids) == 187
    recorder = Recorder()
    pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    ).fit(recorder, datamodule=data)
    fresh = RandomSampler(187, 3, 5, seed=4, drop_last=True)
    assert len(fresh) == 12
    for epoch, seen in enumerate(recorder.seen):
        expected = [cut(data.splits["train"].ids, fresh.windows(epoch, i)) for i in range(12)]
        assert len(seen) == 12
        assert all(map(same, seen, expected))
    assert len(recorder.seen) == len(recorder.validated) == 3
    for validated in recorder.validated:
        assert scored(validated) == dict(enumerate(data.splits["val"].ids[1:].tolist(), 1))


def test_training_batches_need_a_trainer() -> None:
    with pytest.raises(RuntimeError, match="no Trainer"):
        text_module(LETTERS).train_dataloader()


def test_a_text_too_large_for_the_device_is_cut_on_the_cpu() -> None:
    ids = torch.arange(26, dtype=torch.uint8)
    loader = BatchLoader(ids, ConsecutiveSampler(26, 2, 4, drop_last=True), torch.device("meta"))
    assert loader.ids.device == CPU
    first, *_ = batches_of(loader)
    for tensor in (first.inputs, first.targets, first.starts):
        assert tensor.device.type == "meta"
    assert first.inputs.shape == first.targets.shape == (2, 4)
    assert (first.starts_stream, first.num_characters) == (True, 8)


# ---- evaluation


@settings(deadline=None)
@given(
    length=st.integers(30, 300),
    longest=st.integers(10, 60),
    row=st.integers(3, 10),
    logits=st.integers(1, 2000),
    batch_size=st.integers(1, 5),
    carried=st.booleans(),
)
def test_held_out_text_is_scored_once_with_any_training_batches(
    length: int, longest: int, row: int, logits: int, batch_size: int, carried: bool
) -> None:
    text = (LETTERS * 12)[:length]
    train = length - 2 * round(length * 0.3)
    sampler = (
        ConsecutiveSampler(train, batch_size, 1, drop_last=True)
        if carried
        else RandomSampler(train, batch_size, 1, seed=0, drop_last=True)
    )
    data = text_module(text, sampler, val=0.3, test=0.3)
    other = text_module(text, ConsecutiveSampler(train, 1, 3, drop_last=True), val=0.3, test=0.3)
    held_out = {"val": text[train : length - round(length * 0.3)]}
    held_out["test"] = text[len(text) - len(held_out["val"]) :]
    with constants(LONGEST_STREAM=longest, ROW=row, EVALUATION_LOGITS=logits):
        loaders = {"val": data.val_dataloader(), "test": data.evaluation_loader("test")}
        same_loaders = {"val": other.val_dataloader(), "test": other.evaluation_loader("test")}
    for name, loader in loaders.items():
        batches = batches_of(loader)
        assert all(map(same, batches, batches_of(same_loaders[name])))
        expected = {
            place: data.vocabulary.characters.index(held_out[name][place])
            for place in range(1, len(held_out[name]))
        }
        assert scored(batches) == expected
        assert sum(batch.num_characters for batch in batches) == len(held_out[name]) - 1
        assert [batch.starts_stream for batch in batches] == [
            index == 0 for index in range(len(batches))
        ]
        rows, steps = batches[0].inputs.shape
        assert rows == (1 if len(held_out[name]) <= longest else len(held_out[name]) // row)
        assert steps == 1 or rows * steps * len(data.vocabulary) <= logits
        for before, after in itertools.pairwise(batches):
            assert (before.starts + before.inputs.shape[1]).tolist() == after.starts.tolist()


def test_held_out_text_by_hand() -> None:
    text = "ab" * 10 + "abcdefghij"
    data = text_module(text, val=1 / 3)
    with constants(EVALUATION_LOGITS=40):  # ten characters: four steps
        first, second, third = batches_of(data.val_dataloader())
    assert first.inputs.tolist() == [[0, 1, 2, 3]]
    assert first.targets.tolist() == [[1, 2, 3, 4]]
    assert second.inputs.tolist() == [[4, 5, 6, 7]]
    assert third.targets.tolist() == [[9]]
    assert set(data.splits) == {"train", "val"}


def test_long_texts_are_cut_into_rows_with_a_log_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    split = Split(torch.arange(51, dtype=torch.uint8) % 26, None)
    shorter = Split(split.ids[:50], None)
    with caplog.at_level(logging.INFO), constants(LONGEST_STREAM=50, ROW=10):
        assert evaluation_sampler(shorter, 26).windows(0, 0).starts.tolist() == [0]
        assert caplog.messages == []
        cut_up = evaluation_sampler(split, 26)
        (message,) = caplog.messages
    assert "51 characters" in message
    assert "5 rows" in message
    windows = cut_up.windows(0, 0)
    assert windows.starts.tolist() == [0, 10, 20, 30, 40]
    assert windows.num_characters == 50


def test_two_hundred_thousand_characters_are_one_stream() -> None:
    ids = torch.zeros(200_001, dtype=torch.uint8)
    assert len(evaluation_sampler(Split(ids[:-1], None), 30).windows(0, 0).starts) == 1
    assert len(evaluation_sampler(Split(ids, None), 30).windows(0, 0).starts) == 10


@settings(deadline=None)
@given(
    lines=st.lists(st.text("abc", min_size=1, max_size=6), min_size=8, max_size=40, unique=True),
    rows=st.integers(1, 6),
)
def test_held_out_lines_are_scored_one_by_one(lines: list[str], rows: int) -> None:
    data = names_module(lines, 0.3, 0.3)
    with constants(EVALUATION_LINES=rows, LONGEST_STREAM=2, ROW=2):
        loaders = {"val": data.val_dataloader(), "test": data.evaluation_loader("test")}
    heard = []
    for name, loader in loaders.items():
        split = data.splits[name]
        batches = batches_of(loader)
        for batch in batches:
            assert batch.starts_stream
            assert len(batch.inputs) <= rows
            assert batch.inputs[:, 0].tolist() == [len(data.vocabulary)] * len(batch.inputs)
            for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
                line = targets[targets != IGNORED]
                assert inputs[1 : len(line)].tolist() == line[:-1].tolist()
                heard.append(data.vocabulary.decode(line))
        found = scored(batches)
        assert found == {
            place: one
            for place, one in enumerate(split.ids.tolist())
            if one != len(data.vocabulary)
        }
        assert sum(batch.num_characters for batch in batches) == len(found)
    assert all(one.endswith("\n") and one.count("\n") == 1 for one in heard)
    training = data.vocabulary.decode(
        data.splits["train"].ids[data.splits["train"].ids != len(data.vocabulary)]
    )
    assert Counter(heard) + Counter(training.splitlines(keepends=True)) == Counter(
        line + "\n" for line in lines
    )


def test_batches_of_held_out_lines_are_bounded() -> None:
    # nineteen short lines beside a long one, each padded to it: 20 x 41 x 27 logits
    data = names_module([*LETTERS[:19], LETTERS + LETTERS[:14]], 0, 0)
    with constants(EVALUATION_LOGITS=41 * 27):  # room for only the long line
        batches = batches_of(data.evaluation_loader("train"))
    for batch in batches:
        assert batch.inputs.numel() * len(data.vocabulary) <= 41 * 27


def test_without_held_out_splits_nothing_is_evaluated() -> None:
    data = text_module(LETTERS)
    assert data.val_dataloader() == []
    assert set(data.splits) == {"train"}


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_split_too_short_to_predict_is_refused(name: str) -> None:
    vocabulary = Vocabulary.of(LETTERS)
    train = Split(vocabulary.encode(LETTERS), None)
    sampler = ConsecutiveSampler(26, 1, 5, drop_last=True)
    with pytest.raises(UserError) as caught:
        CharacterDataModule(
            vocabulary, {"train": train, name: Split(vocabulary.encode("a"), None)}, sampler
        )
    message = str(caught.value)
    assert message.isprintable()
    for said in (f"the {name} split has 1 character", "at least 2", f"data.{name}_fraction"):
        assert said in message
    two = {"train": train, name: Split(vocabulary.encode("ab"), None)}
    (batch,) = batches_of(CharacterDataModule(vocabulary, two, sampler).evaluation_loader(name))
    assert batch.targets.tolist() == [[1]]
