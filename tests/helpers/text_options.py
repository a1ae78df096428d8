"""Options of a user's own text, with the defaults of conf/."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lyricgen.data.options import DataOptions
from lyricgen.settings import CONFIG_DIRECTORY, plain_settings, replace_auto


@cache
def text_defaults() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in ("base", "text"):
        values |= yaml.safe_load((CONFIG_DIRECTORY / "data" / f"{name}.yaml").read_text("utf-8"))
    values = {name: value for name, value in values.items() if name in DataOptions.model_fields}
    filled: dict[str, Any] = replace_auto({"data": values}, plain_settings())["data"]
    return filled


def options_of(path: str | Path | list[Any], **changed: Any) -> DataOptions:
    paths = [str(one) for one in path] if isinstance(path, list) else str(path)
    return DataOptions.model_validate({**text_defaults(), "path": paths, **changed})


def write(name: str, content: str | bytes = "") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
