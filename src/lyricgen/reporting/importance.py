"""How much each setting of a search matters, by Optuna, from the file of its study."""

import json
import logging
import warnings
from collections import Counter
from typing import Any

from lyricgen.errors import in_one_line
from lyricgen.reporting.comparison import Comparison, sign_of
from lyricgen.reporting.records import Record
from lyricgen.runs.directories import STUDY
from lyricgen.runs.record_files import MOST_OF_LINES, open_record

FEWEST = 10  # finished trials from which anything can be said

Importances = dict[str, float]


def searched(comparison: Comparison) -> list[Record]:
    """List the scored runs of a search; if search spaces differ, of the most common space."""
    scored = [run for cell in comparison.ranked for run in cell.scored.values()]
    spaces = {id(run): json.dumps(run.summary.search_space, sort_keys=True) for run in scored}
    runs = [run for run in scored if run.summary.search_space]
    counts = Counter(spaces[id(run)] for run in runs)
    return [run for run in runs if spaces[id(run)] == counts.most_common(1)[0][0]]


def importances(comparison: Comparison) -> Importances | str:
    """The share of each searched setting in what sets the best tenth of runs apart.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023), which needs no package beside Optuna.

    Returns:
        Shares that add up to 1, the largest first; or why there are none, in one line.
    """
    runs = searched(comparison)
    if len(runs) < FEWEST:
        return f"importance of settings needs {FEWEST} finished trials; there are {len(runs)}"
    if not all(run.sweep is not None and (run.sweep / STUDY).exists() for run in runs):
        return f"importance of settings needs {STUDY} in the directory of the search"
    try:
        import optuna
    except ImportError:
        return "importance of settings needs Optuna: pip install 'lyricgen[optuna]'"
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _measure(optuna, runs, comparison.metric)
    except Exception as error:  # a damaged file may hold anything
        return f"importance of settings: {in_one_line(str(error))}"
    finally:
        optuna.logging.set_verbosity(level)


def _measure(optuna: Any, runs: list[Record], metric: str) -> Importances:
    study = optuna.create_study(direction="minimize" if sign_of(metric) > 0 else "maximize")
    for sweep in dict.fromkeys(run.sweep for run in runs if run.sweep is not None):
        figures = {run.number: run.figures[metric] for run in runs if run.sweep == sweep}
        open_record(sweep / STUDY, MOST_OF_LINES).close()  # an ordinary file
        journal = optuna.storages.journal.JournalFileBackend(str(sweep / STUDY))
        storage = optuna.storages.JournalStorage(journal)
        for trial in optuna.load_study(study_name="study", storage=storage).trials:
            number = trial.user_attrs.get("job")
            if number in figures and trial.state == optuna.trial.TrialState.COMPLETE:
                done = optuna.trial.create_trial(
                    params=trial.params,
                    distributions=trial.distributions,
                    value=figures.pop(number),
                )
                study.add_trial(done)
    found = optuna.importance.get_param_importances(study)  # by PED-ANOVA
    return {name: float(share) for name, share in found.items()}
