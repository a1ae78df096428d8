"""Checkpoints side by side: whether they compare, and what to call them and their figures."""

from pathlib import Path

from lyricgen.errors import UserError
from lyricgen.models.trained_model import TrainedModel


def labels_of(files: list[Path], models: list[TrainedModel], names: list[str]) -> list[str]:
    """Labels, made distinct by the names of the runs and, if these are equal, by numbers."""
    labels = [model.network.description for model in models]
    runs = [file.parent.parent.name for file in files]
    for further in (names, runs, [str(number) for number in range(1, len(files) + 1)]):
        labels = [
            f"{label} ({more})" if labels.count(label) > 1 else label
            for label, more in zip(labels, further, strict=True)
        ]
    return labels


def prefix_of(model: TrainedModel) -> str:
    """Prefix of the names of perplexity and bits: "pseudo_" for a model that fills gaps."""
    return "pseudo_" if model.fills_gaps else ""


def check_same_objective(files: list[Path], models: list[TrainedModel]) -> None:
    """Refuse models that predict characters from one side beside those that do from both.

    Raises:
        UserError: one differs from the first.
    """
    for file, model in zip(files, models, strict=True):
        if model.fills_gaps != models[0].fills_gaps:
            raise UserError(
                f"{str(file)!r} does not compare with the first checkpoint: one predicts a "
                "character from both sides (objective=fill), the other from those before it"
            )
