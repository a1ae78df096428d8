"""Models that write and score texts."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from lyricgen.cli.evaluation_options import DEFAULTS
from lyricgen.data.splits import SPLITS
from lyricgen.errors import UserError
from lyricgen.evaluation.intervals import Floats
from lyricgen.evaluation.scores import Checkpoint, add_text, score_splits
from lyricgen.evaluation.tables import plain_scores
from lyricgen.evaluation.text_scores import score_texts
from lyricgen.evaluation.with_memory import score_with_memory, separate_with_memory
from lyricgen.files import is_there
from lyricgen.generation.filling import fill_texts
from lyricgen.generation.texts import generate_texts
from lyricgen.models import checkpoint
from lyricgen.models.model import at_least_float32
from lyricgen.models.trained_model import TrainedModel
from lyricgen.options import check_number, list_texts
from lyricgen.runs.newest import newest_checkpoint
from lyricgen.runs.references import Reference, find_run, read_reference


class WritingModel(TrainedModel):
    """A trained model with methods that write and score texts."""

    def generate(
        self, prefix: str = "", *, length: int | None = None, seed: int = 1, **options: Any
    ) -> str:
        """Write one text that begins with a prefix.

        `generation.texts.continue_prefixes` explains the errors, and all options but `count`.

        >>> model.generate("分开", length=50, temperature=0.8, top_p=0.9)
        '分开...'
        >>> print(model.generate(acrostic="桥头有雨", line_length=7, rhyme=True))
        桥...
        头...
        有...
        雨...
        """
        if not isinstance(prefix, str):
            raise UserError(f"prefix={prefix!r}: give one text; generate_many takes a list of them")
        return self.generate_many([prefix], count=1, length=length, seed=seed, **options)[0]

    def generate_many(
        self,
        prefixes: list[str],
        *,
        count: int | None = None,
        length: int | None = None,
        seed: int = 1,
        **options: Any,
    ) -> list[str]:
        """Continue prefixes; `generation.texts.continue_prefixes` explains arguments and errors.

        >>> model.generate_many(["分开", "我们"], count=2, length=8)
        ['分开...', '分开...', '我们...', '我们...']

        Returns:
            The texts in the order of the prefixes. Each text begins with its prefix, normalised
            like the corpus.
        """
        return generate_texts(self, prefixes, count=count, length=length, seed=seed, **options)

    def mixture(self) -> "WritingModel":
        """Mix the network with n-grams; `training_text.final_mixture` explains the errors."""
        from lyricgen.generation.training_text import final_mixture  # noqa: PLC0415  heavy

        return final_mixture(self)

    def with_memory(self, scope: str | None = None, size: int | None = None) -> "WritingModel":
        """Give the model a memory; `generation.remembering.remember` explains the errors.

        Args:
            scope: what it remembers: "split" for the whole text, "document" or "line". None is as
                for `memory=cache`.
            size: how many characters it looks back at most. None is as for `memory=cache`.
        """
        from lyricgen.generation.remembering import remember  # noqa: PLC0415  heavy

        return remember(self, {"scope": scope, "size": size})

    def fill(self, text: str, **options: Any) -> str:
        """Fill the gaps of one text; see `fill_many`.

        >>> model.fill("分__天")
        '分...天'
        """
        if not isinstance(text, str) or options.get("count", 1) != 1:
            raise UserError("fill takes one text and fills it once; fill_many does more")
        return self.fill_many([text], **options)[0]

    def fill_many(self, texts: list[str], **options: Any) -> list[str]:
        """Fill the gaps of texts; `generation.filling.fill_texts` explains options and errors.

        >>> model.fill_many(["分__天", "我_要"], count=2, temperature=0.8, seed=1)
        ['分...天', '分...天', '我...要', '我...要']
        """
        return fill_texts(self, texts, **options)

    def score(self, texts: list[str]) -> list[Floats]:
        """Compute the nats, −ln p, of each character of texts.

        Each text is read by itself, from state zero, as the training text was prepared: composed
        (NFC), and in lower case or with spaces for newlines if the model was trained so. Texts of
        like length are read together.

        - Running text: the first character is read, but not predicted.
        - Lines and documents: a text is one of them, without white space at its ends. One more
          number follows those of its characters: the nats of its end.
        - Unknown characters are left out before the model reads a text.
        - A memory of the scope "split" reads on from text to text. Other memories begin anew at
          each text.
        - A model that fills gaps gives pseudo-nats, because it sees both sides of a character.

        >>> [nats] = model.score(["分开以后"])
        >>> nats
        array([ nan, ...])
        >>> perplexity = numpy.exp(numpy.nanmean(nats))

        Args:
            texts: texts, not only one.

        Returns:
            For each text a float64 array with a number for each character; nan where the model
            predicts nothing: at the first character of running text, at unknown characters, and at
            the end of a line or document without known characters.

        Raises:
            UserError: `texts` is no list of texts, a text has the end of a line (or document), or
                the model predicts no probabilities.
        """
        return score_texts(self, list_texts("texts", texts)).by_text

    def evaluate(
        self,
        split: str | None = None,
        *,
        resamples: int | None = None,
        seed: int | None = None,
    ) -> dict[str, Any]:
        """Score the model and n-grams on the text that it was trained on, which is read again.

        >>> scores = model.evaluate("test")
        >>> scores["parts"]["test"]["models"][0]["perplexity"]
        {'value': ..., 'low': ..., 'high': ...}

        Args:
            split: "train", "val" or "test"; None for all splits.
            resamples: texts drawn for each 95 % interval; None: as many as `evaluate` draws.
            seed: seed of the drawn texts; None: that of `evaluate`.

        Returns:
            The figures as `evaluate --json` prints them; docs/evaluate.md explains them.

        Raises:
            UserError: the text is missing or changed, or has no such split.
        """
        if split not in (None, *SPLITS):
            raise UserError(f"split={split!r}: choose from {', '.join(SPLITS)}")
        file = self.file or Path("the model")
        evaluated = add_text([Checkpoint(self.network.description, file, self)])
        splits, given = evaluated[0].choose_splits(split), {"resamples": resamples, "seed": seed}
        numbers: Any = {name: DEFAULTS[name] if n is None else n for name, n in given.items()}
        fixed, remembering = separate_with_memory(evaluated, None)
        with_memory = score_with_memory(remembering, splits, [], **numbers)
        return plain_scores(score_splits(fixed, splits, **numbers), None, with_memory)

    def next_characters(self, prefix: str = "", count: int = 5) -> list[tuple[str, float]]:
        r"""Find the most probable next characters after a prefix.

        `encode_prefix` explains the prefix. A model of lines may predict ``"\n"``, the end of the
        line, and a model of documents U+0003.

        >>> model.next_characters("分", 2)
        [('开', 0...), ('...', 0...)]

        Returns:
            The `count` most probable characters with their probabilities, the most probable first;
            all characters if the model knows no more. Rare characters are never among them.

        Raises:
            UserError: the prefix is no text or has an unknown character, `count` is no whole number
                from 1, or the model fills gaps.
        """
        list_texts("prefix", [prefix])
        number, unknown = check_number("count", count), self.vocabulary.rare_id
        number = min(number, len(self.vocabulary) - (unknown is not None))
        model = self.next_model
        with torch.inference_mode():
            logits, _ = model(self.encode_prefix(prefix)[None].to(model.device))
        probabilities = at_least_float32(logits[0, -1]).cpu().double().softmax(-1)  # (V,)
        if unknown is not None:
            probabilities[unknown] = -1.0  # last, beyond the count
        best = probabilities.sort(descending=True, stable=True)
        return [
            (self.vocabulary.characters[index], probability)
            for probability, index in zip(
                best.values[:number].tolist(), best.indices[:number].tolist(), strict=True
            )
        ]


def load(
    path: Reference | Sequence[Reference] | None = None, device: str | torch.device = "cpu"
) -> WritingModel:
    """Load a model by its path, or by the id or name of its run; a list gives their ensemble.

    Without a path it is the model of the newest run, whose name is printed on standard error.

    `models.checkpoint.load` and `generation.ensembles.join_models` explain arguments and errors.

    >>> model = lyricgen.load()
    >>> ensemble = lyricgen.load([run.path for run in lyricgen.find_runs(where="name=songs")])
    """
    if path is None:
        path = newest_checkpoint()
    if isinstance(path, str | PathLike):
        return WritingModel(**vars(checkpoint.load(_find_model(path), device)))
    from lyricgen.generation.ensembles import join_models  # noqa: PLC0415  heavy

    models = [checkpoint.load(_find_model(one), device) for one in path]
    return WritingModel(**vars(join_models(models)))


def _find_model(given: Reference) -> Path:
    typed = read_reference(given)
    return Path(typed) if is_there(typed) else find_run(typed)
