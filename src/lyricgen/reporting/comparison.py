"""Comparisons of runs: a table for each text and task, a row for each group, the best first."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mpmath import betainc

from lyricgen.errors import UserError, did_you_mean
from lyricgen.reporting.records import Record, check_known, format_value, shorten
from lyricgen.runs.summary import PREFIXES
from lyricgen.settings import DECIDING, SPLITTING, Settings, Value, belongs_to, is_plumbing

LEVEL = 0.05  # a difference with a smaller p-value is significant
DEFAULT_METRIC = "val/perplexity"  # ranks the groups by default, unless nothing is held out
# Ends of the names of figures that can rank groups, whose smallest or largest value is best.
SMALLEST_BEST = ("loss", "perplexity", "bits_per_char", "parameters", "wall_seconds")
LARGEST_BEST = ("chars_per_second",)
# Figures whose means stand beside the ranking figure.
FIGURES = ("parameters", "chars_per_second", "wall_seconds", "best_epoch")
# Settings that distinguish tasks on one text, which are never in one table; all of them; and those
# that distinguish texts and tasks where the digest is unknown.
LEARNT = ("objective", "memory", "memory.scope", "memory.size")
TASK = (*LEARNT, *(f"data.{name}" for name in SPLITTING))
CORPUS = (*LEARNT, "data", *(f"data.{name}" for name in DECIDING if name != "kind"))
# Settings besides plumbing that make no column, unless a sweep tries several values.
_NO_COLUMN = ("data.max_bytes", "debug")

Values = tuple[Value, ...]


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
    records: Sequence[Record], by: Sequence[str], over: Sequence[str], metric: str | None
) -> list[Comparison]:
    """Group and rank runs.

    Args:
        records: runs to compare, at least one.
        by: settings to group by; empty for the settings that vary.
        over: settings to average over.
        metric: the ranking figure; None for the validation perplexity, or for the training
            perplexity if no run on the text has validated.

    Returns:
        A comparison for each text and task.

    Raises:
        UserError: no run has a setting in `by` or `over`, or no run can be ranked by `metric`.
    """
    check_known(by, records, "--by")
    if list(over) != ["seed"]:  # the default holds for runs that failed before their seed, too
        check_known(over, records, "--over")
    if metric is not None:
        known = {name for record in records for name in record.figures}
        known |= {name.replace(prefix, "") for name in known for prefix in PREFIXES}
        rankable = sorted(name for name in known if name.endswith((*SMALLEST_BEST, *LARGEST_BEST)))
        if metric not in rankable:
            there, meant = ", ".join(rankable), did_you_mean(metric, rankable)
            raise UserError(f"--metric {metric}: no run has it (there is {there}){meant}")
    texts = _group_by_text(records)
    return [_compare(*each, by, over, metric) for each in zip(_names(texts), texts, strict=True)]


def _group_by_text(records: Sequence[Record]) -> list[list[Record]]:
    """Group runs that learn the same task on the same text.

    The digest identifies a text. An old run has no digest, so its settings identify the text. A job
    that failed before it read its text joins runs with the same settings, preferably of its own
    sweep, else the latest.
    """
    texts: dict[Values, list[Record]] = {}
    by_settings: dict[Values, dict[Values, None]] = {}  # keys of `texts`
    unread: list[Record] = []
    for record in records:
        settings = record.values(CORPUS)
        if record.summary.corpus_digest is not None:
            text: Values = (record.summary.corpus_digest, *record.values(TASK))
        elif any("/" in name for name in record.figures):
            text = settings
        else:
            unread.append(record)
            continue
        texts.setdefault(text, []).append(record)
        by_settings.setdefault(settings, {})[text] = None
    for record in unread:
        settings = record.values(CORPUS)
        candidates = by_settings.get(settings, {settings: None})
        text = max(candidates, key=lambda each: _nearness(record, texts.get(each, [])))
        texts.setdefault(text, []).append(record)
    return list(texts.values())


def _nearness(record: Record, runs: Sequence[Record]) -> tuple[bool, str]:
    same_sweep = any(record.sweep is not None and other.sweep == record.sweep for other in runs)
    return same_sweep, max((other.summary.started for other in runs), default="")


def _names(texts: Sequence[Sequence[Record]]) -> list[str]:
    """Name each text by its kind or file; where names are equal, add settings, then digests."""
    settings = [dict(zip(CORPUS, runs[0].values(CORPUS), strict=True)) for runs in texts]
    files = []
    for each in settings:
        kind, path = each["data"], each["data.path"]
        is_file = kind == "text" and isinstance(path, str)
        files.append(Path(str(path)).name if is_file else format_value(kind))
    names = []
    for each, file in zip(settings, files, strict=True):
        same = [other for other, name in zip(settings, files, strict=True) if name == file]
        differing = [key for key in CORPUS if len({one[key] for one in same}) > 1 and key != "data"]
        found = [(key, format_value(each[key])) for key in differing]
        names.append(", ".join([file, *(f"{key}={value}" for key, value in found if value != "–")]))
    digests = (runs[0].summary.corpus_digest for runs in texts)
    ends = ["text without a digest" if one is None else f"text {one[:8]}" for one in digests]
    named = zip(names, ends, strict=True)
    return [name if names.count(name) == 1 else f"{name}, {end}" for name, end in named]


def _compare(
    name: str, records: list[Record], by: Sequence[str], over: Sequence[str], metric: str | None
) -> Comparison:
    of_first = records[0].settings.items()
    prefix = next((prefix for prefix, setting in PREFIXES.items() if setting in of_first), "")
    split, _, figure = (metric or DEFAULT_METRIC).rpartition("/")
    figure = prefix + figure if figure in ("perplexity", "bits_per_char") else figure
    ranking = f"{split}/{figure}" if split else figure
    if metric is None and not any(ranking in record.figures for record in records):
        ranking = f"train/{figure}"  # nothing is held out
    found = list_varied_settings(records, over)
    keys = tuple(by or found or ["name"])
    settings = [record.settings for record in records]
    mixed = [key for key in found if key not in keys and not follows(key, [*keys, *over], settings)]

    def is_scored(run: Record) -> bool:
        return run.summary.status == "finished" and ranking in run.figures

    runs: dict[Values, dict[Values, Record]] = {}
    for record in records:
        group, pair = runs.setdefault(record.values(keys), {}), record.values((*over, *mixed))
        repeats = [group[pair], record] if pair in group else [record]
        group[pair] = max(repeats, key=lambda run: (is_scored(run), run.summary.started))
    groups = [
        Group(
            values,
            {pair: run for pair, run in group.items() if is_scored(run)},
            [run for run in group.values() if not is_scored(run)],
        )
        for values, group in runs.items()
    ]
    repeated = len(records) - sum(map(len, runs.values()))
    ranked = _rank(groups, ranking, prefix)
    return Comparison(name, prefix, ranking, keys, tuple(over), tuple(mixed), repeated, *ranked)


def list_varied_settings(records: Sequence[Record], over: Sequence[str]) -> list[str]:
    """List the settings in which runs of one text and task differ.

    The settings in `over`, the names of runs and the settings of the text are left out. A
    setting that does not affect learning is listed only if a sweep tries several of its values.

    Returns:
        First the typed settings that differ, in the order of typing; then the options that still
        differ between runs with equal typed settings.
    """
    settings = [record.settings for record in records]
    options = {key for record in records for key in record.options}
    tried: dict[tuple[Path, str], set[Value]] = {}  # values that a sweep tries
    for record in records:
        for key, value in record.overrides.items():
            if record.sweep is not None:
                tried.setdefault((record.sweep, key), set()).add(value)
    in_sweep = {key for (_, key), values in tried.items() if len(values) > 1}
    differing = [
        key
        for key in _keys(settings)
        if len({one[key] for one in settings if key in one}) > 1
        and key not in (*over, "name", "resume", *CORPUS)
        and (key in in_sweep or (key != "trainer" and not is_plumbing(key)))
        and (key in in_sweep or not belongs_to(key, _NO_COLUMN))
        # a group that is no option, such as depth=deep, is known only where it was typed
        and (key in options or all(key in one for one in settings))
    ]
    chosen = [key for key in _keys(record.overrides for record in records) if key in differing]
    for key in sorted(differing, key=lambda key: key.count(".")):
        if key not in chosen and not follows(key, [*chosen, *over], settings):
            chosen.append(key)
    return chosen


def _keys(each: Iterable[Settings]) -> list[str]:
    return list(dict.fromkeys(key for one in each for key in one))


def follows(key: str, names: Sequence[str], settings: Sequence[Settings]) -> bool:
    """Whether the settings `names` determine the setting `key` in all runs that have it."""
    found: dict[Values, Value] = {}
    for one in settings:
        values = tuple(one.get(name) for name in names)
        if key in one and found.setdefault(values, one[key]) != one[key]:
            return False
    return True


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


def choose_sign(metric: str) -> int:
    """Return 1 if the smallest value of a figure is best, else -1."""
    return -1 if metric.endswith(LARGEST_BEST) else 1


def reason_without_figure(record: Record) -> str:
    """Return the reason why a run has no ranking figure."""
    status = record.summary.status
    return "without a figure" if status == "finished" else status
