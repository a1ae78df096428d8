"""Memories for models that were trained without one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from lyricgen.data.options import RecallOptions
from lyricgen.data.splits import Split
from lyricgen.errors import UserError
from lyricgen.generation.training_text import find_splits
from lyricgen.models.memory_model import add_memory, is_memory
from lyricgen.models.scoring import position_nats
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate
from lyricgen.settings import group_settings

T = TypeVar("T", bound=TrainedModel)

MOST_FITTED = 2**17  # most characters by which a memory is fitted, at some 3 kB each


def check_own_memory(model: TrainedModel, given: Mapping[str, Any] | None) -> None:
    """Raise a UserError for options of a memory if a model has a memory of its own."""
    named = [name for name, value in (given or {}).items() if value is not None]
    if named and is_memory(model.network):
        raise UserError(
            f"--memory-{named[0]}: {str(model.file)!r} has a memory of its own, trained with "
            f"memory.{named[0]}: leave it out"
        )


def remember(model: T, given: Mapping[str, Any], splits: Mapping[str, Split] | None = None) -> T:
    """Give a memory to a model; the validation split of its text decides how far it is trusted.

    Args:
        model: a model that continues texts, without a memory.
        given: fields of `RecallOptions`; those that are None or missing are as for `memory=cache`.
        splits: splits of the text, if they are known; None to look for the text.

    Raises:
        UserError: an option is wrong, the model cannot get a memory, the text is missing or
            changed or has no validation split, or the model predicts no probabilities.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    defaults = group_settings("memory", "cache")
    del defaults["kind"]
    options: RecallOptions = validate(RecallOptions, defaults | chosen)
    network = add_memory(model.network, options, model.vocabulary)
    if splits is None:
        splits = find_splits(model, "--memory", "text")
    if "val" not in splits:
        raise UserError(
            "--memory is fitted on the validation split, which the text of the model does not "
            "have: leave it out"
        )
    nats = position_nats(model, splits["val"], "fitting the memory")
    scored = (~nats.isnan()).nonzero()[:, 0]
    scored = scored[:: -(-len(scored) // MOST_FITTED)]
    recollection = network.recollect(splits["val"])
    network.memory.fit(nats[scored], recollection.counts[scored])
    return replace(model, network=network.to(model.network.device).eval())
