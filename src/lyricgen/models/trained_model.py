"""Trained models, and new networks that start from their weights.

P characters of a prefix.
"""

import math
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import torch

from lyricgen.data.splits import LAYOUT_ENDS, Layout
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.models.ensemble import is_ensemble
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.hybrid_building import extract_network, find_network
from lyricgen.models.memory_model import is_memory, without_memory
from lyricgen.models.model import Model, NextModel, eval_mode
from lyricgen.models.network import FillModel, LanguageModel
from lyricgen.models.ngram.language_model import NgramLanguageModel
from lyricgen.models.ngram.older import ELSEWHERE, OlderNgrams, drop_symbols
from lyricgen.models.options import RecurrentArchitecture
from lyricgen.settings import Value, flatten

Member = Literal["whole", "network", "ngram"]

MEASURED = 2_000  # characters on which a network is measured
GAPS = "_□◌"  # marks of a gap, the first choice first
LENGTH = 50  # default limit of new characters of a running text, and least default for lines
LONGEST_LINE = 2000  # largest default for lines, however long the training lines are
UNKNOWN_LINE = 500  # default for lines where the longest training line is unknown


@dataclass(frozen=True)
class TrainedModel:
    """A trained network with its vocabulary.

    Attributes:
        network: in evaluation mode if it was loaded from a file.
        vocabulary: its characters.
        layout: lines, documents or running text, as in training.
        lowercase: whether the training texts were lower-cased.
        options: all options of the run as plain values; empty if unknown.
        corpus_digest: SHA-256 of the corpus; None if unknown.
        longest_line: characters of the longest training line or document; None if unknown, or for
            running text.
        file: the file of a loaded model, or None.
    """

    network: Model
    vocabulary: Vocabulary
    layout: Layout
    lowercase: bool
    options: dict[str, Any] = field(default_factory=dict)
    corpus_digest: str | None = None
    longest_line: int | None = None
    file: Path | None = None

    @property
    def end(self) -> str | None:
        """Character that ends each line or document; None for running text."""
        return LAYOUT_ENDS.get(self.layout)

    @property
    def default_length(self) -> int:
        """Default limit of new characters in a text; the end of a line counts as a character."""
        if self.layout == "stream":
            return LENGTH
        if self.longest_line is None:
            return UNKNOWN_LINE
        return min(max(LENGTH, self.longest_line + 1), LONGEST_LINE)

    @property
    def fills_gaps(self) -> bool:
        """Whether the model fills gaps; otherwise it continues texts."""
        return self.network.fills_gaps

    @property
    def next_model(self) -> NextModel:
        """The network, if it continues texts.

        Raises:
            UserError: the model fills gaps.
        """
        if isinstance(self.network, NextModel):
            return self.network
        raise UserError(
            "this model fills gaps and continues no text: give it a text with gaps, as in "
            "--fill '分__天'"
        )

    @property
    def fill_model(self) -> FillModel:
        """The network, if it fills gaps.

        Raises:
            UserError: the model continues texts.
        """
        if isinstance(self.network, FillModel):
            return self.network
        raise UserError(
            "this model continues texts and fills no gaps: train one with objective=fill"
        )

    @property
    def recurrent_model(self) -> LanguageModel:
        """The network, or that of a hybrid model, if it reads from left to right.

        Raises:
            UserError: the model fills gaps or counts n-grams.
        """
        whole = without_memory(self.network)
        network = extract_network(whole) if isinstance(whole, HybridModel) else whole
        if isinstance(network, LanguageModel):
            return network
        what = "fills gaps from both sides" if self.fills_gaps else "counts n-grams"
        what = "joins several models" if is_ensemble(whole) else what
        raise UserError(
            f"this model {what}: --gates shows recurrent networks that read from left to right"
        )

    def member(self, name: Member) -> Self:
        """Take the whole of a hybrid model, or its network or its n-grams alone.

        Raises:
            UserError: the name is unknown, or a model that is not hybrid is asked for a part.
        """
        if name not in get_args(Member):
            raise UserError(f"member={name!r}: choose {', '.join(get_args(Member))}")
        if name == "whole":
            return self
        whole = without_memory(self.network)
        if isinstance(whole, HybridModel):
            if name == "network":
                return self.network_only()
            return replace(self, network=whole.ngram)
        what = "counts n-grams alone" if self.holds_counts else "is a network alone"
        what = "joins several models" if is_ensemble(self.network) else what
        raise UserError(
            f"this model {what}: leave --member {name} out, or train one with model=hybrid"
        )

    @property
    def holds_counts(self) -> bool:
        """Whether the model holds counts of n-grams, and with them much of its training text."""
        parts = self.network.modules()
        return any(isinstance(part, HybridModel | NgramLanguageModel) for part in parts)

    def network_only(self) -> Self:
        """Make a model of the network of a hybrid model, without the n-grams.

        Raises:
            UserError: the model is no hybrid model.
        """
        whole = without_memory(self.network)
        if not isinstance(whole, HybridModel):
            what = "is nothing but n-grams" if self.holds_counts else "has no n-grams"
            what = "joins several models" if is_ensemble(self.network) else what
            raise UserError(f"this model {what}: leave --network-only out")
        network = extract_network(whole)
        chosen = {"model": network.architecture.model.model_dump(mode="json")}
        options = self.options | chosen | {"memory": {"kind": "none"}}
        return replace(self, network=network, options=options)

    @property
    def gap(self) -> str:
        """Mark of a gap, the first of "_□◌" that is not in the vocabulary; "_" if all are in it."""
        return next((mark for mark in GAPS if mark not in self.vocabulary.characters), GAPS[0])

    def normalise(self, text: str) -> str:
        """Convert a text to NFC, and to lower case if the corpus was lower-cased."""
        return unicodedata.normalize("NFC", text.lower() if self.lowercase else text)

    def encode_prefix(self, prefix: str) -> torch.Tensor:
        """Encode a prefix as the first ids that the network reads, int64 on the CPU.

        `prefix` is normalised first. A model of lines or documents reads (P + 1,) ids, the start
        symbol first. A model of running text reads (P,) ids. There an empty prefix becomes a
        newline; if the vocabulary has none, a space; and without a space, the vocabulary's first
        character.

        Raises:
            UserError: the prefix has an unknown character, or the end of a line or document.
        """
        prefix = self.normalise(prefix)
        if self.end is not None:
            self.refuse_end(prefix)
            start = torch.tensor([len(self.vocabulary)])
            return torch.cat([start, self.vocabulary.encode(prefix).long()])
        if not prefix:
            characters = self.vocabulary.characters
            prefix = next((mark for mark in "\n " if mark in characters), characters[0])
        return self.vocabulary.encode(prefix).long()

    def refuse_end(self, text: str) -> None:
        """Raise a UserError if a text has the character that ends a line or document."""
        if self.end is not None and self.end in text:
            lines = self.layout == "lines"
            kind, character = ("single lines", "newline") if lines else ("documents", "U+0003")
            raise UserError(f"this model writes {kind}: leave the {character} out")


class CopiedWeights(NamedTuple):
    """Numbers of characters that the trained network knows, and that are new to it."""

    kept: int
    new: int

    def __str__(self) -> str:
        return f"characters: {self.kept:,} kept, {self.new:,} new"


def copy_weights(source: TrainedModel, model: Model, vocabulary: Vocabulary) -> CopiedWeights:
    """Copy the weights of a trained network into a new network, character by character.

    The weights of a character that the trained network does not know become the mean of those of
    its characters. The start symbol of a line or document gets the weights of a newline, if the
    trained network has read running text. Either network may be that of a hybrid model. The n-grams
    are not copied. The layers that weigh them are copied if both models are hybrid, with the same
    order and combination.

    Args:
        source: the trained model and its characters.
        model: model whose network has the same architecture, but its own characters; changed in
            place.
        vocabulary: vocabulary of `model`.

    Raises:
        UserError: the networks differ in a setting that shapes the weights, or the trained model
            has no weights of one network.
    """
    check_older(source)
    network, trained = find_network(model), find_network(source.network)
    _check_shapes(network.architecture, trained.architecture)
    size = len(source.vocabulary)
    known = torch.from_numpy(source.vocabulary.knows(vocabulary.characters))
    ids = source.vocabulary.encode(vocabulary.decode(torch.nonzero(known).flatten())).long()
    old, dimensions = trained.state_dict(), network.character_dimensions()
    start = source.vocabulary.characters.find("\n") if source.layout == "stream" else size
    for name, tensor in network.state_dict().items():
        if name not in dimensions:
            tensor.copy_(old[name])
            continue
        rows, given = (one.movedim(dimensions[name], 0) for one in (tensor, old[name]))
        rows[: len(known)] = given[:size].mean(0)
        rows[: len(known)][known] = given[ids]
        if len(rows) > len(known) and start >= 0:  # an embedding of the start of a line
            rows[-1] = given[start]
    _copy_weighing(source.network, model)
    return CopiedWeights(len(ids), len(vocabulary) - len(ids))


@torch.no_grad()
def lower_missing(model: Model, present: torch.Tensor, ids: torch.Tensor) -> None:
    """Lower the output biases of characters that a text lacks, until they share `ELSEWHERE`.

    The share, a mean of its log-odds, is measured on the first characters of the text. Training
    alone would need many steps for it. A network that fills gaps stays as it is.

    Args:
        model: a model with a network; changed in place.
        present: (V,) whether the text has the character.
        ids: (N,) the training text.
    """
    network = find_network(model)
    if not isinstance(network, LanguageModel) or bool(present.all()):
        return
    with eval_mode(network):
        logits, _ = network(ids[:MEASURED].long()[None])
    lacking, having = (logits[0][:, one].logsumexp(-1) for one in (~present, present))  # (N,)
    odds = math.log(ELSEWHERE / (1 - ELSEWHERE))
    network.output.bias[~present] += odds - float((lacking - having).mean())


def check_older(source: TrainedModel) -> None:
    """Raise a UserError if a trained model has no weights of one network."""
    if not without_memory(source.network).trains_in_steps:
        raise UserError(
            f"init_from: that is {source.network.description}, which has no weights of one "
            "network: name the checkpoint of a network"
        )


def find_ngrams(
    older: TrainedModel, vocabulary: Vocabulary, present: torch.Tensor
) -> OlderNgrams | None:
    """Find the n-grams of a hybrid model, for a new text with another vocabulary.

    Grams with a character that the vocabulary lacks are left out. `present`, (V,), tells whether
    the new text has each character. The result is None for other models.
    """
    whole = without_memory(older.network)
    if not isinstance(whole, HybridModel):
        return None
    characters = [*older.vocabulary.characters]
    known = np.isin(characters, [*vocabulary.characters])  # a rare one has no id of its own
    model = whole.ngram.model
    if not known.all():
        model = drop_symbols(model, np.append(~known, False))
    ids = vocabulary.encode(older.vocabulary.decode(torch.from_numpy(known.nonzero()[0])))
    return OlderNgrams(model, np.append(ids.long().numpy(), len(vocabulary)), present.numpy())


def _copy_weighing(source: Model, model: Model) -> None:
    """Copy the layers that weigh n-grams or a memory, if both models have the same ones."""
    given, whole = without_memory(source), without_memory(model)
    if isinstance(given, HybridModel) and isinstance(whole, HybridModel):
        parts = [(one.ngram_order, one.architecture.combination) for one in (given, whole)]
        if parts[0] == parts[1]:
            whole.on_hidden.load_state_dict(given.on_hidden.state_dict())
            whole.on_passed.load_state_dict(given.on_passed.state_dict())
    if is_memory(source) and is_memory(model):
        kinds = [(one.architecture.recall, one.reads_hidden) for one in (source, model)]
        if kinds[0] == kinds[1]:
            model.memory.load_state_dict(source.memory.state_dict())


def _check_shapes(new: RecurrentArchitecture, trained: RecurrentArchitecture) -> None:
    here, there = map(_shape_settings, (new, trained))
    differing = ", ".join(
        f"{key}={there.get(key)} there and {here.get(key)} here"
        for key in here | there
        if here.get(key) != there.get(key)
    )
    if differing:
        raise UserError(f"init_from: the networks differ, {differing}: choose the same")


def _shape_settings(architecture: RecurrentArchitecture) -> dict[str, Value]:
    """Find the settings that decide the shapes and meanings of the weights, by their names."""
    model, embedded = architecture.model, architecture.model.input == "embedding"
    settings = flatten(
        architecture.model_dump(
            include={"objective", "cell", "layers", "hidden_size", "depth"},
            # these change only the first weights, or the training
            exclude={"cell": {"forget_bias", "kernel"}, "depth": {"dropout"}},
        )
    )
    return {
        **settings,
        "model.input": model.input,
        "model.embedding_size": (model.embedding_size or architecture.hidden_size) * embedded,
        "model.tie_weights": model.tie_weights and embedded,
    }
