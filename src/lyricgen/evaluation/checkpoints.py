"""Checkpoints to evaluate, each with the text that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lyricgen.data.build import build_parts, find_corpus
from lyricgen.data.corpus import EncodedCorpus
from lyricgen.data.options import DataOptions
from lyricgen.data.parts import Part
from lyricgen.errors import UserError
from lyricgen.evaluation.comparison import check_same_objective, labels_of
from lyricgen.models.files.checkpoint import load
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from lyricgen.runs.listing import checkpoint_in
from lyricgen.settings import DECIDING, SPLITTING

ANOTHER_TEXT = "--text FILE scores a text of your own"


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint and its text.

    Attributes:
        label: what to call it, no two the same.
        path: of the file.
        model: that it holds.
        options: of the text.
        corpus: the whole text.
        parts: the same, split and laid out as the model reads it.
    """

    label: str
    path: Path
    model: TrainedModel
    options: DataOptions
    corpus: EncodedCorpus
    parts: dict[str, Part]

    @property
    def label_and_text(self) -> str:
        """Label and text, as in "lstm 1x256 on dino"."""
        return f"{self.label} on {self.corpus.name}"

    def check_part(self, name: str) -> None:
        """Refuse a part that the text does not have.

        Raises:
            UserError: it has no such part.
        """
        if name not in self.parts:
            raise UserError(f"--part {name}: the text has only {' and '.join(self.parts)}")


def open_checkpoints(paths: Sequence[Path]) -> list[Evaluated]:
    """Load checkpoints and the text that they were trained on, one for all.

    Args:
        paths: checkpoints or directories of runs, at least one.

    Raises:
        UserError: one cannot be loaded, its text is not there or another one by now, or two of
            them do not compare.
    """
    files = [checkpoint_in(path) for path in paths]
    models = [load(file) for file in files]
    options = [_options(file, model) for file, model in zip(files, models, strict=True)]
    for file, model, chosen in zip(files, models, options, strict=True):
        same = model.text is not None and model.text == models[0].text
        _check_same_settings(file, options[0], chosen, SPLITTING if same else DECIDING)
        _check_same_text(file, models[0].text, model.text)
    check_same_objective(files, models)
    corpus = _corpus(models[0], files[0], options[0])
    for file, model in zip(files, models, strict=True):
        _check_text(file, model, corpus)
    names = [str(model.options.get("name", "")) for model in models]
    return [
        Evaluated(label, file, model, chosen, corpus, build_parts(chosen, corpus, model.layout))
        for label, file, model, chosen in zip(
            labels_of(files, models, names), files, models, options, strict=True
        )
    ]


def _options(file: Path, model: TrainedModel) -> DataOptions:
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
            f"{str(file)!r} does not say on which text it was trained ({error}); {ANOTHER_TEXT}"
        ) from error


def _corpus(model: TrainedModel, file: Path, options: DataOptions) -> EncodedCorpus:
    try:
        return find_corpus(options, model.text, file)
    except UserError as error:
        raise UserError(
            f"the text that {str(file)!r} was trained on: {error}; or {ANOTHER_TEXT}"
        ) from error


def _check_text(file: Path, model: TrainedModel, corpus: EncodedCorpus) -> None:
    if model.vocabulary != corpus.vocabulary or model.text not in (None, corpus.digest):
        raise UserError(
            f"{str(file)!r} was trained on another text than {corpus.name!r} is now: bring that "
            f"text back; or {ANOTHER_TEXT}"
        )


def _check_same_text(file: Path, first: str | None, other: str | None) -> None:
    if None not in (first, other) and first != other:
        raise UserError(
            f"{str(file)!r} was trained on another text than the first checkpoint: only those of "
            "the same text and split compare"
        )


def _check_same_settings(
    file: Path, first: DataOptions, other: DataOptions, names: Sequence[str]
) -> None:
    for name in names:
        mine, others = (getattr(options, name) for options in (first, other))
        if mine != others:
            raise UserError(
                f"{str(file)!r} has data.{name}={others}, the first checkpoint {mine}: only those "
                "of the same text and split compare"
            )
