"""The figure by which runs are ranked, and runs on one text in the order of it."""

from collections.abc import Sequence

from lyricgen.errors import UserError, did_you_mean
from lyricgen.reporting.grouping import group_by_text, name_texts
from lyricgen.reporting.records import Record
from lyricgen.runs.summary import PREFIXES

DEFAULT_METRIC = "val/perplexity"  # ranks runs by default, unless nothing is held out
# Ends of the names of figures that can rank runs, whose smallest or largest value is best.
SMALLEST_BEST = ("loss", "perplexity", "bits_per_char", "parameters", "wall_seconds")
LARGEST_BEST = ("chars_per_second",)


def check_metric(metric: str, records: Sequence[Record]) -> None:
    """Check that some run has a figure that can rank runs.

    Raises:
        UserError: no run has it; the message lists the figures that there are.
    """
    known = {name for record in records for name in record.figures}
    known |= {name.replace(prefix, "") for name in known for prefix in PREFIXES}
    rankable = sorted(name for name in known if name.endswith((*SMALLEST_BEST, *LARGEST_BEST)))
    if metric not in rankable:
        there, meant = ", ".join(rankable), did_you_mean(metric, rankable)
        raise UserError(f"--metric {metric}: no run has it (there is {there}){meant}")


def figure_prefix(records: Sequence[Record]) -> str:
    """Prefix of the names of perplexities of runs on one text, one of `PREFIXES`, or none."""
    alike = records[0].settings.items()  # all runs on a text have the same prefix
    return next((prefix for prefix, setting in PREFIXES.items() if setting in alike), "")


def choose_metric(records: Sequence[Record], metric: str | None = None) -> str:
    """Name the figure that ranks runs on one text.

    Args:
        records: the runs, at least one.
        metric: the chosen figure, without a prefix; None for the validation perplexity, or for the
            training perplexity if no run has validated.
    """
    prefix = figure_prefix(records)
    split, _, figure = (metric or DEFAULT_METRIC).rpartition("/")
    figure = prefix + figure if figure in ("perplexity", "bits_per_char") else figure
    ranking = f"{split}/{figure}" if split else figure
    if metric is None and not any(ranking in record.figures for record in records):
        return f"train/{figure}"  # nothing is held out
    return ranking


def choose_sign(metric: str) -> int:
    """Return 1 if the smallest value of a figure is best, else -1."""
    return -1 if metric.endswith(LARGEST_BEST) else 1


def is_scored(record: Record, metric: str) -> bool:
    """Whether a run has finished and has the figure that ranks runs."""
    return record.summary.status == "finished" and metric in record.figures


def rank_records(records: Sequence[Record]) -> list[Record]:
    """Rank the finished runs on one text and task, the best first; of equal ones the newer.

    `choose_metric` names the figure. Unfinished runs and runs without the figure are left out.

    Raises:
        UserError: the finished runs are on several texts, or no finished run has the figure.
    """
    finished = [one for one in records if one.summary.status == "finished" and one.summary.metrics]
    texts = group_by_text(finished)
    if len(texts) > 1:
        raise UserError(
            f"the runs are on {len(texts)} texts or tasks, whose figures do not compare: add "
            "data=… (data=text for files) or another condition that leaves one: "
            f"{'; '.join(name_texts(texts))}"
        )
    ranking = choose_metric(finished) if finished else DEFAULT_METRIC
    scored = [record for record in finished if is_scored(record, ranking)]
    if not scored:
        raise UserError(f"no run has finished with {ranking}: choose other runs, or train one")
    newest_first = sorted(scored, key=lambda record: record.summary.started, reverse=True)
    return sorted(newest_first, key=lambda record: choose_sign(ranking) * record.figures[ranking])
