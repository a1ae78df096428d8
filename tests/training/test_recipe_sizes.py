"""What a recipe chooses for texts of several sizes, by the table of docs/recipes.md."""

import itertools
import math
from typing import Any

import pytest

from lyricgen.settings import OF_SAMPLER, OF_TEXT, flatten, list_auto, plain_settings
from lyricgen.training.recipe import Text, recipe
from tests.helpers.composition import compose_options


def settings(
    characters: int, symbols: int, line_length: float | None = None, **changes: Any
) -> dict[str, Any]:
    own: dict[str, Any] = {"effort": "normal", "on_gpu": False}
    own |= {name: changes.pop(name) for name in list(changes) if name in own}
    chosen: dict[str, Any] = {"layers": 1, "cell": "lstm_coupled", "model": "hybrid"}
    chosen |= {name.replace("__", "."): value for name, value in changes.items()}
    return recipe(Text(characters, symbols, line_length), chosen=chosen, **own)


def test_each_process_gets_a_row() -> None:
    assert settings(600, 40, 300.0)["data.batch_size"] == 1
    assert settings(600, 40, 300.0, trainer__devices=3)["data.batch_size"] == 3
    assert settings(600, 40, 300.0, trainer__devices="auto")["data.batch_size"] == 1


def test_a_short_a_long_and_a_middle_text() -> None:
    ends: dict[str, list[Any]] = {
        "trainer.max_epochs": [40, 22, 5],
        "model.dropout": [0.65, 0.42, 0.2],
        "model.weight_drop": [0.5, 0, 0],
        "model.noise": [0.1, 0, 0],
        "loss.label_smoothing": [0.1, 0, 0],
        "optimizer.lr": [0.012, 0.0098, 0.008],
        "optimizer.weight_decay": [0.3, 0.05, 0.01],  # the geometric mean in the middle
        "callbacks.average.enabled": [True, True, False],
        "data.batch_size": [14, 32, 48],
        "data.num_steps": [35, 35, 48],
        "model.combination": ["mixture", "mixture", "product"],
    }
    found = [settings(characters, 100) for characters in (10_000, 77_460, 600_000)]
    for name, values in ends.items():
        assert [one[name] for one in found] == values, name
    assert [settings(size, 100)["model.weight_drop"] for size in (16_690, 27_850)] == [0.25, 0]


def test_a_recipe_has_a_value_for_every_setting_that_says_auto() -> None:
    composed = compose_options("recipe=auto")
    wanted = {*list_auto(composed)} - {"cell.kernel", *OF_TEXT, *OF_SAMPLER}
    assert {*settings(10_000, 100)} == wanted
    assert {*flatten(plain_settings())} == wanted


SIZES = list(itertools.product([100, 3_000, 50_000, 900_000, 20_000_000], [3, 90, 2_600, 6_500]))


@pytest.mark.parametrize(("layers", "effort"), [(1, "normal"), (3, "normal"), (1, "high")])
@pytest.mark.parametrize(("characters", "symbols"), SIZES)
def test_the_budget_bounds_what_is_read(
    characters: int, symbols: int, layers: int, effort: str
) -> None:
    found = settings(characters, symbols, layers=layers, effort=effort)
    size, epochs, steps = (
        found[f"{name}"] for name in ("hidden_size", "trainer.max_epochs", "trainer.max_steps")
    )
    embedding = found["model.embedding_size"] or size
    outputs = found["model.short_list"] or symbols
    assert (outputs == 1000) == (characters >= 300_000 and symbols > 2_000)
    # three products with the input and the state in each layer, and one with the output
    work = 3 * size * (embedding + size + (layers - 1) * 2 * size) + size * outputs
    read = characters * epochs
    if steps is not None:
        assert epochs == 1
        read = steps * found["data.batch_size"] * found["data.num_steps"]
        assert read < characters + 48 * 48
    budget = {"normal": 2e12, "high": 8e12}[effort]
    half_an_epoch = 0 if steps else characters / 2
    assert (read - half_an_epoch - 48 * 48) * work <= budget * 1.0001


@pytest.mark.parametrize(("characters", "symbols"), SIZES)
@pytest.mark.parametrize("line_length", [None, 7.0])
def test_an_epoch_has_enough_steps(
    characters: int, symbols: int, line_length: float | None
) -> None:
    found = settings(characters, symbols, line_length)
    row = found["data.num_steps"] if line_length is None else line_length
    assert found["data.batch_size"] >= 1
    assert characters / (found["data.batch_size"] * row) >= 20 or found["data.batch_size"] == 1


def test_a_text_that_is_read_once_gets_the_settings_of_a_long_one() -> None:
    verse, library = settings(800_000, 6_452), settings(8_000_000, 6_452)
    assert (verse["trainer.max_epochs"], library["trainer.max_epochs"]) == (4, 1)
    assert (verse["model.dropout"], library["model.dropout"]) == (0.4, 0.2)
    assert {one["model.combination"] for one in (verse, library)} == {"product"}
    assert {one["model.short_list"] for one in (verse, library)} == {1000}
    assert settings(800_000, 100)["trainer.max_epochs"] == 5


def test_effort_and_layers_change_the_length() -> None:
    jaychou = settings(50_650, 2_582)
    assert jaychou["trainer.max_epochs"] == 37  # 2e12 / (50650 · (3·256·512 + 256·2582))
    assert settings(50_650, 2_582, layers=2)["trainer.max_epochs"] == 27
    assert settings(50_650, 2_582, effort="high")["trainer.max_epochs"] == 60
    assert settings(950_000, 81, effort="high")["hidden_size"] == 384
    assert settings(950_000, 81, on_gpu=True)["data.batch_size"] == 128


def test_a_chosen_length_sets_the_end_and_the_warmup() -> None:
    library = settings(20_000_000, 90, trainer__max_epochs=2)  # which would be read in part
    assert (library["trainer.max_epochs"], library["trainer.max_steps"]) == (2, None)
    assert library["scheduler.warmup_epochs"] == 0.08
    assert settings(10_000, 100, trainer__max_epochs=3)["scheduler.warmup_epochs"] == 0.12
    # 10 steps of 14 windows of 35 characters are 0.49 epochs
    ten = {"trainer__max_epochs": 10, "trainer__max_steps": 10}
    assert settings(10_000, 100, **ten)["scheduler.warmup_epochs"] == 0.02
    # 10 steps of 56 windows of 70 characters are 3.92 epochs
    larger = settings(10_000, 100, **ten, data__batch_size=56, data__num_steps=70)
    assert larger["scheduler.warmup_epochs"] == 0.157


def test_larger_batches_make_fewer_steps_of_a_text_that_is_read_in_part() -> None:
    library = settings(20_000_000, 90)  # batches of 48 windows of 48 characters
    larger = settings(20_000_000, 90, data__batch_size=96, data__num_steps=96)
    assert larger["trainer.max_steps"] == math.ceil(library["trainer.max_steps"] / 4)


def test_typed_settings_enter_the_budget() -> None:
    # 2e12 / (800000 · 256 · (3 · 512 + outputs)), with 1000, 6452 or 2000 outputs
    verse = [
        settings(800_000, 6_452, **typed)["trainer.max_epochs"]
        for typed in ({}, {"model": "recurrent"}, {"model__short_list": None},
                      {"model__short_list": 2_000}, {"model__combination": "mixture"})
    ]  # fmt: skip
    assert verse == [4, 1, 1, 3, 1]
    assert settings(800_000, 6_452, model__combination="mixture")["model.short_list"] is None
    # no list for 3,000 characters of which 2,000 are listed
    listed, unlisted = (settings(800_000, 3_000, model__short_list=each) for each in (2_000, None))
    assert listed["trainer.max_epochs"] == unlisted["trainer.max_epochs"]
    # four gates: 2e12 / (50650 · 256 · (4 · 512 + 2582))
    assert settings(50_650, 2_582, cell="lstm")["trainer.max_epochs"] == 33
    # an embedding of 512: 2e12 / (50650 · 256 · (3 · 768 + 2582))
    assert settings(50_650, 2_582, model__embedding_size=512)["trainer.max_epochs"] == 32
    jaychou = settings(50_650, 2_582, hidden_size=512)
    # 2e12 / (50650 · (3·512·1024 + 512·2582))
    assert (jaychou["hidden_size"], jaychou["trainer.max_epochs"]) == (512, 14)


def test_pieces_of_documents() -> None:
    """A batch of documents has about 1,500 characters in pieces of at most `longest`."""
    chosen = {"layers": 1, "cell": "lstm_coupled", "model": "hybrid"}
    found = recipe(Text(100_000, 100, 90.0, 128), "normal", on_gpu=False, chosen=chosen)
    assert (found["data.num_steps"], found["data.batch_size"]) == (128, 17)
    lines = recipe(Text(100_000, 100, 90.0), "normal", on_gpu=False, chosen=chosen)
    assert lines == found | {"data.num_steps": lines["data.num_steps"]}
