"""The older model of `init_from`: its architecture, its weights, its characters and its n-grams."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lyricgen.data.corpus import EncodedCorpus
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.options import ENDS
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.checkpoint import load
from lyricgen.models.hybrid_building import find_network, is_hybrid
from lyricgen.models.memory_model import without_memory
from lyricgen.models.model import Model
from lyricgen.models.options import NetworkOptions
from lyricgen.models.trained_model import TrainedModel, check_older, copy_weights, lower_missing
from lyricgen.runs.newest import starting_directories
from lyricgen.runs.run import Run
from lyricgen.runs.state import ResumePoint, start_anew
from lyricgen.settings import AUTO, flatten, group_settings, key, override_text
from lyricgen.training.options import TrainOptions

log = logging.getLogger(__name__)


def take_architecture(
    values: dict[str, Any], overrides: Sequence[str]
) -> tuple[dict[str, Any], TrainedModel | None]:
    """Return a configuration with the architecture of the model in `init_from`, and that model.

    A setting of the overrides keeps its value. Without `init_from` nothing changes.

    Args:
        values: the whole configuration, in plain values.
        overrides: overrides of the run.

    Raises:
        UserError: the older model cannot be loaded, or has no weights to start with.
    """
    if values["init_from"] is None:
        return values, None
    if values["model"]["kind"] == "ngram":
        raise UserError("init_from: model=ngram has no weights to start with: leave init_from out")
    older = load(values["init_from"])
    check_older(older)
    whole, built = without_memory(older.network), find_network(older.network).architecture
    typed = {key(one).removesuffix(".kind") for one in overrides}
    taken: dict[str, Any] = {"objective": built.objective, "hidden_size": built.hidden_size}
    if "depth" not in typed:  # depth=deep sets both
        taken |= {"layers": built.layers, "depth.residual": built.depth.residual}
    if "cell" not in typed:
        shape = built.cell.model_dump(exclude={"kernel", "forget_bias"})
        taken |= flatten({"cell": shape})
    if "model" not in typed:
        taken["model"] = whole.architecture.kind
    of_network = built.model
    taken |= {
        "model.input": of_network.input,
        "model.embedding_size": of_network.embedding_size,
        "model.tie_weights": of_network.tie_weights,
    }
    if is_hybrid(whole):
        listed = whole.architecture.short_list
        taken |= {
            "model.combination": whole.architecture.combination,
            "model.short_list": None if listed is None else len(listed) - 1,
        }
    return _set(values, {name: one for name, one in taken.items() if name not in typed}), older


def prepare_values(values: dict[str, Any], run: Run) -> tuple[dict[str, Any], TrainedModel | None]:
    """Take the architecture for a run, as `take_architecture` does, and log what it changes.

    A resumed single run has the settings of its record.
    """
    if values["resume"] is not None and run.sweep is None:
        return values, None
    before, (values, older) = flatten(values), take_architecture(values, run.overrides)
    after = flatten(values)
    changed = [name for name in after if before.get(name, AUTO) != after[name]]
    if changed:
        shown = " ".join(f"{name}={override_text(after[name])}" for name in changed)
        log.info("init_from=%s: %s", values["init_from"], shown)
    return values, older


def _set(values: dict[str, Any], taken: dict[str, Any]) -> dict[str, Any]:
    """Copy the values and set settings, by flat names; another cell or model gets its defaults."""
    cell, model = dict(values["cell"]), dict(values["model"])
    if taken.get("cell", cell["kind"]) != cell["kind"]:
        cell = group_settings("cell", taken["cell"]) | {
            name: one for name, one in cell.items() if name == "kernel" and one != AUTO
        }
    if taken.get("model", model["kind"]) == "hybrid" != model["kind"]:
        model = group_settings("model", "hybrid") | model
        del model["defaults"]
    groups = {"cell": cell, "model": model, "depth": dict(values["depth"])}
    values = values | groups
    for name, one in taken.items():
        group, _, setting = name.partition(".")
        if group not in groups:
            values[name] = one
        else:
            groups[group][setting or "kind"] = one
    if model["kind"] == "recurrent":
        fields = {"kind", *NetworkOptions.model_fields}
        values["model"] = {name: one for name, one in model.items() if name in fields}
    return values


def find_models(
    options: TrainOptions, run: Run, point: ResumePoint, older: TrainedModel | None
) -> tuple[TrainedModel | None, TrainedModel | None]:
    """Load the older model of a run, if the run needs it, and the model that a resumed run has had.

    A resumed run needs the older model only to join its n-grams. A relative path is also tried from
    the directory in which the run was started, and from each directory around the run. Without
    `init_from` there are no models.

    Args:
        options: options of the run.
        run: the run.
        point: the state from which the run continues.
        older: the older model, if it is loaded.

    Raises:
        UserError: a model cannot be loaded.
    """
    if options.init_from is None:
        return None, None
    if point.checkpoint is None:
        return older or load(options.init_from), None
    resumed = load(point.checkpoint)
    if options.model.kind != "hybrid" or options.model.older_weight == 0:
        return None, resumed
    path = Path(options.init_from)
    around = [] if path.is_absolute() else starting_directories(point.checkpoint)
    found = (one / path for one in around if (one / path).exists())
    try:
        return older or load(path if path.exists() else next(found, path)), resumed
    except UserError as error:
        raise UserError(
            f"resume: the run joins the n-grams of init_from={options.init_from}: {error}; bring "
            f"that model back, or {start_anew(run.directory)}"
        ) from error


def join_characters(corpus: EncodedCorpus, older: TrainedModel) -> Vocabulary:
    """Join the characters of a text with those of an older model.

    The end of a document stands in documents alone.
    """
    end = "" if corpus.unit == "document" else ENDS["document"]
    characters = older.vocabulary.characters.replace(end, "")
    return corpus.vocabulary.union(replace(older.vocabulary, characters=characters))


def start_from(
    older: TrainedModel, model: Model, datamodule: CharacterDataModule, options: TrainOptions
) -> None:
    """Start a new model, in place, with the weights of the older one, and suit it to a text.

    Raises:
        UserError: the networks differ in a setting that shapes the weights.
    """
    copied = copy_weights(older, model, datamodule.vocabulary)
    lower_missing(model, datamodule.present, datamodule.splits["train"].sound_ids)
    log.info("init_from=%s: %s", options.init_from, copied)


def check_ngrams(model: Model, resumed: TrainedModel, options: TrainOptions) -> None:
    """Raise a UserError if a resumed run joins other n-grams than its checkpoint has."""
    new, old = without_memory(model), without_memory(resumed.network)
    if not (is_hybrid(new) and is_hybrid(old)):
        return
    pairs = zip(new.ngram.buffers(), old.ngram.buffers(), strict=False)
    if not all(len(one) == len(two) and torch.allclose(one, two) for one, two in pairs):
        raise UserError(
            f"resume: init_from={options.init_from} has other n-grams than when the run began: "
            "bring that model back, or start a new run"
        )
