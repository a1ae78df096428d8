"""An unknown name is answered with the nearest known names."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lyricgen import dashboard, evaluate, export, generate, report
from lyricgen.cli.known_settings import default_choices, group_choices, known_settings
from lyricgen.errors import did_you_mean, find_nearest
from lyricgen.settings import CONFIG_DIRECTORY
from tests.conftest import Train, run_main


def misspellings(name: str) -> Iterator[str]:
    """A name with a letter left out, doubled, or exchanged with its neighbour."""
    middle = len(name) - max(1, len(name.rpartition(".")[2]) // 2)
    yield name[:middle] + name[middle + 1 :]
    yield name[:middle] + name[middle] + name[middle:]
    yield name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :]


def leaves(values: dict[str, Any], prefix: str = "") -> set[str]:
    return {f"{prefix}{name}" for name in values}.union(
        *(leaves(value, f"{prefix}{name}.") for name, value in values.items()
          if isinstance(value, dict))
    )  # fmt: skip


def composed(*overrides: str) -> set[str]:
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    return leaves(OmegaConf.to_container(config))  # type: ignore[arg-type]


def test_the_known_settings_equal_those_of_hydra() -> None:
    ours = {name for name in known_settings() if not name.startswith("hydra")}
    optional = {name for name, choice in default_choices().items() if choice is None}
    choices = {group: [each for each in group_choices(group) if each != "base"]
               for group in default_choices().keys() - optional}  # fmt: skip
    seen = set()
    for row in range(max(map(len, choices.values()))):
        chosen = {f"{group}={each[row % len(each)]}" for group, each in choices.items()}
        found = composed(*chosen)
        seen |= found
        having = {name: set(known_settings()[name]) for name in ours - optional}
        assert found == {name for name, each in having.items() if not each or chosen & each}
    assert seen == ours - optional
    lstm = ["cell=lstm", "cell=lstm_coupled", "cell=lstm_plain", "cell=lstm_scratch"]
    assert known_settings()["cell.forget_bias"] == lstm


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("lr", "optimizer.lr"),
        ("learning_rate", "optimizer.lr"),
        ("batch_size", "data.batch_size"),
        ("batch-size", "data.batch_size"),
        ("BATCH_SIZE", "data.batch_size"),
        ("epochs", "trainer.max_epochs"),
        ("max_epochs", "trainer.max_epochs"),
        ("model.num_steps", "data.num_steps"),
        ("cel", "cell"),
        ("layer", "layers"),
        ("prefix", "callbacks.samples.prefixes"),
        ("patience", "callbacks.early_stopping.patience"),
    ],
)
def test_a_setting_is_found_in_any_group(typed: str, found: str) -> None:
    assert found in find_nearest(typed, known_settings())


@pytest.mark.slow
def test_every_misspelt_setting_is_found() -> None:
    for name in known_settings():
        for typed in misspellings(name):
            assert typed in known_settings() or name in find_nearest(typed, known_settings()), typed


def test_every_misspelt_choice_is_found() -> None:
    for group in default_choices():
        for choice in group_choices(group):
            for typed in (*misspellings(choice), choice.rpartition("/")[2]):
                known = group_choices(group)
                assert typed in known or len(typed) < 3 or choice in find_nearest(typed, known), (
                    typed
                )


def test_an_unlike_name_gets_no_suggestion() -> None:
    assert did_you_mean("rhythm", known_settings()) == ""
    assert did_you_mean("x", []) == did_you_mean("---", known_settings()) == ""


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("lr=0.01", "lr: there is no such setting: did you mean optimizer.lr?"),
        ("~optimizer.lrr", "optimizer.lrr: there is no such setting: did you mean optimizer.lr"),
        ("+optimizer.lrr=3", "did you mean optimizer.lr"),
        ("experiment=lyrics_gru", "did you mean notebook/lyrics_gru?"),
        ("experiment=notebook/dino_exat", "did you mean notebook/dino_exact?"),
        ("sweep=cells", "sweep=cells: there is no such choice: did you mean cells_by_depth?"),
        ("data=dinos", "did you mean dino"),
        ("data=song.txt", 'a file is named alone: "song.txt"'),
        ("hydra/launcher=proceses", "did you mean processes?"),
        ("cell=gru cell.forget_bias=1", "only cell=lstm or cell=lstm_coupled or cell=lstm_plain"),
        ("cell=gru +cell.forget_bias=1", "cell.forget_bias: only cell=lstm"),
        (
            "model=ngram model.dropout=0",
            "model.dropout: only model=hybrid or model=recurrent has this setting",
        ),
        ("-m seed=1,2 hydra.sweeper.n_trials=3", "hydra.sweeper.n_trials: only sweep=optuna has"),
        ("cell.kind=gru", 'type "cell=gru"'),
        ("-m ++data.kind=dino,lyrics", 'type "data=dino,lyrics"'),
        ("--config-name trian", "did you mean train?"),
        ("gru", "did you mean cell=gru?"),
        ("model=lstm", "did you mean cell=lstm?"),
        ("model=gru", "did you mean cell=gru?"),
        ("cell=adam", "did you mean optimizer=adam?"),
        ("data=random", "did you mean sampler=random?"),
        ("+lr=1", "lr: there is no such setting: did you mean optimizer.lr?"),
        ("++ep.ochs=1", "ep: there is no such setting"),
        ("+rhythm=1", "rhythm: there is no such setting; --cfg job lists all settings"),
        ("=3", "settings are typed as NAME=VALUE"),
        ("歌=3", "歌: there is no such setting"),
        ("~data.path", "~data.path: a setting cannot be taken out"),
        ("-m layer=1,2", "did you mean layers?"),
        ("--multrun", "did you mean --multirun"),
        ("--hidden_size=64", "did you mean hidden_size?"),
        ("--cfg jb", "did you mean job?"),
    ],
)
def test_suggestions_of_the_train_command(train: Train, typed: str, message: str) -> None:
    done = train(*typed.split())
    assert done.status == 2
    [line] = done.err.splitlines()
    assert line.startswith("error: ")
    assert message in line


COMMANDS = {
    generate: ("--temprature 0.8", "--temperature", "--format jsnl", "jsonl"),
    evaluate: ("--memorization", "--memorisation", "--part vall", "val"),
    report: ("--were cell=gru", "--where", "--jsn", "--json"),
    export: ("--forze", "--force", "--debg", "--debug"),
    dashboard: ("--prot 7", "--port", "--debg", "--debug"),
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_suggestions_of_the_other_commands(
    command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed, message in zip(COMMANDS[command][::2], COMMANDS[command][1::2], strict=True):
        done = run_main(command.main, capsys, *typed.split())
        assert done.status == 2
        assert f"did you mean {message}" in done.err
        assert len(done.err.splitlines()) == 1
