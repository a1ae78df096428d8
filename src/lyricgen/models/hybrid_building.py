"""Build hybrid models from their options and texts; find the networks of models."""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from typing_extensions import TypeIs

from lyricgen.data.splits import Split
from lyricgen.data.vocabulary import Vocabulary
from lyricgen.models.hybrid import HybridModel
from lyricgen.models.memory_model import without_memory
from lyricgen.models.model import Model
from lyricgen.models.network import CharacterNetwork, LanguageModel
from lyricgen.models.ngram.language_model import NgramBaseline
from lyricgen.models.ngram.left_out import fit_weight, line_blocks, stream_blocks
from lyricgen.models.ngram.model import Ids, NgramCounts, Numbers
from lyricgen.models.ngram.older import JoinedCounts, OlderNgrams
from lyricgen.models.ngram.training_tables import TrainingTables
from lyricgen.models.options import (
    Combination,
    HybridArchitecture,
    HybridOptions,
    NgramArchitecture,
    RecurrentArchitecture,
)

log = logging.getLogger(__name__)


def build_hybrid(
    options: HybridOptions,
    architecture: RecurrentArchitecture,
    splits: Mapping[str, Split],
    vocabulary: Vocabulary,
    older: OlderNgrams | None = None,
) -> HybridModel:
    """Build a hybrid model; count its n-grams, and compute its tables for training.

    Args:
        options: options of the n-grams and the mixture.
        architecture: sizes and options of the network.
        splits: "train", which is counted, and "val", which decides the order, if it is there.
        vocabulary: characters of the text.
        older: n-grams of an older model, which are joined with those of the text.

    Raises:
        UserError: the mapped ids of a split are damaged and cannot be restored.
    """
    train, size = splits["train"], len(vocabulary)
    longest = options.order or options.max_order
    splits = {name: splits[name] for name in ("train", "val") if name in splits}
    divide = partial(
        _divide, number=options.blocks, vocabulary=vocabulary, lines=architecture.start_symbol
    )
    join = None
    if older is not None and options.older_weight != 0:
        join = partial(_join, older=older, weight=options.older_weight, divide=divide)
    counted = NgramBaseline(splits, size, longest, options.max_chars, "model.max_chars", join)
    order = options.order or _choose_order(counted)
    # more than the symbols of the longest line would change no probability
    order = min(order, sum(len(keys) > 0 for keys in counted.counts.keys))
    model = join_ngrams(
        *(architecture, counted.counts, order),
        short_list=_list_commonest(train, size, options.short_list),
        combination=options.combination,
        network_loss=options.network_loss,
    )
    ids = counted.ids.numpy()
    model.training_tables = TrainingTables(
        *(model.ngram, counted.counts, ids, divide(ids), len(train.ids) - len(ids)),
        model.short_list,
        with_distributions=options.combination == "product",
    )
    return model


def _list_commonest(train: Split, size: int, listed: int | None) -> tuple[int, ...] | None:
    """List the most frequent characters, and one more, which serves for the rest; None for all."""
    if listed is None or size <= 2 * listed:
        return None
    commonest = train.character_counts(size).argsort(descending=True, stable=True)
    return tuple(commonest[: listed + 1].tolist())


def _choose_order(counted: NgramBaseline) -> int:
    """Choose the order of older n-grams with a weight above 0, else the best on validation.

    With the order of the older model, the layers that weigh its n-grams can be copied.
    """
    counts = counted.counts
    if isinstance(counts, JoinedCounts) and counts.weight > 0:
        return min(counts.older_order, len(counts.keys))
    return counted.best_order()


def _divide(ids: Ids, number: int, vocabulary: Vocabulary, *, lines: bool) -> Numbers:
    """Divide lines or running text, (N,) ids, into blocks, (N,)."""
    if lines:
        return line_blocks(ids, number, len(vocabulary))
    return stream_blocks(ids, number, vocabulary.characters.find("\n"))


def _join(
    counts: NgramCounts,
    ids: Ids,
    *,
    older: OlderNgrams,
    weight: float | None,
    divide: Callable[[Ids], Numbers],
) -> JoinedCounts:
    """Join counts of ids with older n-grams; fit their weight if it is None."""
    joined = JoinedCounts(counts, older)
    if weight is None:
        fit_weight(joined, len(counts.keys), ids, divide(ids))
    else:
        joined.weight = weight
    log.info("the n-grams of init_from are joined with the weight %g", joined.weight)
    return joined


def join_ngrams(
    network: RecurrentArchitecture,
    counts: NgramCounts,
    order: int,
    *,
    combination: Combination,
    network_loss: float = 1.0,
    short_list: tuple[int, ...] | None = None,
) -> HybridModel:
    """Build a hybrid model of a new network and of n-grams up to an order."""
    ngram = NgramArchitecture(
        kind="ngram",
        order=order,
        smoothing="kneser_ney",
        k=1.0,
        vocabulary_size=network.vocabulary_size,
        start_symbol=network.start_symbol,
    )
    model = HybridModel(
        HybridArchitecture(
            kind="hybrid",
            network=network,
            ngram=ngram,
            short_list=short_list,
            combination=combination,
            network_loss=network_loss,
        )
    )
    model.ngram.set_counts(counts)
    return model


def is_hybrid(model: Model) -> TypeIs[HybridModel]:
    """Whether the model is a network mixed with n-grams."""
    return isinstance(model, HybridModel)


def extract_network(model: HybridModel) -> LanguageModel:
    """Return a hybrid model's network as a language model of the whole vocabulary.

    Without a short list this is the network itself. With one it is a new model, in which 1-grams
    divide the probability of the rest among the characters that are not listed.
    """
    short, built = model.short_list, model.network.architecture
    if short is None:
        return model.network
    options = built.model.model_copy(update={"tie_weights": False})
    network = LanguageModel(built.model_copy(update={"model": options}))
    tensors, output = model.network.state_dict(), model.network.output_weight.detach()
    tensors["output.weight"] = output[short.rows][short.classes]
    tensors["output.bias"] = short.divide(short.take(model.network.output.bias.detach()))
    network.load_state_dict(tensors, assign=True)
    return network.train(model.training)


def find_network(model: Model) -> CharacterNetwork:
    """Find the network in a model.

    Raises:
        TypeError: the model has no network.
    """
    model = without_memory(model)
    network = model.network if isinstance(model, HybridModel) else model
    if not isinstance(network, CharacterNetwork):
        raise TypeError(f"{model.description} has no network")
    return network
