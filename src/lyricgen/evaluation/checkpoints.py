"""Checkpoints to evaluate, and the text that they were trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lyricgen.data.build import build_splits, find_corpus
from lyricgen.data.corpus import EncodedCorpus
from lyricgen.data.options import DataOptions
from lyricgen.data.splits import Split
from lyricgen.errors import UserError
from lyricgen.models.files.checkpoint import load
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from lyricgen.runs.newest import checkpoint_in
from lyricgen.settings import DECIDING, SPLITTING

ANOTHER_TEXT = "--text FILE scores a text of your own"
SAME_TEXT = "only those of the same text and split compare"


@dataclass(frozen=True)
class Checkpoint:
    """A model from a file.

    Attributes:
        label: what to call it, no two the same.
        path: of the file.
        model: that it holds.
    """

    label: str
    path: Path
    model: TrainedModel


@dataclass(frozen=True)
class Evaluated(Checkpoint):
    """A checkpoint and its text.

    Attributes:
        options: of the text.
        corpus: the whole text.
        splits: the same, split and laid out as the model reads it.
    """

    options: DataOptions
    corpus: EncodedCorpus
    splits: dict[str, Split]

    @property
    def label_and_text(self) -> str:
        """Label and text, as in "lstm 1x256 on dino"."""
        return f"{self.label} on {self.corpus.name}"

    def check_split(self, name: str) -> None:
        """Refuse a split that the text does not have.

        Raises:
            UserError: it has no such split.
        """
        if name not in self.splits:
            raise UserError(f"--split {name}: the text has only {' and '.join(self.splits)}")


def load_checkpoints(paths: Sequence[Path]) -> list[Checkpoint]:
    """Load checkpoints, without the text that they were trained on.

    Labels are made distinct by the runs' names, then by their directories, then by numbers.

    Args:
        paths: checkpoints or directories of runs, at least one.

    Raises:
        UserError: one cannot be loaded, or some predict from one side and some from both.
    """
    files = [checkpoint_in(path) for path in paths]
    models = [load(file) for file in files]
    for file, model in zip(files, models, strict=True):
        if model.fills_gaps != models[0].fills_gaps:
            raise UserError(
                f"{str(file)!r} does not compare with the first checkpoint: one predicts a "
                "character from both sides (objective=fill), the other from those before it"
            )
    names = [str(model.options.get("name", "")) for model in models]
    runs = [file.parent.parent.name for file in files]
    labels = [model.network.description for model in models]
    for further in (names, runs, range(1, len(files) + 1)):
        labels = [
            f"{label} ({more})" if labels.count(label) > 1 else label
            for label, more in zip(labels, further, strict=True)
        ]
    return [Checkpoint(*each) for each in zip(labels, files, models, strict=True)]


def open_checkpoints(paths: Sequence[Path]) -> list[Evaluated]:
    """Load checkpoints and the text that they were trained on, one for all.

    Args:
        paths: checkpoints or directories of runs, at least one.

    Raises:
        UserError: one cannot be loaded, its text is not there or another one by now, or two of
            them do not compare.
    """
    checkpoints = load_checkpoints(paths)
    options = [_options(each) for each in checkpoints]
    first = checkpoints[0]
    for each, chosen in zip(checkpoints, options, strict=True):
        digests = (first.model.text, each.model.text)
        same = None not in digests and digests[0] == digests[1]
        check_same_settings(each.path, options[0], chosen, SPLITTING if same else DECIDING)
        if None not in digests and not same:
            raise UserError(
                f"{str(each.path)!r} was trained on another text than the first checkpoint: "
                f"{SAME_TEXT}"
            )
    try:
        corpus = find_corpus(options[0], first.model.text, first.path)
    except UserError as error:
        raise UserError(
            f"the text that {str(first.path)!r} was trained on: {error}; or {ANOTHER_TEXT}"
        ) from error
    for each in checkpoints:
        known = each.model.text in (None, corpus.digest)
        if not known or each.model.vocabulary != corpus.vocabulary:
            raise UserError(
                f"{str(each.path)!r} was trained on another text than {corpus.name!r} is now: "
                f"bring that text back; or {ANOTHER_TEXT}"
            )
    return [
        Evaluated(
            label=each.label,
            path=each.path,
            model=each.model,
            options=chosen,
            corpus=corpus,
            splits=build_splits(chosen, corpus, each.model.layout),
        )
        for each, chosen in zip(checkpoints, options, strict=True)
    ]


def _options(checkpoint: Checkpoint) -> DataOptions:
    model = checkpoint.model
    try:
        if not model.options.get("data"):
            raise UserError("data: is missing")
        options: DataOptions = validate(DataOptions, model.options["data"])
        sampler = model.options.get("sampler", {}).get("kind")
        if (sampler == "lines") != (model.layout == "lines"):
            raise UserError(f"sampler.kind={sampler} is not what it reads")
        return options
    except UserError as error:
        raise UserError(
            f"{str(checkpoint.path)!r} does not say on which text it was trained ({error}); "
            f"{ANOTHER_TEXT}"
        ) from error


def check_same_settings(
    file: Path, first: DataOptions, other: DataOptions, names: Sequence[str]
) -> None:
    """Refuse a checkpoint whose text differs from the first one's in a setting.

    Raises:
        UserError: the first setting of `names` that differs.
    """
    for name in names:
        mine, others = (getattr(options, name) for options in (first, other))
        if mine != others:
            raise UserError(
                f"{str(file)!r} has data.{name}={others}, the first checkpoint {mine}: {SAME_TEXT}"
            )
