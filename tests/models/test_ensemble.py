"""An ensemble averages its members as the formulas say, in NumPy and float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lyricgen
from lyricgen.data.batch import IGNORED, Batch
from lyricgen.models.architectures import Averaging
from lyricgen.models.card import card
from lyricgen.models.checkpoint import to_bytes
from tests.helpers.checkpoints import VOCABULARY, content_of, save_checkpoint
from tests.helpers.ensembles import (
    WEIGHTS,
    average,
    distributions,
    network_of,
    writing_model_of,
)

V = len(VOCABULARY)
COMBINATIONS = ("arithmetic", "geometric")


def ids_of(layout: str, rows: int = 3, steps: int = 7) -> torch.Tensor:
    ids = torch.randint(V, (rows, steps), generator=torch.Generator().manual_seed(1))
    if layout == "lines":
        ids[:, 0] = V
    return ids


@pytest.mark.parametrize("combination", COMBINATIONS)
@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("mapped", [False, True])
def test_the_average_of_the_members(combination: Averaging, layout: str, mapped: bool) -> None:
    model, ids = network_of(combination, layout, mapped=mapped), ids_of(layout)
    expected = average(distributions(model, ids, mapped=mapped), WEIGHTS, combination)
    with torch.no_grad():
        found, _ = model(ids)
    np.testing.assert_allclose(found.double().exp().numpy(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_a_state_continues_each_member(combination: Averaging) -> None:
    model, ids = network_of(combination, mapped=True), ids_of("stream")
    with torch.no_grad():
        whole, after = model(ids)
        first, state = model(ids[:, :3])
        second, last = model(ids[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole)
    assert len(state) == model.state_size == 1 + 1 + 3
    for one, other in zip(last, after, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_scores_are_those_of_the_average(
    combination: Averaging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lyricgen.models.ensemble.MOST_LOGITS", 2 * 7 * V)  # two blocks of rows
    model, ids = network_of(combination), ids_of("stream")
    expected = -np.log(average(distributions(model, ids), WEIGHTS, combination))
    lengths, targets = torch.tensor([7, 2, 4]), torch.tensor([1, 0, 8], dtype=torch.uint8)
    with torch.no_grad():
        nats = model.score_next(ids, lengths, targets)
        inputs, follow = ids[:, :-1], ids[:, 1:].clone()
        follow[1, 2:] = IGNORED
        batch = Batch(inputs, follow, torch.zeros(3, dtype=torch.int64), True, 14)
        scored, _ = model.score(batch, None)
    wanted = [expected[row, length - 1, int(c)] for row, (length, c) in
              enumerate(zip(lengths.tolist(), targets, strict=True))]  # fmt: skip
    np.testing.assert_allclose(nats.numpy(), wanted, rtol=1e-5)
    for row in range(3):
        for step in range(6):
            real = (
                expected[row, step, ids[row, step + 1]] if (row, step) < (1, 2) or row == 2 else 0
            )
            assert float(scored[row, step]) == pytest.approx(real, rel=1e-5)


def test_an_arithmetic_average_rounds_no_probability_to_zero() -> None:
    model = network_of()
    ids = ids_of("stream")
    logits, _ = model.read_members(ids, None)
    far = [torch.full_like(each, -500.0) for each in logits]
    for each in far:
        each[..., 0] = 0.0
    assert model.combine(far).isfinite().all()


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("kind", ["checkpoint", "model file"])
def test_a_file_holds_all_members(tmp_path: Path, layout: str, kind: str) -> None:
    model = writing_model_of("geometric", layout, mapped=True)
    path = save_checkpoint(tmp_path, content_of(model))
    if kind == "model file":
        path = tmp_path / "some.safetensors"
        path.write_bytes(to_bytes(card(model), model.network.state_dict()))
    read: Any = lyricgen.load(path)
    assert read.network.architecture == model.network.architecture
    ids = ids_of(layout)
    with torch.no_grad():
        assert torch.equal(read.network(ids)[0], model.network(ids)[0])
    assert read.holds_counts
    assert read.network.description == "ensemble of 3 (geometric)"
    assert read.network.num_parameters == model.network.num_parameters
    assert not read.network.training


def test_a_member_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    content = content_of(writing_model_of())
    for member in content["lyricgen"]["architecture"]["members"]:
        member.pop("short_list", None)
        if member["kind"] == "recurrent":
            del member["model"]["noise"], member["cell"]["kernel"]
    assert lyricgen.load(save_checkpoint(tmp_path, content)).generate("ab", length=3)
