"""What conf/ offers: groups and their choices."""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

_PACKAGED = Path(__file__).parent / "conf"  # in a wheel
_CHECKOUT = Path(__file__).parents[2] / "conf"  # in an editable install
CONFIG_DIRECTORY = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


@cache
def default_choices() -> dict[str, str | None]:
    """The groups of conf/train.yaml, each with its default choice."""
    train: Any = OmegaConf.to_container(OmegaConf.load(CONFIG_DIRECTORY / "train.yaml"))
    named = [entry for entry in train["defaults"] if isinstance(entry, dict)]
    pairs = [pair for entry in named for pair in entry.items()]
    return {group: choice for group, choice in pairs if not group.startswith("override ")}


def group_choices(group: str) -> list[str]:
    """The choices of a group, those of its subfolders included."""
    folder = CONFIG_DIRECTORY / group
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )
