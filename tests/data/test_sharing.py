"""Each row of a batch goes to one process; together they train on the batch."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lyricgen.data.batch import IGNORED, BatchLoader, Sampler, Windows, block, cut, share
from lyricgen.data.samplers import LineSampler
from lyricgen.training import recurrent_module as shares
from lyricgen.training.ddp.group import (
    Broadcast,
    check_processes,
    gather_from_processes,
    sum_over_processes,
)
from tests.conftest import TINY, Train
from tests.helpers.samplers import KINDS, sampler_of

LENGTH = 97
RANKS = (1, 2, 3, 4)


def predicted_positions(windows: Windows) -> list[list[int]]:
    """Positions that each row predicts; rows without any are left out."""
    batch = cut(torch.arange(LENGTH), windows)
    rows = [[int(place) for place in row if place != IGNORED] for row in batch.targets]
    return [row for row in rows if row]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_belongs_to_one_process(kind: str, ranks: int) -> None:
    sampler = sampler_of(kind, LENGTH, 5, 4)
    for epoch, index in itertools.product((0, 1), range(len(sampler))):
        whole = sampler.windows(epoch, index)
        parts = [share(whole, rank, ranks) for rank in range(ranks)]
        assert [row for part in parts for row in predicted_positions(part)] == predicted_positions(
            whole
        )
        for part in parts:
            assert len(part.starts) >= 1  # every process takes part in every step
            assert part.num_characters == whole.num_characters
            assert part.starts_stream == whole.starts_stream


@pytest.mark.parametrize("ranks", RANKS)
def test_shares_differ_by_at_most_one_row(ranks: int) -> None:
    for rows in range(20):
        blocks = [range(rows)[block(rows, rank, ranks)] for rank in range(ranks)]
        assert [row for one in blocks for row in one] == list(range(rows))
        counts = [len(one) for one in blocks]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("kind", ["consecutive", "remainder", "stream"])
@pytest.mark.parametrize("ranks", RANKS)
def test_a_process_keeps_its_rows_from_batch_to_batch(kind: str, ranks: int) -> None:
    sampler = sampler_of(kind, LENGTH, 5, 4)
    for rank in range(ranks):
        parts = [share(sampler.windows(0, index), rank, ranks) for index in range(len(sampler))]
        for before, after in itertools.pairwise(parts):
            assert torch.equal(before.starts + before.num_steps, after.starts)


def test_a_process_without_a_row_has_no_loss_and_no_gradient() -> None:
    lines = LineSampler(torch.tensor([0, 5, 9]), torch.tensor([4, 3, 6]), 2, shuffle="none")
    last = lines.windows(0, 1)  # one line
    shared = [share(last, rank, 3) for rank in range(3)]
    batches = [cut(torch.arange(20), windows) for windows in shared]
    assert [int((batch.targets != IGNORED).sum()) for batch in batches] == [0, 0, 6]
    weight = torch.ones(20, 3, requires_grad=True)
    loss = F.nll_loss(
        weight[batches[0].inputs].flatten(0, 1), batches[0].targets.flatten(), reduction="sum"
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert weight.grad is not None
    assert not weight.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_gradient_of_the_shares_is_the_gradient_of_the_batch(kind: str) -> None:
    # each process multiplies its gradient by the number of processes; DDP takes the mean
    ids = torch.arange(LENGTH) % 7
    sampler = sampler_of(kind, LENGTH, 5, 4)
    windows = sampler.windows(0, len(sampler) - 1)

    def gradient(one: Windows) -> torch.Tensor:
        weight = torch.linspace(-1, 1, 49, dtype=torch.float64).view(7, 7).requires_grad_()
        batch = cut(ids, one)
        nats = F.cross_entropy(
            weight[batch.inputs].flatten(0, 1),
            batch.targets.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
        (found,) = torch.autograd.grad(nats / batch.num_characters, weight)
        return found

    parts = [3 * gradient(share(windows, rank, 3)) for rank in range(3)]
    assert torch.allclose(sum(parts[1:], parts[0]) / 3, gradient(windows), atol=1e-15)


def test_a_loader_serves_the_rows_of_its_process() -> None:
    sampler: Sampler = sampler_of("random", LENGTH, 5, 4)
    ids, device = torch.arange(LENGTH), torch.device("cpu")
    whole = list(BatchLoader(ids, sampler, device))
    parts = [list(BatchLoader(ids, sampler, device, process=(rank, 2))) for rank in (0, 1)]
    for batch, *shared in zip(whole, *parts, strict=True):
        assert torch.equal(batch.inputs, torch.cat([part.inputs for part in shared]))
        assert all(part.num_characters == batch.num_characters for part in shared)


# State and totals of each process


def test_a_single_process_has_the_whole_state_and_total() -> None:
    value = torch.tensor([1.0, 2.0])
    assert torch.equal(sum_over_processes(value), value)
    assert gather_from_processes("a") == ["a"]
    assert Broadcast()(15) == 15
    state = (torch.arange(12.0).view(1, 4, 3),)
    assert shares.whole_state(None) is shares.own_rows(None) is None
    for part in (shares.whole_state(state), shares.own_rows(state)):
        assert part is not None
        assert torch.equal(part[0], state[0])


def test_rows_and_totals_are_divided_among_another_number_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = (torch.arange(24.0).view(2, 4, 3),)  # (L, B, H)
    found = []
    for rank in range(2):
        monkeypatch.setattr(shares, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(shares, "world_size", lambda: 2)
        found.append((shares.own_rows(state), shares.own_total([1.5, 2.25])))
        whole = shares.own_total([1.0, 2.0, 4.0])
        assert whole is not None
        assert float(whole) == (7.0 if rank == 0 else 0.0)
    (first, one), (second, two) = found
    assert first is not None and second is not None and one is not None and two is not None
    assert torch.equal(torch.cat([first[0], second[0]], dim=1), state[0])
    assert (float(one), float(two)) == (1.5, 2.25)
    assert shares.own_total([None, None]) is None
    assert shares.own_total([]) is None
    monkeypatch.setattr(shares, "world_size", lambda: 1)
    monkeypatch.setattr(shares, "rank", lambda: 0)
    assert shares.own_total([2.5]) == 2.5


def test_a_fit_needs_the_number_of_processes_of_its_options() -> None:
    check_processes(1, 1, "same")
    for asked, known in ((2, 2), (1, 2), (2, 1)):
        with pytest.raises(RuntimeError, match=f"{asked} processes were to train"):
            check_processes(asked, known, "same")


def test_every_fit_checks_the_number_of_processes(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter((1, 2))  # at the build of the Trainer, and at the start of its fit
    for place in ("build_trainer", "fitting"):
        monkeypatch.setattr(f"lyricgen.training.{place}.number_of_processes", lambda _: next(asked))
    with pytest.raises(RuntimeError, match="2 processes were to train, Lightning knows 1"):
        train(*TINY)


def test_processes_with_different_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lyricgen.training.ddp.group.gather_from_processes", lambda digest: [digest, "other"]
    )
    with pytest.raises(RuntimeError, match="differ in their options or in their text"):
        check_processes(1, 1, "same")


def test_shares_keep_the_other_fields_of_a_batch() -> None:
    windows = replace(sampler_of("stream", LENGTH, 3, 4).windows(0, 0), following=9)
    assert share(windows, 1, 2).following == 9
