"""The public Python functions and classes; the package loads them on demand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lyricgen.errors import UserError
from lyricgen.generation.filling import fill_texts
from lyricgen.generation.texts import generate_texts
from lyricgen.models import checkpoint
from lyricgen.models.trained_model import TrainedModel


class WritingModel(TrainedModel):
    """A trained model with methods that write texts."""

    def generate(
        self, prefix: str = "", *, length: int | None = None, seed: int = 1, **options: Any
    ) -> str:
        """Write one text that begins with a prefix.

        `generation.texts.continue_prefixes` explains the errors, and all options but `count`.

        >>> model.generate("分开", length=50, seed=1, temperature=0.8, top_p=0.9)
        >>> model.generate(lines=4, line_length=7, acrostic="桥头有雨", rhyme=True)
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

    def fill_many(self, texts: list[str], **options: Any) -> list[str]:
        """Fill the gaps of texts; `generation.filling.fill_texts` explains options and errors.

        >>> model.fill_many(["分__天"], count=3, temperature=0.8, seed=1)
        """
        return fill_texts(self, texts, **options)


def load(
    path: str | Path | Sequence[str | Path], device: str | torch.device = "cpu"
) -> WritingModel:
    """Load a model; a list of paths gives their ensemble.

    `models.checkpoint.load` and `generation.ensembles.join_models` explain arguments and errors.

    >>> model = load(["outputs/runs/…/first", "outputs/runs/…/second"])
    """
    if isinstance(path, str | Path):
        return WritingModel(**vars(checkpoint.load(path, device)))
    from lyricgen.generation.ensembles import join_models  # noqa: PLC0415  heavy

    models = [checkpoint.load(one, device) for one in path]
    return WritingModel(**vars(join_models(models)))
