"""Names that a model has not learnt by heart."""

from collections.abc import Sequence
from typing import Any

from lyricgen.data.build import build_splits, find_corpus
from lyricgen.data.options import DataOptions
from lyricgen.errors import UserError
from lyricgen.generation.writer import Continuation, Writer, text_seed
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import validate

TRIES = 20  # draws for each name


def training_names(model: TrainedModel) -> frozenset[str]:
    """The lines that a model was trained on, read anew from its corpus; held-out ones are not.

    Raises:
        UserError: the corpus is not there any more, or is another one.
    """
    values: dict[str, Any] | None = model.options.get("data")
    if not values:
        raise UserError("--novel: the checkpoint does not say which names it has learnt")
    try:
        data: DataOptions = validate(DataOptions, values)
        corpus = find_corpus(data, model.text, model.file)
    except UserError as error:
        raise UserError(f"--novel needs the names that the model has learnt: {error}") from error
    if corpus.vocabulary != model.vocabulary or model.text not in (None, corpus.digest):
        raise UserError(
            f"--novel needs the names that the model has learnt, and {corpus.name!r} has others "
            "now: bring that text back"
        )
    splits = build_splits(data, corpus, "lines")
    text = splits["train"].text(model.vocabulary)
    return frozenset(text.removesuffix("\n").split("\n"))


def draw_novel(
    writer: Writer, prefixes: Sequence[str], count: int, seed: int
) -> list[Continuation]:
    """Continue each prefix to names that are none of training and all different.

    Other names, and those that were cut off, are thrown away; the next one of the prefix is drawn
    instead, with the next seed, at most `TRIES` for each requested name.

    Returns:
        count continuations of each prefix, side by side.

    Raises:
        UserError: too few were found, or nothing is drawn at all.
    """
    if not writer.strategy.random:
        raise UserError(
            f"--novel draws again what is not new, and {writer.strategy.name} never writes "
            "anything else: give a --temperature above 0, without --beams"
        )
    writer.constraints(prefixes)  # refuses impossible names before a corpus is read
    seen = set(training_names(writer.model))
    found: list[list[Continuation]] = [[] for _ in prefixes]
    drawn, cut, most = [0] * len(prefixes), [0] * len(prefixes), count * TRIES
    while True:
        asked = []
        for number, known in enumerate(found):
            missing = count - len(known)
            wanted = max(16, 2 * missing) if drawn[number] and missing else missing
            upto = min(drawn[number] + wanted, most)
            asked += [(number, index) for index in range(drawn[number], upto)]
            drawn[number] = upto
        if not asked:
            break
        seeds = [text_seed(seed, prefixes[number], index) for number, index in asked]
        texts = writer.draw([prefixes[number] for number, _ in asked], seeds)
        for (number, _), text in zip(asked, texts, strict=True):
            name = text.prefix + writer.decode(text.shown)
            cut[number] += not text.ended
            if text.ended and name not in seen and len(found[number]) < count:
                seen.add(name)
                found[number].append(text)
    for prefix, known, number_cut in zip(prefixes, found, cut, strict=True):
        if len(known) < count:
            raise _too_few(prefix, len(known), count, number_cut)
    return [text for known in found for text in known]


def _too_few(prefix: str, found: int, count: int, number_cut: int) -> UserError:
    """Error for a prefix that gave fewer new names than requested."""
    draws = count * TRIES
    after = f" that begin with {prefix!r}" if prefix else ""
    mend = "raise --temperature, or ask less of them"
    if 2 * number_cut > draws:
        mend = f"raise --length, which has cut {number_cut} of the draws, or say --max-length"
    return UserError(
        f"--novel found {found} of {count} new names{after} in {draws} draws: ask for fewer "
        f"(--count), {mend}"
    )
