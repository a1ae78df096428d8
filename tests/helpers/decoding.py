"""Texts drawn step by step, for comparison."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lyricgen.generation.continuing import StepWatch, continue_texts, draw_uniforms
from lyricgen.generation.options import Strategy
from lyricgen.generation.rules import Rule, strategy_rules
from lyricgen.models.model import NextModel
from lyricgen.models.network import LanguageModel


def continue_prefixes(
    model: LanguageModel, prefixes: list[list[int]], **options: Any
) -> list[list[int]]:
    chosen = {"length": 20, "temperature": 1.0, "seeds": list(range(len(prefixes))), **options}
    uniforms = draw_uniforms("torch", chosen.pop("seeds"), chosen.pop("length"))
    texts = [torch.tensor(prefix) for prefix in prefixes]
    return draw_texts(model, texts, chosen.pop("temperature"), uniforms, **chosen)


def draw_texts(
    model: NextModel,
    prefixes: list[Tensor],
    temperature: float,
    uniforms: Tensor,
    stop: int | None = None,
    stops: Sequence[int] | None = None,
    rules: Sequence[Rule] = (),
    watch: StepWatch | None = None,
) -> list[list[int]]:
    strategy = Strategy(temperature=temperature)
    return continue_texts(
        model,
        prefixes,
        rules=[*rules, *strategy_rules(strategy)],
        uniforms=None if strategy.greedy else uniforms,
        length=uniforms.shape[1],
        stop=stop,
        stops=stops,
        watch=watch,
    )


@torch.no_grad()
def continue_by_rereading(model: LanguageModel, prefix: list[int], length: int) -> list[int]:
    """Greedy continuation that reads the whole text again for each character."""
    ids = list(prefix)
    for _ in range(length):
        logits = model(torch.tensor([ids]))[0][0, -1].tolist()
        ids.append(max(range(len(logits)), key=lambda symbol: logits[symbol]))
    return ids[len(prefix) :]
