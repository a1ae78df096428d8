"""Scores of checkpoints and baselines on the splits of a text.

Shapes: N symbols of a split, with the start symbols of lines; C characters of its text; B texts; T
time steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from lyricgen.console import progress
from lyricgen.data.build import build_splits, find_corpus
from lyricgen.data.corpus import EncodedCorpus, recode
from lyricgen.data.options import DataOptions
from lyricgen.data.splits import Split
from lyricgen.errors import UserError
from lyricgen.evaluation.intervals import Floats, Kind, Row, Series, SplitText, row
from lyricgen.generation.ensembles import join_models
from lyricgen.generation.remembering import check_own_memory, remember
from lyricgen.models.checkpoint import load
from lyricgen.models.memory_model import is_memory
from lyricgen.models.metrics import best_mixture_weight, mixture_nats
from lyricgen.models.ngram.language_model import NgramBaseline
from lyricgen.models.scoring import charge_characters, split_nats
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from lyricgen.runs.newest import checkpoint_in
from lyricgen.settings import DECIDING, SPLITTING

ORDERS = 5
ANOTHER_TEXT = "--text FILE scores a text of your own"
SAME_TEXT = "only those of the same text and split compare"


@dataclass(frozen=True)
class Checkpoint:
    """A model from a file."""

    kind: ClassVar[Kind] = "checkpoint"  # of its series

    label: str  # unique name in tables and plots
    path: Path
    model: TrainedModel


@dataclass(frozen=True)
class CheckpointWithText(Checkpoint):
    """A checkpoint and the text that it was trained on."""

    options: DataOptions  # options of the text
    corpus: EncodedCorpus
    splits: dict[str, Split]  # splits of the corpus, laid out as the model reads them

    @property
    def label_and_text(self) -> str:
        """Label and text, as in "lstm 1x256 on dino"."""
        return f"{self.label} on {self.corpus.name}"

    def choose_splits(self, name: str | None) -> list[str]:
        """List the names of all splits, or of one of them; `check_split` explains the errors."""
        if name is None:
            return list(self.splits)
        self.check_split(name)
        return [name]

    def check_split(self, name: str) -> None:
        """Raise a UserError if the text does not have the split `name`."""
        if name not in self.splits:
            raise UserError(f"--split {name}: the text has only {' and '.join(self.splits)}")


def load_checkpoints(
    paths: Sequence[Path], memory: Mapping[str, Any] | None = None, *, together: bool = False
) -> list[Checkpoint]:
    """Load models from model files or run directories, without the texts of their training.

    Equal labels are extended by the run's name, its directory or a number, until they differ.

    Args:
        paths: files or directories.
        memory: options of `remember`, which gives a memory to each model without one; None: no.
        together: whether to add the ensemble of all models, under the path of the first.

    Raises:
        UserError: a model cannot be found, loaded or joined or get a memory, or the figures of the
            models do not compare.
    """
    files = [checkpoint_in(path) for path in paths]
    models = [load(file) for file in files]
    if together:
        check_together(files)
        models.append(join_models(models))
        files.append(files[0])
    for model in models:
        check_own_memory(model, memory)
    if memory is not None:
        models = [
            model if is_memory(model.network) else remember(model, memory) for model in models
        ]
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


def open_checkpoints(
    paths: Sequence[Path], memory: Mapping[str, Any] | None = None
) -> list[CheckpointWithText]:
    """Load checkpoints and the text that all of them were trained on.

    `load_checkpoints` explains the arguments.

    Raises:
        UserError: a checkpoint cannot be loaded, or as for `add_text`.
    """
    return add_text(load_checkpoints(paths, memory))


def add_text(checkpoints: Sequence[Checkpoint]) -> list[CheckpointWithText]:
    """Read the text that all checkpoints were trained on.

    Raises:
        UserError: the text is unknown, missing or changed, or the checkpoints cannot be compared.
    """
    options = [_text_options(each) for each in checkpoints]
    first = checkpoints[0]
    for each, chosen in zip(checkpoints, options, strict=True):
        digests = (first.model.corpus_digest, each.model.corpus_digest)
        same = None not in digests and digests[0] == digests[1]
        check_same_settings(each.path, options[0], chosen, SPLITTING if same else DECIDING)
        if None not in digests and not same:
            raise UserError(
                f"{str(each.path)!r} was trained on another text than the first checkpoint: "
                f"{SAME_TEXT}"
            )
    try:
        corpus = find_corpus(options[0], first.model.corpus_digest, first.path)
    except UserError as error:
        raise UserError(
            f"the text that {str(first.path)!r} was trained on: {error}; or {ANOTHER_TEXT}"
        ) from error
    for each in checkpoints:
        known = each.model.corpus_digest in (None, corpus.digest)
        if not known or not each.model.vocabulary.knows(corpus.vocabulary.characters).all():
            raise UserError(
                f"{str(each.path)!r} was trained on another text than {corpus.name!r} is now: "
                f"bring that text back; or {ANOTHER_TEXT}"
            )
    found = []
    for each, chosen in zip(checkpoints, options, strict=True):
        own = recode(corpus, each.model.vocabulary)  # it also has the characters of init_from
        splits = build_splits(chosen, own, each.model.layout)
        found.append(CheckpointWithText(each.label, each.path, each.model, chosen, own, splits))
    return found


def check_together(checkpoints: Sequence[object]) -> None:
    """Raise a UserError for a single checkpoint, which cannot be an ensemble."""
    if len(checkpoints) < 2:
        raise UserError("--together needs two checkpoints or more")


def check_left_to_right(option: str, evaluated: Checkpoint) -> None:
    """Raise a UserError for an option that is no use for a model that fills gaps."""
    if evaluated.model.fills_gaps:
        raise UserError(
            f"{option} asks what the characters before are worth, and this model sees both sides: "
            "leave it out"
        )


def _text_options(checkpoint: Checkpoint) -> DataOptions:
    model = checkpoint.model
    try:
        if not model.options.get("data"):
            raise UserError("data: is missing")
        options: DataOptions = validate(DataOptions, model.options["data"])
        sampler = model.options.get("sampler", {}).get("kind")
        if (sampler == "lines") != (model.layout != "stream"):
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
    """Refuse the checkpoint `file` if settings of its text differ from the first checkpoint's.

    Raises:
        UserError: a setting in `names` differs between `first` and `other`.
    """
    for name in names:
        first_value, value = (getattr(options, name) for options in (first, other))
        if first_value != value:
            raise UserError(
                f"{str(file)!r} has data.{name}={value}, the first checkpoint {first_value}: "
                f"{SAME_TEXT}"
            )


class Ngrams(NamedTuple):
    """Kneser-Ney models of the training split, scored on the held-out splits."""

    nats: dict[str, list[Floats]]  # by held-out split, (C,) for each order from 1 to `ORDERS`
    best: int | None  # the best order on the validation split; None if it was not scored
    characters: int  # number of counted characters


class Scores(NamedTuple):
    """Scores of checkpoints and baselines on one text."""

    evaluated: list[CheckpointWithText]
    splits: dict[str, list[Row]]  # by split, a row for each checkpoint, then for each baseline
    texts: dict[str, SplitText]  # by split
    ngrams: Ngrams  # empty if no held-out split is scored, or for models that fill gaps
    mixture_weights: dict[str, float]  # by label, share of a network in its mixture
    resamples: int
    seed: int

    @property
    def prefix(self) -> str:
        """Prefix of the names of perplexity and bits: "pseudo_" for models that fill gaps."""
        return self.evaluated[0].model.network.metric_prefix


def score_splits(
    evaluated: list[CheckpointWithText], splits: Sequence[str], *, resamples: int, seed: int
) -> Scores:
    """Score checkpoints and baselines on splits, and compare each with the first checkpoint.

    Each interval comes from `resamples` texts, drawn with `seed`. The text must have all `splits`.

    Raises:
        UserError: as for `split_nats`.
    """
    first = evaluated[0]
    needed = {*splits, "val"} if "test" in splits else {*splits}  # mixtures are tuned on val
    series: dict[str, list[Series]] = {split: [] for split in first.splits if split in needed}
    for split, of_split in series.items():
        for each in evaluated:
            nats = split_nats(each.model, each.splits[split], f"scoring {split} with {each.label}")
            of_split.append(Series(each.label, each.kind, nats))
    ngrams, weights = Ngrams({}, None, 0), {}
    vocabulary, unit = first.corpus.vocabulary, first.corpus.unit
    if not first.model.fills_gaps:  # no baseline sees both sides of a character
        if set(splits) != {"train"}:
            ngrams = count_ngrams(first)
            weights = mixture_weights(evaluated, series.get("val", []), ngrams)
        for split, of_split in series.items():
            of_split.extend(baselines(split, of_split, ngrams, weights, vocabulary.num_distinct))
    texts = {split: SplitText.of(first.splits[split], vocabulary, unit) for split in splits}
    rows: dict[str, list[Row]] = {split: [] for split in splits}
    with progress("resampling", sum(len(series[split]) for split in splits)) as moved:
        for split in splits:
            reference, text = series[split][0], texts[split]
            for scored in series[split]:
                rows[split].append(row(scored, reference, text, resamples=resamples, seed=seed))
                moved(sum(map(len, rows.values())))
    return Scores(evaluated, rows, texts, ngrams, weights, resamples, seed)


def count_ngrams(evaluated: CheckpointWithText) -> Ngrams:
    """Count n-grams of the training split; score the held-out splits with orders 1 to `ORDERS`.

    At most the last `callbacks.baseline.max_chars` characters are counted, as in training.
    """
    splits, vocabulary = evaluated.splits, evaluated.corpus.vocabulary
    max_chars = evaluated.model.options["callbacks"]["baseline"]["max_chars"]
    baseline = NgramBaseline(splits, len(vocabulary), ORDERS, max_chars)
    nats: dict[str, list[Floats]] = {split: [] for split in splits if split != "train"}
    for scored in baseline.nats_by_order("kneser_ney"):
        for split, of_split in scored.items():
            nats[split].append(charge_characters(of_split, splits[split], vocabulary))
    best = None
    if "val" in nats:
        best = int(np.argmin([np.nanmean(each) for each in nats["val"]])) + 1
    return Ngrams(nats, best, baseline.characters)


def mixture_weights(
    evaluated: Sequence[CheckpointWithText], validation: Sequence[Series], ngrams: Ngrams
) -> dict[str, float]:
    """Find the best share of each network, by label, in a mixture with the best n-gram model.

    Shares are tuned on the validation split; without it there are none. Checkpoints that count
    n-grams get none either.
    """
    weights = {}
    for each, series in zip(evaluated, validation, strict=False):
        if ngrams.best is not None and each.model.network.mixes_with_ngrams:
            ngram = ngrams.nats["val"][ngrams.best - 1]
            both = ~(np.isnan(series.nats) | np.isnan(ngram))
            pair = (torch.from_numpy(nats[both]) for nats in (series.nats, ngram))
            weights[each.label] = best_mixture_weight(*pair)
    return weights


def baselines(
    split: str, checkpoints: Sequence[Series], ngrams: Ngrams, weights: dict[str, float], size: int
) -> list[Series]:
    """Make the series of mixtures, n-grams and the uniform distribution over `size` characters.

    `weights` holds the share of each network in its mixture, by label. The training split gets only
    the uniform distribution, because its n-grams are counted by the n-gram models.
    """
    found, by_order = [], ngrams.nats.get(split, [])
    if ngrams.best is not None and by_order:
        best = torch.from_numpy(by_order[ngrams.best - 1])
        for name, _, nats in checkpoints:
            if name in weights:
                mixed = mixture_nats(weights[name], torch.from_numpy(nats), best).numpy()
                found.append(Series(f"{ngrams.best}-gram mixed with {name}", "mixture", mixed))
    for order in range(len(by_order), 1, -1):
        found.append(Series(f"{order}-gram", "ngram", by_order[order - 1]))
    if by_order:
        found.append(Series("unigram", "unigram", by_order[0]))
    uniform = np.where(np.isnan(checkpoints[0].nats), np.nan, math.log(size))
    return [*found, Series("uniform", "uniform", uniform)]
