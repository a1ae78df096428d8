"""What to call checkpoints, no two the same."""

from pathlib import Path

from lyricgen.model.trained_model import TrainedModel


def labels_of(files: list[Path], models: list[TrainedModel], names: list[str]) -> list[str]:
    """What they are; where that is the same, with the run's name; at last with a number."""
    labels = [model.network.description for model in models]
    runs = [file.parent.parent.name for file in files]
    for further in (names, runs, [str(number) for number in range(1, len(files) + 1)]):
        labels = [
            f"{label} ({more})" if labels.count(label) > 1 else label
            for label, more in zip(labels, further, strict=True)
        ]
    return labels
