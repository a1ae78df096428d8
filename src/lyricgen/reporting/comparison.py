"""Comparisons of runs: a table for each text and task, a row for each group, the best first."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mpmath import betainc

from lyricgen.reporting.grouping import (
    Values,
    follows,
    group_by_text,
    list_varied_settings,
    name_texts,
)
from lyricgen.reporting.ranking import (
    check_metric,
    choose_metric,
    choose_sign,
    figure_prefix,
    is_scored,
)
from lyricgen.reporting.records import ABSENT, Record, check_known, format_value, shorten
from lyricgen.runs.summary import EnsembleSummary

LEVEL = 0.05  # a difference with a smaller p-value is significant
# Figures whose means stand beside the ranking figure.
FIGURES = ("parameters", "chars_per_second", "wall_seconds", "best_epoch")


@dataclass(frozen=True)
class Group:
    """Runs with the same values of the settings grouped by; they make a row of the table.

    Attributes:
        settings: values of the settings grouped by.
        scored: finished runs with the ranking figure, by their values of the settings averaged
            over, which are `over` and `mixed` of the comparison.
        unscored: all other runs, which are unfinished or have no ranking figure.
    """

    settings: Values
    scored: dict[Values, Record]
    unscored: list[Record]


@dataclass(frozen=True)
class EnsembleRow:
    """All jobs of a sweep as one model, in a row of the table.

    Attributes:
        settings: values of the settings grouped by; a dash where the jobs differ.
        combination: average of the jobs' distributions, arithmetic or geometric.
        jobs: number of jobs.
        figures: figures by their names in the summary of a run.
    """

    settings: Values
    combination: str
    jobs: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """Comparison of the runs of one text and task.

    Attributes:
        name: name of the text.
        prefix: prefix of the names of perplexities, one of `PREFIXES`; "" for most models.
        metric: the ranking figure.
        keys: settings that the runs are grouped by.
        over: settings averaged over.
        mixed: other settings that differ within groups.
        repeated: number of runs left out because a scored or a later run has the same settings.
        groups: groups of runs, the best first, groups without a figure last.
        rows: figures of each group, by the names in docs/report.md.
        ensembles: ensembles of the jobs of sweeps, which are not ranked.
    """

    name: str
    prefix: str
    metric: str
    keys: tuple[str, ...]
    over: tuple[str, ...]
    mixed: tuple[str, ...]
    repeated: int
    groups: list[Group]
    rows: pd.DataFrame
    ensembles: list[EnsembleRow]

    @property
    def test_metric(self) -> str:
        """Name of the test perplexity."""
        return f"test/{self.prefix}perplexity"

    @property
    def records(self) -> list[Record]:
        """The runs of all groups."""
        return [run for group in self.groups for run in (*group.scored.values(), *group.unscored)]

    @property
    def ranked(self) -> list[Group]:
        """The groups that have a ranking figure."""
        return [group for group in self.groups if group.scored]

    def label(self, group: Group) -> str:
        """Write the settings of a group in a line."""
        return self._label(map(format_value, group.settings))

    def short_label(self, group: Group) -> str:
        """Write the settings of a group for a legend, shortened to the parts that differ."""
        columns = zip(*(each.settings for each in self.groups), strict=True)
        texts = [shorten(list(map(format_value, column))) for column in columns]
        return self._label(column[self.groups.index(group)] for column in texts)

    def _label(self, texts: Iterable[str]) -> str:
        return ", ".join(f"{key} {text}" for key, text in zip(self.keys, texts, strict=True))


def compare(
    records: Sequence[Record],
    by: Sequence[str],
    over: Sequence[str],
    metric: str | None,
    ensembles: Mapping[Path, EnsembleSummary] | None = None,
) -> list[Comparison]:
    """Group and rank runs.

    Args:
        records: runs to compare, at least one.
        by: settings to group by; empty for the settings that vary.
        over: settings to average over.
        metric: the ranking figure; None for the validation perplexity, or for the training
            perplexity if no run on the text has validated.
        ensembles: all jobs of a sweep as one model, by the directory of the sweep.

    Returns:
        A comparison for each text and task.

    Raises:
        UserError: no run has a setting in `by` or `over`, or no run can be ranked by `metric`.
    """
    check_known(by, records, "--by")
    if list(over) != ["seed"]:  # the default holds for runs that failed before their seed, too
        check_known(over, records, "--over")
    if metric is not None:
        check_metric(metric, records)
    texts = group_by_text(records)
    return [
        _compare(name, text, by, over, metric, ensembles or {})
        for name, text in zip(name_texts(texts), texts, strict=True)
    ]


def _compare(
    name: str,
    records: list[Record],
    by: Sequence[str],
    over: Sequence[str],
    metric: str | None,
    ensembles: Mapping[Path, EnsembleSummary],
) -> Comparison:
    settings = [record.settings for record in records]
    ranking = choose_metric(records, metric)
    found = list_varied_settings(records, over)
    keys = tuple(by or found or ["name"])
    mixed = [key for key in found if key not in keys and not follows(key, [*keys, *over], settings)]

    runs: dict[Values, dict[Values, Record]] = {}
    for record in records:
        group, pair = runs.setdefault(record.values(keys), {}), record.values((*over, *mixed))
        repeats = [group[pair], record] if pair in group else [record]
        group[pair] = max(repeats, key=lambda run: (is_scored(run, ranking), run.summary.started))
    groups = [
        Group(
            values,
            {pair: run for pair, run in group.items() if is_scored(run, ranking)},
            [run for run in group.values() if not is_scored(run, ranking)],
        )
        for values, group in runs.items()
    ]
    repeated = len(records) - sum(map(len, runs.values()))
    prefix = figure_prefix(records)
    ranked, rows = _rank(groups, ranking, prefix)
    return Comparison(
        name=name,
        prefix=prefix,
        metric=ranking,
        keys=keys,
        over=tuple(over),
        mixed=tuple(mixed),
        repeated=repeated,
        groups=ranked,
        rows=rows,
        ensembles=_find_ensembles(records, keys, ranking, ensembles),
    )


def _find_ensembles(
    records: Sequence[Record],
    keys: Sequence[str],
    metric: str,
    ensembles: Mapping[Path, EnsembleSummary],
) -> list[EnsembleRow]:
    """Find the ensembles of the sweeps whose jobs are all among some runs, unchanged."""
    found = []
    for sweep, summary in ensembles.items():
        jobs = [record for record in records if record.sweep == sweep]
        figures = {name: one for name, one in summary.metrics.items() if one is not None}
        losses = [job.figures.get("val/loss") for job in jobs]
        if metric in figures and losses == summary.losses:  # no job has gone on since
            columns = zip(*(job.values(keys) for job in jobs), strict=True)
            settings = tuple(each[0] if len(set(each)) == 1 else ABSENT for each in columns)
            found.append(EnsembleRow(settings, summary.combination, len(jobs), figures))
    return sorted(found, key=lambda each: choose_sign(metric) * each.figures[metric])


def _rank(groups: list[Group], metric: str, prefix: str) -> tuple[list[Group], pd.DataFrame]:
    """Rank groups by a figure; return them and a row of figures for each, the best first."""
    names = {"mean": metric, "test_perplexity": f"test/{prefix}perplexity"}
    names |= {name: name for name in FIGURES}
    runs = pd.DataFrame(
        [
            (number, pair, *map(run.figures.get, names.values()))
            for number, group in enumerate(groups)
            for pair, run in group.scored.items()
        ],
        columns=["group", "pair", *names],
    ).astype(dict.fromkeys(names, float))
    by_group = runs.groupby("group")[list(names)]
    rows = by_group.mean().reindex(range(len(groups)))
    rows[["deviation", "test_deviation"]] = by_group.std()[["mean", "test_perplexity"]]
    rows["n"] = [len(group.scored) for group in groups]
    lacking = [Counter(map(reason_without_figure, group.unscored)) for group in groups]
    rows["incomplete"] = [", ".join(f"{n} {why}" for why, n in one.items()) for one in lacking]
    reasons = ([run.summary.reason for run in group.unscored] for group in groups)
    rows["reasons"] = ["; ".join(dict.fromkeys(filter(None, each))) for each in reasons]
    sign = choose_sign(metric)
    rows = rows.sort_values("mean", key=lambda means: sign * means, kind="stable")
    pairs = runs.assign(pair=pd.factorize(runs["pair"])[0])
    values = pairs.pivot(index="pair", columns="group", values="mean")
    compared = [_compare_with_best(rows, values, number, sign) for number in rows.index]
    beside = pd.DataFrame(compared, rows.index, ["difference", "p", "pairs", "verdict"])
    rows = rows.join(beside.astype({"pairs": "Int64"}))
    order = ["n", "mean", "deviation", *beside, "test_perplexity", *FIGURES, "test_deviation"]
    ranked = rows[[*order, "incomplete", "reasons"]].reset_index(drop=True)
    return [groups[number] for number in rows.index], ranked


def _compare_with_best(
    rows: pd.DataFrame, values: pd.DataFrame, number: int, sign: int
) -> tuple[float | None, float | None, int | None, str]:
    """Compare group `number` with the best group: difference, p, number of pairs, verdict.

    All are empty for the best group itself and for a group without a figure; p and the verdict are
    also empty if `paired_test` gives None. `rows` holds the figures of all groups, the best first.
    `values` holds the ranking figure by pair and group. `sign` comes from `choose_sign`.
    """
    best = rows.index[0]
    if number == best or number not in values:
        return None, None, None, ""
    pairs = (values[number] - values[best]).dropna()
    if pairs.empty:
        return rows["mean"][number] - rows["mean"][best], None, 0, ""
    difference, p = float(pairs.mean()), paired_test(pairs)
    verdict = "" if p is None else "not told apart"
    if p is not None and p < LEVEL:
        verdict = "worse" if sign * difference > 0 else "better"
    return difference, p, len(pairs), verdict


def paired_test(differences: "pd.Series[float]") -> float | None:
    """Compute the two-sided p-value of Student's paired t-test.

    The result is None for fewer than two pairs and for equal differences. Otherwise P(|T| > |t|) is
    the regularised incomplete beta function I(ν/2, 1/2) at ν/(ν + t²), ν = n - 1 (Abramowitz and
    Stegun 1964, 26.7.1). mpmath comes with torch. If scipy were installed, Lightning would import
    it at every start.
    """
    # equal up to rounding, as for n-grams, which no seed changes
    if len(differences) < 2 or differences.std() <= 1e-12 * differences.abs().max():
        return None
    freedom = len(differences) - 1
    t = float(differences.mean()) / (float(differences.std()) / math.sqrt(len(differences)))
    return float(betainc(freedom / 2, 0.5, 0, freedom / (freedom + t**2), regularized=True))


def reason_without_figure(record: Record) -> str:
    """Return the reason why a run has no ranking figure."""
    status = record.summary.status
    return "without a figure" if status == "finished" else status
