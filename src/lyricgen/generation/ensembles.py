"""Ensembles: trained models joined as one, with weights fitted on their validation split.

Shapes: N members, M characters of the split, P of these with whole distributions, V vocabulary.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.data.batch import IGNORED, BatchLoader
from lyricgen.data.samplers import evaluation_sampler
from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.generation.training_text import find_splits
from lyricgen.models.architectures import MOST_MEMBERS, Averaging, EnsembleArchitecture
from lyricgen.models.ensemble import EnsembleModel, is_ensemble
from lyricgen.models.memory_model import is_memory
from lyricgen.models.model import compute_nats, eval_mode
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from lyricgen.settings import DECIDING, SPLITTING

MOST_NUMBERS = 2**25  # most numbers of the distributions by which geometric weights are fitted
AT_ONCE = 2**21  # most of these numbers that are converted to float64 at a time
WINDOW = 16  # neighbouring characters that are chosen together
NEWTON_STEPS, PAIR_STEPS = 30, 3000  # most steps of the fit, and of the fit of a parabola
SMALLEST_GAIN = 1e-9  # nats per character by which a step improves the weights, else it is the last
KEPT_OPTIONS = ("data", "sampler", "callbacks")  # of the members' runs, for an ensemble

Floats = npt.NDArray[np.float64]

log = logging.getLogger(__name__)


class Joined(NamedTuple):
    """An ensemble and the weights of its members."""

    model: TrainedModel
    combination: Averaging
    weights: list[float]


class Terms(NamedTuple):
    """A loss in nats per character, its gradient, (N,), and its second derivatives, (N, N)."""

    loss: float
    slope: Floats
    curvature: Floats


def join_models(
    models: Sequence[TrainedModel], splits: Mapping[str, Split] | None = None
) -> Joined:
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
    first, count = models[0], len(models)
    characters = _share_characters(models)
    why = None if splits is not None else _find_difference(models)
    same = why is None
    if same and splits is None:
        try:
            splits = find_splits(first, "a fit of the weights", "text")
        except UserError as error:
            why = str(error)
    combination: Averaging = "arithmetic"
    weights = [1 / count] * count
    network = _build_network(models, characters, combination, weights)
    if splits is not None and "val" in splits:
        combination, weights = fit_weights(network, splits["val"])
        network = _build_network(models, characters, combination, weights)
        how = f"weights {' '.join(f'{weight:.2f}' for weight in weights)} by the validation split"
    else:
        how = f"equal weights: {why or 'the text has no validation split'}"
    log.info("ensemble of %d models, %s average, %s", count, combination, how)
    lengths = [one.longest_line for one in models]
    joined = replace(
        first,
        network=network,
        vocabulary=Vocabulary(characters),
        lowercase=any(one.lowercase for one in models),
        options={key: first.options[key] for key in KEPT_OPTIONS if same and key in first.options},
        corpus_digest=first.corpus_digest if same else None,
        longest_line=None if None in lengths else max(filter(None, lengths), default=None),
    )
    return Joined(joined, combination, weights)


def _check_kinds(models: Sequence[TrainedModel]) -> None:
    if not 2 <= len(models) <= MOST_MEMBERS:
        raise UserError(
            f"an ensemble has 2 to {MOST_MEMBERS} models, not {len(models)}: name more, or fewer"
        )
    for one in models:
        name = "a model" if one.file is None else repr(str(one.file))
        if one.fills_gaps:
            raise UserError(f"{name} fills gaps, and an ensemble continues texts: leave it out")
        if is_ensemble(one.network):
            raise UserError(f"{name} is an ensemble already: name its members instead")
        if is_memory(one.network):
            raise UserError(
                f"{name} has a memory, and the members of an ensemble have none: leave it out, or "
                "give the ensemble a memory by --memory"
            )
        if one.layout != models[0].layout:
            layouts = {"lines": "single lines", "stream": "running text"}
            raise UserError(
                f"{name} writes {layouts[one.layout]}, the first model {layouts[models[0].layout]}:"
                " an ensemble needs models of one kind"
            )


def _share_characters(models: Sequence[TrainedModel]) -> str:
    """Find the characters that all models know, in their order; tell if some know more."""
    known = [one.vocabulary.characters for one in models]
    in_all = set(known[0]).intersection(*known[1:])
    shared = "".join(character for character in known[0] if character in in_all)
    if len(shared) < 2:
        raise UserError(
            f"the models have {len(shared)} characters in common, and an ensemble needs 2: name "
            "models of one language"
        )
    if any(each != shared for each in known):
        sizes = ", ".join(f"{len(each):,}" for each in known)
        log.info("the ensemble knows %s characters, those of all models (%s)", len(shared), sizes)
    return shared


def _find_difference(models: Sequence[TrainedModel]) -> str | None:
    """Say why the models have no text in common; None if they have one."""
    settings = [one.options.get("data") for one in models]
    if not all(isinstance(each, dict) for each in settings):
        return "a model does not say which text it has learnt"
    digests = {one.corpus_digest for one in models}
    names = DECIDING if None in digests else SPLITTING
    chosen = [[each.get(name) for name in names] for each in settings if isinstance(each, dict)]
    if len(digests) > 1 or any(each != chosen[0] for each in chosen):
        return "the models have learnt different texts, or other parts of one"
    return None


def _build_network(
    models: Sequence[TrainedModel], characters: str, combination: Averaging, weights: list[float]
) -> EnsembleModel:
    described = {
        "kind": "ensemble",
        "vocabulary_size": len(characters),
        "members": [one.network.architecture for one in models],
        "weights": weights,
        "combination": combination,
        "ids": [
            None
            if one.vocabulary.characters == characters
            else one.vocabulary.encode(characters).tolist()
            for one in models
        ],
    }
    architecture: EnsembleArchitecture = validate(EnsembleArchitecture, described)
    return EnsembleModel(architecture, [one.next_model for one in models]).eval()


def fit_weights(model: EnsembleModel, split: Split) -> tuple[Averaging, list[float]]:
    """Find the average and the weights that are best on a split.

    Both averages are compared on the same characters, at most about `MOST_NUMBERS` / (N·V).

    Raises:
        UserError: a member predicts no probabilities, or the ids of the split are damaged.
    """
    own, logs, targets = read_members(model, split)
    seen = logs.gather(-1, targets.expand(len(logs), -1)[..., None])[..., 0].double()  # (N, P)
    arithmetic = minimise_on_simplex(lambda some: arithmetic_terms(own, some), len(logs))
    geometric = minimise_on_simplex(lambda some: geometric_terms(logs, seen, some), len(logs))
    losses = (
        arithmetic_terms(seen, arithmetic).loss,
        geometric_terms(logs, seen, geometric).loss,
    )
    if losses[1] < losses[0]:
        return "geometric", geometric.tolist()
    return "arithmetic", arithmetic.tolist()


@torch.inference_mode()
def read_members(model: EnsembleModel, split: Split) -> tuple[Tensor, Tensor, Tensor]:
    """Read a split with the members of an ensemble.

    Returns:
        Log-probabilities of all M characters by each member, (N, M) float64; distributions of P
        evenly spread characters, (N, P, V) log-probabilities; and the ids of these, (P,).

    Raises:
        UserError: as for `fit_weights`.
    """
    count, size = len(model.members), model.vocabulary_size
    chosen = _spread_windows(len(split.ids), MOST_NUMBERS // (count * size)).to(model.device)
    loader = BatchLoader(
        *(split.ids, evaluation_sampler(split, size), model.device), mapping=split.mapping
    )
    own, whole, targets, state = [], [], [], None
    room = "cpu" if model.device.type == "mps" else model.device  # mps has no float64
    with eval_mode(model), progress("fitting the ensemble", len(loader)) as moved:
        for done, batch in enumerate(loader, start=1):
            logits, state = model.read_members(batch.inputs, None if batch.starts_stream else state)
            logs = torch.stack(model.restrict(logits)).log_softmax(-1)  # (N, B, T, V)
            counted = batch.targets != IGNORED
            nats = torch.stack([compute_nats(each, batch) for each in logs])
            own.append(-nats[:, counted].to(room).double())
            steps = torch.arange(1, 1 + counted.shape[1], device=counted.device)
            places = (batch.starts[:, None] + steps).clamp(max=len(chosen) - 1)
            kept = counted & chosen[places]
            whole.append(logs[:, kept].float().to(room))
            targets.append(batch.targets[kept].to(room))
            moved(done)
    found = torch.cat(own, dim=1)
    for number, finite in enumerate(found.isfinite().all(dim=1).tolist(), start=1):
        if not finite:
            raise UserError(
                f"model {number} of the ensemble predicts no probabilities (nan or 0), so its "
                "training has diverged: leave it out"
            )
    return found, torch.cat(whole, dim=1), torch.cat(targets)


def _spread_windows(length: int, most: int) -> Tensor:
    """Mark about `most` evenly spread places of a text, (length,), in windows of neighbours."""
    count = max(1, min(-(-length // WINDOW), most // WINDOW))
    starts = torch.linspace(0, max(0, length - WINDOW), count, dtype=torch.float64).long()
    places = starts[:, None] + torch.arange(WINDOW)
    return torch.zeros(length, dtype=torch.bool).index_fill_(
        0, places.clamp(max=length - 1).flatten(), True
    )


def arithmetic_terms(own: Tensor, weights: Floats) -> Terms:
    """Compute the terms of the arithmetic average; `own` are log-probabilities, (N, M)."""
    logs = own + own.new_tensor(weights).log()[:, None]
    whole = logs.logsumexp(0)  # (M,)
    shares = (own - whole).exp()  # (N, M)
    curvature = shares @ shares.T / len(whole)
    return Terms(-float(whole.mean()), -shares.mean(1).cpu().numpy(), curvature.cpu().numpy())


def geometric_terms(logs: Tensor, seen: Tensor, weights: Floats) -> Terms:
    """Compute the terms of the geometric average.

    Args:
        logs: (N, P, V) log-probabilities of all characters.
        seen: (N, P) float64, those of the characters that stand there.
        weights: (N,).
    """
    count, places, size = logs.shape
    given = seen.new_tensor(weights)
    loss, slope = -(given @ seen).sum(), -seen.sum(1)
    curvature = seen.new_zeros(count, count)
    for part in torch.split(logs, max(1, AT_ONCE // (count * size)), dim=1):
        exact = part.double()
        joint = torch.einsum("n,npv->pv", given, exact)
        total = joint.logsumexp(-1, keepdim=True)
        weighed = exact * (joint - total).exp()  # (N, p, V)
        mean = weighed.sum(-1)  # (N, p)
        loss += total.sum()
        slope += mean.sum(1)
        curvature += weighed.flatten(1) @ exact.flatten(1).T - mean @ mean.T
    slope, curvature = slope / places, curvature / places
    return Terms(float(loss) / places, slope.cpu().numpy(), curvature.cpu().numpy())


def minimise_on_simplex(terms: Callable[[Floats], Terms], count: int) -> Floats:
    """Minimise a convex loss over weights that are not negative and sum to one, (N,).

    Each step goes to the minimum of a parabola (Newton's method), or part of the way.
    """
    weights = np.full(count, 1 / count)
    here = terms(weights)
    with progress("fitting the weights", NEWTON_STEPS) as moved:
        for step in range(NEWTON_STEPS):
            moved(step)
            aim = _minimise_parabola(weights, here)
            for part in 0.5 ** np.arange(10):
                tried = weights + part * (aim - weights)
                there = terms(tried)
                if there.loss < here.loss:
                    break
            gain = here.loss - there.loss
            if gain > 0:
                weights, here = tried, there
            if gain < SMALLEST_GAIN:
                break
    weights = weights.clip(min=0)
    return np.asarray(weights / weights.sum())


def _minimise_parabola(weights: Floats, terms: Terms) -> Floats:
    """Minimise the parabola at some weights, by moving weight from one member to another.

    Each step takes the pair with the steepest slope (Keerthi et al. 2001).
    """
    found, slope, curvature = weights.copy(), terms.slope.copy(), terms.curvature
    for _ in range(PAIR_STEPS):
        low = int(slope.argmin())
        high = int(np.where(found > 0, slope, -np.inf).argmax())
        gap = slope[high] - slope[low]
        if gap < 1e-10:
            break
        bend = curvature[low, low] + curvature[high, high] - 2 * curvature[low, high]
        move = min(found[high], gap / max(bend, 1e-12))
        found[low] += move
        found[high] -= move
        slope += move * (curvature[:, low] - curvature[:, high])
    return found
