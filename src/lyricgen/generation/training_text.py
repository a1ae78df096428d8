"""Names and n-grams that generation takes from the training text of a model."""

from dataclasses import replace
from typing import TypeVar

import torch

from lyricgen.data.build import build_splits, find_corpus
from lyricgen.data.corpus import recode
from lyricgen.data.options import DataOptions
from lyricgen.data.splits import Split
from lyricgen.errors import UserError
from lyricgen.models.ensemble import is_ensemble
from lyricgen.models.hybrid_building import join_ngrams
from lyricgen.models.ngram.language_model import NgramBaseline
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import flatten

T = TypeVar("T", bound=TrainedModel)


def training_names(model: TrainedModel) -> frozenset[str]:
    """Read the lines or documents of a model's training split from its corpus.

    Raises:
        UserError: the model names no corpus, or the corpus is missing, unreadable or changed.
    """
    text = find_splits(model, "--novel", "names")["train"].text(model.vocabulary)
    end = model.end or "\n"
    return frozenset(text.removesuffix(end).split(end))


def final_mixture(model: T) -> T:
    """Mix the network of a run with n-grams, as the run did at its end.

    The n-grams are counted again in the training split. The summary of the run has their order and
    the weight of the network, which the validation split determined for the best checkpoint.

    Raises:
        UserError: the model is no network of a run with a mixture, or its corpus is missing,
            unreadable or changed.
    """
    if model.fills_gaps or not model.network.mixes_with_ngrams:
        raise UserError(
            f"this model is {model.network.description}, and --mixture is for runs with "
            "model=recurrent that continue texts: leave it out"
        )
    if model.file is None:
        raise UserError("--mixture needs the run of the model: load its directory")
    try:
        summary = RunSummary.read(model.file.parent.parent)
    except UserError as error:
        raise UserError(f"--mixture needs the run of the model: {error}") from error
    weight, order = summary.mixture_network_weight, summary.ngram_order
    if weight is None or order is None:
        raise UserError(
            "--mixture: the run has none, since it has not ended, or without "
            "callbacks.baseline.enabled=true and a validation split: leave --mixture out"
        )
    split = find_splits(model, "--mixture", "text")["train"]
    most = flatten(summary.options or {}).get("callbacks.baseline.max_chars")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise UserError(f"--mixture: summary.json has callbacks.baseline.max_chars={most!r}")
    counts = NgramBaseline({"train": split}, len(model.vocabulary), order, most).counts
    network = model.recurrent_model
    mixed = join_ngrams(network.architecture, counts, order, combination="mixture")
    mixed.network = network
    shares = [0.0] * (order - 1) + [1 - weight, weight]
    with torch.no_grad():
        mixed.on_hidden.bias.copy_(torch.tensor(shares, dtype=torch.float64).log())
    return replace(model, network=mixed.to(network.output.bias).eval())


def find_splits(model: TrainedModel, needing: str, kind: str) -> dict[str, Split]:
    """Find the splits of a model's text; `needing` needs them, and messages call them `kind`.

    Raises:
        UserError: the model names no corpus, or the corpus is missing, unreadable or changed.
    """
    values = model.options.get("data")
    if not values:
        who = "the checkpoint does not say which {} it has learnt"
        if is_ensemble(model.network):
            who = "the members of the ensemble have not learnt the same {}"
        raise UserError(f"{needing}: {who.format(kind)}")
    needed = f"{needing} needs the {kind} that the model has learnt"
    try:
        data: DataOptions = validate(DataOptions, values)
        corpus = find_corpus(data, model.corpus_digest, model.file)
    except UserError as error:
        raise UserError(f"{needed}: {error}") from error
    known = model.vocabulary.knows(corpus.vocabulary.characters).all()
    if not known or model.corpus_digest not in (None, corpus.digest):
        raise UserError(f"{needed}, and {corpus.name!r} has others now: bring that text back")
    return build_splits(data, recode(corpus, model.vocabulary), model.layout)
