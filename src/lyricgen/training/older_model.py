"""The older model of `init_from`: its architecture, weights, characters and n-grams."""

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from typing_extensions import override

from lyricgen.data.corpus import EncodedCorpus, recode
from lyricgen.data.datamodule import CharacterDataModule
from lyricgen.data.options import ENDS
from lyricgen.errors import UserError
from lyricgen.models.checkpoint import load
from lyricgen.models.hybrid_building import find_network, is_hybrid
from lyricgen.models.memory_model import without_memory
from lyricgen.models.model import Model, eval_mode
from lyricgen.models.options import NetworkOptions
from lyricgen.models.trained_model import TrainedModel, check_older, copy_weights, lower_missing
from lyricgen.runs.newest import starting_directories
from lyricgen.runs.run import Run
from lyricgen.runs.state import ResumePoint, start_anew
from lyricgen.settings import AUTO, flatten, group_settings, key, override_text
from lyricgen.training.ddp.group import sum_over_processes
from lyricgen.training.lightning_hooks import Observer
from lyricgen.training.options import TrainOptions
from lyricgen.training.totals import score_split

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


class StartingModels(NamedTuple):
    """Models with which a run starts; none without `init_from`."""

    older: TrainedModel | None  # of `init_from`; a resumed run needs it only to join its n-grams
    resumed: TrainedModel | None  # of the checkpoint of a resumed run


def find_models(
    options: TrainOptions, run: Run, point: ResumePoint, older: TrainedModel | None
) -> StartingModels:
    """Load the models with which a run starts.

    A relative path is also tried from the directory in which the run was started, and from each
    directory around the run.

    Args:
        options: options of the run.
        run: the run.
        point: the state from which the run continues.
        older: the older model, if it is loaded.

    Raises:
        UserError: a model cannot be loaded.
    """
    if options.init_from is None:
        return StartingModels(None, None)
    if point.checkpoint is None:
        return StartingModels(older or load(options.init_from), None)
    resumed = load(point.checkpoint)
    if options.model.kind != "hybrid" or options.model.older_weight == 0:
        return StartingModels(None, resumed)
    path = Path(options.init_from)
    around = [] if path.is_absolute() else starting_directories(point.checkpoint)
    found = (one / path for one in around if (one / path).exists())
    try:
        older = older or load(path if path.exists() else next(found, path))
    except UserError as error:
        raise UserError(
            f"resume: the run joins the n-grams of init_from={options.init_from}: {error}; bring "
            f"that model back, or {start_anew(run.directory)}"
        ) from error
    return StartingModels(older, resumed)


def join_characters(corpus: EncodedCorpus, models: StartingModels) -> EncodedCorpus:
    """Add the characters of the starting model to the vocabulary of a text.

    Without such a model the text is returned unchanged. The end of a document is a character of
    documents alone.
    """
    before = models.resumed or models.older
    if before is None:
        return corpus
    end = "" if corpus.unit == "document" else ENDS["document"]
    characters = before.vocabulary.characters.replace(end, "")
    joined = corpus.vocabulary.union(replace(before.vocabulary, characters=characters))
    return recode(corpus, joined)


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


@dataclass(eq=False)
class CopiedWeighing(Observer):
    """Resets the copied layers that weigh n-grams, if the n-grams alone predict validation better.

    A new run does this before its first validation. All processes decide by the same sums.
    """

    model: Model

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: CharacterDataModule = trainer.datamodule  # type: ignore[attr-defined]
        whole = without_memory(self.model)
        with eval_mode(self.model):
            if not is_hybrid(whole) or whole.untrained or "val" not in data.splits:
                return
            self.model.calibrate(data.evaluation_loader("val"), sum_over_processes)
            loss = score_split(self.model, data, "val")["val/loss"]
            layers = torch.nn.ModuleList([whole.on_hidden, whole.on_passed])
            copied = deepcopy(layers.state_dict())
            whole.reset_weighing()
            if score_split(self.model, data, "val")["val/loss"] < loss:
                log.info(
                    "the layers that weigh n-grams start anew: the n-grams alone predict better"
                )
            else:
                layers.load_state_dict(copied)


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
