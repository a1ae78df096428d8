"""Choices of logger=: lists, refusals in one line, and what each choice switches on."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lyricgen.cli.hydra_private import combine_values
from lyricgen.cli.typed_values import quote_texts
from lyricgen.errors import UserError
from lyricgen.settings import CONFIG_DIRECTORY, complete
from lyricgen.training.loggers import remote
from tests.conftest import SMALL, Train

MLFLOW = {"tracking_uri": None, "experiment": "lyricgen"}
WANDB = {"project": "lyricgen", "entity": None, "mode": "offline"}
NOTHING = {"csv": True, "tensorboard": False, "mlflow": None, "wandb": None}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)


def loggers_of(*overrides: str) -> Any:
    typed = quote_texts(list(overrides), multirun=False)
    with initialize_config_dir(str(CONFIG_DIRECTORY), version_base="1.3"):
        config = compose("train", overrides=typed)
    return OmegaConf.to_container(config.logger, resolve=True)


@pytest.mark.parametrize(
    ("choice", "switched"),
    [
        ("default", {"tensorboard": True}),
        ("tensorboard", {"tensorboard": True}),
        ("csv", {}),
        ("none", {"csv": False}),
        ("null", {"csv": False}),
        ("mlflow", {"mlflow": MLFLOW}),
        ("[default,mlflow]", {"tensorboard": True, "mlflow": MLFLOW}),
        ("[mlflow, 'tensorboard']", {"tensorboard": True, "mlflow": MLFLOW}),
        ("[tensorboard,mlflow,wandb]", {"tensorboard": True, "mlflow": MLFLOW, "wandb": WANDB}),
        ("[csv]", {}),
        ("[mlflow,mlflow]", {"mlflow": MLFLOW}),
    ],
)
def test_each_choice_switches_its_loggers_on(choice: str, switched: dict[str, Any]) -> None:
    assert loggers_of(f"logger={choice}") == NOTHING | switched


def test_variables_of_the_packages_are_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here:5000")
    monkeypatch.setenv("WANDB_MODE", "online")
    both = loggers_of("logger=[mlflow,wandb]")
    assert both["mlflow"]["tracking_uri"] == "http://here:5000"
    assert both["wandb"]["mode"] == "online"
    typed = loggers_of("logger=mlflow", "logger.mlflow.tracking_uri=null")
    assert typed["mlflow"]["tracking_uri"] is None


def test_a_list_is_one_value_of_a_sweep() -> None:
    typed = quote_texts(["logger=[tensorboard,mlflow],csv", "seed=1,2"], multirun=True)
    loader: Any = None
    assert [one[0] for one in combine_values(loader, typed)] == [
        *("logger=[tensorboard,mlflow]",) * 2,
        *("logger=csv",) * 2,
    ]


@pytest.mark.parametrize("value", ["[]", "[none]", "[none,mlflow]", "[ mlflow , none ]"])
def test_none_stands_alone(value: str) -> None:
    with pytest.raises(UserError, match="type logger=none alone"):
        quote_texts([f"logger={value}"], multirun=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logger=[default,mlflo]"], "logger=mlflo: there is no such choice: did you mean mlflow"),
        (["cell=[gru,lstm]"], "cell=[gru,lstm]: there is no such choice"),
        (["logger.mlflow.experiment=x"], "only logger=mlflow has this setting"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=runs"], "choose http://SERVER:PORT"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=http://a:b"], "choose http://SERVER or"),
        (["logger=mlflow", "logger.mlflow.experiment="], "at least 1 character"),
        (["logger=wandb", "logger.wandb.project=a/b"], "logger.wandb.project='a/b'"),
        (["logger=wandb", "logger.wandb.mode=of"], "'offline' or 'online'"),
    ],
)
def test_a_wrong_setting_is_one_line(train: Train, arguments: list[str], message: str) -> None:
    refused = train(*SMALL, *arguments)
    assert refused.status == 2
    [line] = refused.err.splitlines()
    assert message in line


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_missing_package_is_one_line(
    train: Train, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(remote, "find_spec", lambda name: None)
    refused = train(*SMALL, f"logger={kind}")
    assert refused.status == 2
    [line] = refused.err.splitlines()
    assert line.endswith(f"pip install 'lyricgen[{kind}]'")


def test_older_records_have_no_other_loggers() -> None:
    older = {"seed": 1, "logger": {"tensorboard": True, "csv": True}}
    assert complete(older)["logger"] == NOTHING | {"tensorboard": True}
    present = {"seed": 1, "logger": NOTHING | {"mlflow": MLFLOW}}
    assert complete(present)["logger"] == present["logger"]
