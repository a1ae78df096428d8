"""How much each setting of a search matters, by Optuna."""

import json
import logging
import warnings
from collections import Counter
from typing import Any

from lyricgen.reporting.comparison import Comparison, sign_of
from lyricgen.reporting.records import Record
from lyricgen.settings import Value

FEWEST = 10  # finished trials from which anything can be said

Importances = dict[str, float]


def searched(comparison: Comparison) -> list[Record]:
    """Scored runs of a search; if search spaces differ, those of the most common one."""
    runs = [run for cell in comparison.ranked for run in cell.scored.values() if run.search_space]
    spaces = Counter(_space(run) for run in runs)
    largest = max(spaces, key=lambda space: spaces[space], default=None)
    return [run for run in runs if _space(run) == largest]


def importances(comparison: Comparison) -> Importances | str:
    """The share of each searched setting in what sets the best tenth of runs apart.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023), which needs no package beside Optuna.

    Returns:
        Shares that add up to 1, the largest first; or why there are none, in one line.
    """
    runs = searched(comparison)
    if len(runs) < FEWEST:
        return f"importance of settings needs {FEWEST} finished trials; there are {len(runs)}"
    try:
        import optuna
    except ImportError:
        return "importance of settings needs Optuna: pip install 'lyricgen[optuna]'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _measure(optuna, runs, comparison.metric)
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        return f"importance of settings: {error}"


def _measure(optuna: Any, runs: list[Record], metric: str) -> Importances:
    settings = [run.settings for run in runs]
    distributions = {
        name: _distribution(optuna, entry, [one.get(name) for one in settings])
        for name, entry in runs[0].search_space.items()
    }
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        study = optuna.create_study(direction="minimize" if sign_of(metric) > 0 else "maximize")
        for run, one in zip(runs, settings, strict=True):
            values = {name: one.get(name) for name in distributions}
            trial = optuna.trial.create_trial(
                params=values, distributions=distributions, value=run.figures[metric]
            )
            study.add_trial(trial)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(level)
    return {name: float(share) for name, share in found.items()}


def _distribution(optuna: Any, entry: dict[str, Any], values: list[Value]) -> Any:
    if "choices" in entry:
        return optuna.distributions.CategoricalDistribution(entry["choices"])
    low, high, step, log = (entry.get(name) for name in ("low", "high", "step", "log"))
    if all(isinstance(number, int) for number in (low, high, *values)):
        return optuna.distributions.IntDistribution(low, high, log=bool(log), step=step or 1)
    return optuna.distributions.FloatDistribution(low, high, log=bool(log), step=step)


def _space(run: Record) -> str:
    return json.dumps(run.search_space, sort_keys=True)
