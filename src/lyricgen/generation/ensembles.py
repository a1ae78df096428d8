"""Ensembles: trained models joined as one, with weights fitted on their validation split.

Shapes: N members, M characters of the split, P of these with whole distributions, V vocabulary.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.batch import IGNORED, Batch
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import RARE_SYMBOL, Vocabulary
from lyricgen.errors import UserError
from lyricgen.generation.training_text import find_splits
from lyricgen.models.architectures import MOST_MEMBERS, Averaging, EnsembleArchitecture
from lyricgen.models.cells.cell import State
from lyricgen.models.ensemble import EnsembleModel, is_ensemble
from lyricgen.models.memory_model import is_memory
from lyricgen.models.model import compute_nats
from lyricgen.models.scoring import check_finite, read_split
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from lyricgen.settings import DECIDING, SPLITTING

MOST_NUMBERS = 2**25  # most numbers of the distributions by which the averages are compared, about
AT_ONCE = 2**21  # most of these numbers that are converted to float64 at a time
WINDOW = 16  # characters that are chosen together, so that lines of one length are read everywhere
STEPS, GAP = 50, 1e-6  # of the fit: most steps, and most nats per character above the least loss
KEPT_OPTIONS = ("data", "sampler", "callbacks")  # of the members' runs, for an ensemble

# a loss in nats per character, (), its gradient, (N,), and its second derivatives, (N, N)
Terms: TypeAlias = tuple[Tensor, Tensor, Tensor]

log = logging.getLogger(__name__)


def join_models(
    models: Sequence[TrainedModel], splits: Mapping[str, Split] | None = None
) -> TrainedModel:
    """Join models as one that averages their distributions.

    The average, arithmetic or geometric, and the weights are those that are best on the validation
    split of the models' text. If there is none, or the models have learnt different texts, the
    average is arithmetic with equal weights. The log tells the average, the weights, and why.

    Args:
        models: two or more models that continue texts of the same layout.
        splits: splits of the text of all models, if they are known; None to look for the text.

    Raises:
        UserError: a model fills gaps, has another layout or is an ensemble, too few characters are
            in all vocabularies, there are too many models, or a model predicts no probabilities.
    """
    _check_kinds(models)
    first, vocabulary = models[0], _share_vocabulary(models)
    network = _build_network(models, vocabulary.characters)
    why = None if splits is not None else _find_difference(models)
    same, lengths = why is None, [one.longest_line for one in models]
    joined = replace(
        first,
        network=network,
        vocabulary=vocabulary,
        lowercase=any(one.lowercase for one in models),
        options={key: first.options[key] for key in KEPT_OPTIONS if same and key in first.options},
        corpus_digest=first.corpus_digest if same else None,
        longest_line=None if None in lengths else max(filter(None, lengths), default=None),
    )
    if same and splits is None:
        try:
            reader = replace(first, vocabulary=vocabulary)
            splits = find_splits(reader, "a fit of the weights", "text")
        except UserError as error:
            why = str(error)
    how = f"equal weights: {why or 'the text has no validation split'}"
    if splits is not None and "val" in splits:
        combination, weights = fit_weights(joined, splits["val"])
        fitted = {"combination": combination, "weights": tuple(weights)}
        network.architecture = network.architecture.model_copy(update=fitted)
        how = f"weights {' '.join(f'{weight:.2f}' for weight in weights)} by the validation split"
    average = network.architecture.combination
    log.info("ensemble of %d models, %s average, %s", len(models), average, how)
    return joined


def _check_kinds(models: Sequence[TrainedModel]) -> None:
    if not 2 <= len(models) <= MOST_MEMBERS:
        raise UserError(
            f"an ensemble has 2 to {MOST_MEMBERS} models, not {len(models)}: name more, or fewer"
        )
    for number, one in enumerate(models):
        name = "a model" if one.file is None else repr(str(one.file))
        if one.file is not None and one.file in [each.file for each in models[:number]]:
            raise UserError(f"{name} is named twice: name each model once")
        if one.fills_gaps:
            raise UserError(f"{name} fills gaps, and an ensemble continues texts: leave it out")
        if is_ensemble(one.network):
            raise UserError(f"{name} is an ensemble already: name its members instead")
        if is_memory(one.network):
            raise UserError(
                f"{name} has a memory of its own, and the members of an ensemble have none: leave "
                "it out"
            )
        if one.layout != models[0].layout:
            layouts = {"lines": "single lines", "documents": "documents", "stream": "running text"}
            raise UserError(
                f"{name} writes {layouts[one.layout]}, the first model {layouts[models[0].layout]}:"
                " an ensemble needs models of one kind"
            )


def _share_vocabulary(models: Sequence[TrainedModel]) -> Vocabulary:
    """Make the vocabulary of the characters that all models know; tell if some know more.

    Rare characters are left out unless they are the same in all models.
    """
    known = [one.vocabulary.characters for one in models]
    in_all = set(known[0]).intersection(*known[1:])
    rare = {one.vocabulary.rare for one in models}
    in_all -= set(RARE_SYMBOL * (len(rare) > 1))
    shared = "".join(character for character in known[0] if character in in_all)
    if len(shared) < 2:
        raise UserError(
            f"the models have {len(shared)} characters in common, and an ensemble needs 2: name "
            "models of one language"
        )
    if any(each != shared for each in known):
        sizes = ", ".join(f"{len(each):,}" for each in known)
        log.info("the ensemble knows %s characters, those of all models (%s)", len(shared), sizes)
    return Vocabulary(shared, rare.pop() if len(rare) == 1 else "")


def _find_difference(models: Sequence[TrainedModel]) -> str | None:
    """Say why the models have no text in common; None if they have one."""
    settings = [one.options.get("data") for one in models]
    if not all(isinstance(each, dict) for each in settings):
        return "a model does not say which text it has learnt"
    digests = {one.corpus_digest for one in models}
    names = DECIDING if None in digests else SPLITTING
    chosen = [[each.get(name) for name in names] for each in settings if isinstance(each, dict)]
    if len(digests) > 1 or any(each != chosen[0] for each in chosen):
        return "the models have learnt different texts, or other parts or characters of one"
    return None


def _build_network(models: Sequence[TrainedModel], characters: str) -> EnsembleModel:
    """Build an ensemble with equal weights."""
    described = {
        "kind": "ensemble",
        "vocabulary_size": len(characters),
        "members": [one.network.architecture for one in models],
        "weights": [1 / len(models)] * len(models),
        "combination": "arithmetic",
        "ids": [
            None
            if one.vocabulary.characters == characters
            else one.vocabulary.encode(characters).tolist()
            for one in models
        ],
    }
    architecture: EnsembleArchitecture = validate(EnsembleArchitecture, described)
    return EnsembleModel(architecture, [one.next_model for one in models]).eval()


def fit_weights(model: TrainedModel, split: Split) -> tuple[Averaging, list[float]]:
    """Find the average and the weights of an ensemble that are best on a split.

    Both averages are compared on the same characters, at most about `MOST_NUMBERS` / (N·V).

    Raises:
        UserError: a member predicts no probabilities, or the ids of the split are damaged.
    """
    own, logs, targets = read_members(model, split)
    seen = logs.gather(-1, targets.expand(len(logs), -1)[..., None])[..., 0].double()  # (N, P)
    equal = torch.full_like(own[:, 0], 1 / len(own))
    arithmetic = minimise_on_simplex(lambda some: arithmetic_terms(own, some), equal)
    geometric = minimise_on_simplex(lambda some: geometric_terms(logs, seen, some), equal)
    if geometric_terms(logs, seen, geometric)[0] < arithmetic_terms(seen, arithmetic)[0]:
        return "geometric", geometric.tolist()
    return "arithmetic", arithmetic.tolist()


def read_members(model: TrainedModel, split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """Read a split with the members of an ensemble; `fit_weights` explains the errors.

    Returns:
        Log-probabilities of all M characters by each member, (N, M) float64; distributions of P
        evenly spread characters, (N, P, V) log-probabilities; and the ids of these, (P,).
    """
    network = cast(EnsembleModel, model.network)
    numbers = len(split.ids) * len(network.members) * network.vocabulary_size
    every = -(-numbers // MOST_NUMBERS)  # one window of this many is chosen
    room = "cpu" if network.device.type == "mps" else network.device  # mps has no float64

    def read(batch: Batch, state: State | None) -> tuple[Tensor, State]:
        logits, state = network.read_members(batch.inputs, state)
        return torch.stack(network.restrict(logits)).log_softmax(-1), state

    own, whole, targets = [], [], []
    for batch, logs in read_split(model, split, "fitting the ensemble", read):  # (N, B, T, V)
        counted = batch.targets != IGNORED
        nats = torch.stack([compute_nats(each, batch) for each in logs])
        own.append(-nats[:, counted].to(room).double())
        places = batch.starts[:, None] + torch.arange(counted.shape[1], device=counted.device)
        kept = counted & (places // WINDOW % every == 0)
        whole.append(logs[:, kept].float().to(room))
        targets.append(batch.targets[kept].to(room))
    found = torch.cat(own, dim=1)
    for number, each in enumerate(found, start=1):
        check_finite(each, f"model {number} of the ensemble")
    return found, torch.cat(whole, dim=1), torch.cat(targets)


def arithmetic_terms(own: Tensor, weights: Tensor) -> Terms:
    """Compute the terms of the arithmetic average from log-probabilities, (N, M)."""
    whole = (own + weights.log()[:, None]).logsumexp(0)  # (M,)
    shares = (own - whole).exp()  # (N, M)
    return -whole.mean(), -shares.mean(1), shares @ shares.T / len(whole)


def geometric_terms(logs: Tensor, seen: Tensor, weights: Tensor) -> Terms:
    """Compute the terms of the geometric average from log-probabilities.

    They are those of all characters, (N, P, V), and `seen`, of those that stand there, (N, P).
    """
    count, places, size = logs.shape
    loss, slope = -(weights @ seen).sum(), -seen.sum(1)
    curvature = seen.new_zeros(count, count)
    for part in torch.split(logs, max(1, AT_ONCE // (count * size)), dim=1):
        exact = part.double()
        joint = torch.einsum("n,npv->pv", weights, exact)
        total = joint.logsumexp(-1, keepdim=True)
        weighed = exact * (joint - total).exp()  # (N, p, V)
        mean = weighed.sum(-1)  # (N, p)
        loss += total.sum()
        slope += mean.sum(1)
        curvature += weighed.flatten(1) @ exact.flatten(1).T - mean @ mean.T
    return loss / places, slope / places, curvature / places


def minimise_on_simplex(terms: Callable[[Tensor], Terms], weights: Tensor) -> Tensor:
    """Minimise a convex loss over weights that sum to one, (N,), from first, positive `weights`.

    Steps are those of Newton's method, damped until the loss falls (Levenberg and Marquardt). They
    multiply each weight: w (1 + move), so that a weight stays positive.
    """
    loss, slope, curvature = terms(weights)
    damping = 1e-3
    with progress("fitting the weights", STEPS) as moved:
        for step in range(STEPS):
            moved(step)
            downhill = weights @ slope - slope  # (N,)
            if downhill.max() < GAP:  # a convex loss is nowhere lower by more
                break
            bend = curvature @ (weights.diag() - weights.outer(weights))
            bend.diagonal().add_(damping)
            move = torch.linalg.solve(bend, downhill)
            tried = (weights * (1 + move - weights @ move)).clamp(min=1e-12)
            tried /= tried.sum()
            there = terms(tried)
            lower = bool(there[0] < loss)
            if lower:
                weights, (loss, slope, curvature) = tried, there
            damping = max(damping / 10, 1e-9) if lower else damping * 4
    weights = weights * (weights > 1e-9)
    return weights / weights.sum()
