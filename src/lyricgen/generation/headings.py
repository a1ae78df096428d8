"""Headings of models side by side: the settings in which they differ, else their paths."""

from collections.abc import Sequence
from pathlib import Path

from lyricgen.models.trained_model import TrainedModel
from lyricgen.settings import PLUMBING, Settings, among, flatten, known_to_model, typed_value

MOST = 4  # settings in a heading


def headings(paths: Sequence[Path], models: Sequence[TrainedModel]) -> list[str]:
    """Give each model a heading of its own."""
    settings = [known_to_model(flatten(model.options)) for model in models]
    names = _differing(settings)[:MOST]
    found = [
        ", ".join(f"{name}={typed_value(one[name])}" for name in names if name in one)
        for one in settings
    ]
    places = _differing_parts(paths)
    for further in (places, [str(number) for number in range(1, len(paths) + 1)]):
        found = [
            ", ".join(part for part in (one, more) if part)
            if found.count(one) > 1 or not one
            else one
            for one, more in zip(found, further, strict=True)
        ]
    return found


def _differing(settings: Sequence[Settings]) -> list[str]:
    """Settings in which models differ, without those of groups that differ themselves."""
    differing: list[str] = []
    keys = dict.fromkeys(name for one in settings for name in one)
    for name in sorted(keys, key=lambda name: name.count(".")):
        values = {one[name] for one in settings if name in one}
        if len(values) > 1 and not among(name, (*PLUMBING, *differing)):
            differing.append(name)
    return differing


def _differing_parts(paths: Sequence[Path]) -> list[str]:
    """Parts in which paths differ."""
    parts = [path.parts for path in paths]
    length = min(map(len, parts))
    same = [len({one[i] for one in parts}) == 1 for i in range(length)]
    ends = [len({one[-1 - i] for one in parts}) == 1 for i in range(length)]
    first = same.index(False) if False in same else length
    last = ends.index(False) if False in ends else length
    return ["/".join(one[first : max(first, len(one) - last)]) for one in parts]
