"""Hydra composes a run once, with the result of its own two compositions."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.hydra import Hydra

from lyricgen.cli.hydra_private import combine_values, options_parser
from tests.conftest import SMALL, Train

HYDRAS_GET_MODE = (
    Hydra.__dict__["get_mode"].__closure__[0].cell_contents
)  # before compose_once replaces it


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run mode of each composition."""
    modes: list[str] = []
    compose = ConfigLoaderImpl._load_configuration_impl

    def counted(*arguments: Any, **named: Any) -> Any:
        modes.append(named["run_mode"].name)
        return compose(*arguments, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    return modes


def test_values_are_combined_as_hydras_own_sweeper_does() -> None:
    loader = ConfigLoaderImpl(ConfigSearchPathImpl())
    typed = ["cell=rnn,lstm", "+layers=range(1,3)", "name='a,b'", "seed=choice(1)"]
    assert combine_values(loader, typed) == [
        [f"cell={cell}", f"+layers={layers}", "name='a,b'", "seed=1"]
        for cell in ("rnn", "lstm")
        for layers in (1, 2)
    ]


def test_the_names_of_hydras_options() -> None:
    _, names = options_parser()
    assert {"--multirun", "-m", "--config-dir", "--cfg"} <= set(names)
    assert all(name.startswith("-") for name in names)


@pytest.mark.parametrize("typed", [[], ["hydra.mode=RUN"]])
def test_a_run_is_composed_once(train: Train, compositions: list[str], typed: list[str]) -> None:
    done = train("hidden_size=abc", *typed)
    assert (done.status, compositions) == (2, ["RUN"])
    assert done.err == "error: hidden_size='abc': input should be a valid integer\n"


@pytest.mark.parametrize("typed", [[], ["hydra.mode=RUN", "hydra.verbose=false", "cell=gru"]])
def test_the_record_equals_that_of_hydras_two_compositions(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: list[str]
) -> None:
    record = []
    for name in ("once", "twice"):
        done = train(*SMALL, "trainer.max_epochs=1", "hydra.run.dir=a", *typed)
        assert done.status == 0, done.err
        record.append({path.name: path.read_text("utf-8") for path in Path("a/.hydra").iterdir()})
        Path("a").rename(name)
        monkeypatch.setattr(Hydra, "get_mode", HYDRAS_GET_MODE)
    assert record[0] == record[1]
    assert yaml.safe_load(record[0]["hydra.yaml"])["hydra"]["mode"] == "RUN"


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["seed=1,2"]])
def test_a_file_may_start_a_sweep(
    train: Train, compositions: list[str], tmp_path: Path, more: list[str]
) -> None:
    mine = tmp_path / "mine" / "experiment"
    mine.mkdir(parents=True)
    text = "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {layers: '1,abc'}}}\n"
    (mine / "many.yaml").write_text(text, "utf-8")
    done = train("--config-dir", str(mine.parent), "experiment=many", *more, "hidden_size=no")
    assert compositions[-1] == "RUN"
    assert "MULTIRUN" in compositions
    assert done.status == 1
    assert f"{2 * max(1, 2 * len(more))} jobs did not finish" in done.err
