"""The report as a page and as Markdown, from the templates beside this module."""

import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from lyricgen.console import format_figure, progress
from lyricgen.errors import HARMLESS, escape_line, escape_text, in_one_line
from lyricgen.reporting.comparison import Comparison
from lyricgen.reporting.plot_style import DARK, LIGHT, plot_style, to_png, to_svg
from lyricgen.reporting.plots import (
    heat_axes,
    plot_curves,
    plot_heat,
    plot_importance,
    plot_price,
    read_curves,
)
from lyricgen.reporting.ranking import choose_sign
from lyricgen.reporting.records import Record, format_value
from lyricgen.reporting.tables import failures, list_columns, make_title, notes
from lyricgen.runs.directories import STUDY
from lyricgen.runs.record_files import MOST_OF_LINES, open_record

BEST_SHOWN = 3  # number of best runs whose samples are shown, besides the worst run
FEWEST = 10  # smallest number of finished trials for importances


class Plot(NamedTuple):
    """A plot as a PNG file and as an SVG element of the page."""

    name: str
    file: str
    png: bytes
    svg: str


class Section(NamedTuple):
    """The part of a report about one comparison, with messages in place of missing plots."""

    comparison: Comparison
    plots: list[Plot]
    messages: list[str]


def build_sections(comparisons: Sequence[Comparison]) -> list[Section]:
    """Make the plots of all comparisons."""
    return [
        Section(comparison, *_plot_comparison(comparison, "" if number == 1 else f"_{number}"))
        for number, comparison in enumerate(comparisons, 1)
    ]


def choose_plots(comparison: Comparison) -> tuple[dict[str, Callable[[], Figure]], list[str]]:
    """Choose the plots of a comparison.

    Returns:
        Functions that make the plots, by their names, such as "learning curves"; and messages in
        place of missing plots.
    """
    functions: dict[str, Callable[[], Figure]] = {}
    messages = []
    curves = read_curves(comparison)
    if curves.means:
        functions["learning curves"] = lambda: plot_curves(comparison, curves)
    for name, title in (("parameters", "parameters"), ("wall_seconds", "wall time in seconds")):
        if name != comparison.metric and comparison.rows[name].notna().any():
            functions[title.partition(" in ")[0]] = partial(plot_price, comparison, name, title)
    axes = heat_axes(comparison)
    if axes is not None:
        functions["heat map"] = lambda: plot_heat(comparison, *axes)
    shares = importances(comparison)
    if isinstance(shares, str):
        messages.append(shares)
    elif shares:
        functions["importance"] = lambda: plot_importance(shares)
    return functions, messages


def words_of(comparison: Comparison) -> str:
    """Join the words of a comparison's plots, for `plot_style`."""
    return comparison.name + "".join(map(comparison.label, comparison.groups))


def _plot_comparison(comparison: Comparison, suffix: str) -> tuple[list[Plot], list[str]]:
    """Make the plots of a comparison; return them, and messages in place of missing plots.

    `suffix` ends the names of the plots' files.
    """
    functions, messages = choose_plots(comparison)
    plots = []
    with (
        plot_style(words_of(comparison)),
        progress(f"plotting {comparison.name}", len(functions)) as moved,
    ):
        for number, (name, plot) in enumerate(functions.items()):
            moved(number)
            figure = plot()
            title = f"{name}: {make_title(comparison.metric)} on {comparison.name}"
            short = name.replace(" ", "_")
            plots.append(Plot(short, f"{short}{suffix}.png", to_png(figure), to_svg(figure, title)))
    return plots, messages


def importances(comparison: Comparison) -> dict[str, float] | str:
    """Measure the importance of each searched setting for the ranking figure.

    Optuna compares the best tenth of the runs with all runs by PED-ANOVA (Watanabe, Bansal and
    Hutter 2023). Only runs with the most common search space count.

    Returns:
        Shares that add up to 1, by setting, the largest first; {} if no run belongs to a search; or
        a message if the shares cannot be measured.
    """
    scored = [run for group in comparison.ranked for run in group.scored.values()]
    spaces = [json.dumps(run.summary.search_space, sort_keys=True) for run in scored]
    searched = [
        (run, space) for run, space in zip(scored, spaces, strict=True) if run.summary.search_space
    ]
    if not searched:
        return {}
    [(most_common, count)] = Counter(space for _, space in searched).most_common(1)
    runs = [run for run, space in searched if space == most_common]
    if count < FEWEST:
        return f"importance of settings needs {FEWEST} finished trials; there are {count}"
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


def _measure(optuna: Any, runs: list[Record], metric: str) -> dict[str, float]:
    study = optuna.create_study(direction="minimize" if choose_sign(metric) > 0 else "maximize")
    for sweep in dict.fromkeys(run.sweep for run in runs if run.sweep is not None):
        figures = {run.number: run.figures[metric] for run in runs if run.sweep == sweep}
        open_record(sweep / STUDY, MOST_OF_LINES).close()  # refuses all but ordinary files
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
    shares = optuna.importance.get_param_importances(study)  # PED-ANOVA is the default
    return {name: float(share) for name, share in shares.items()}


def _best_and_worst(comparison: Comparison) -> dict[str, list[str]]:
    """Return the samples of the best runs and of the worst run, by their headings."""
    runs = [
        (run.figures[comparison.metric], comparison.label(group), run)
        for group in comparison.ranked
        for run in group.scored.values()
        if run.summary.samples
    ]
    sign = choose_sign(comparison.metric)
    runs.sort(key=lambda one: sign * one[0])
    chosen = [*runs[:BEST_SHOWN], *runs[BEST_SHOWN:][-1:]]
    samples = {}
    names = ("best", "second", "third", "worst")
    for name, (value, label, run) in zip(names, chosen, strict=False):
        over = [
            f"{key} {format_value(run.settings[key])}"
            for key in comparison.over
            if key in run.settings
        ]
        figure = f"{make_title(comparison.metric)} {format_figure(value)}"
        samples[f"{name}: {', '.join([label, *over])} ({figure})"] = run.summary.samples
    return samples


def render(template: str, sections: Sequence[Section], source: str) -> str:
    """Fill the template report.md or report.html with sections; report.html loads no other file.

    `source` names the directories that were read.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html"),
        # escape characters that steer a terminal, except in the page's own elements
        finalize=lambda value: value if isinstance(value, Markup) else escape_line(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "title": make_title,
        "columns": list_columns,
        "notes": notes,
        "failures": failures,
        "samples": _best_and_worst,
        "chinese": lambda texts: any(re.search("[\u4e00-\u9fff]", text) for text in texts),
        "sample": lambda text: Markup(escape(escape_text(text, HARMLESS))),
        "markdown": lambda text: re.sub(r"([|\\`*_<>\[\]])", r"\\\1", text).replace("&", "&amp;"),
    }
    records = [run for section in sections for run in section.comparison.records]
    counts = Counter(run.summary.status for run in records)
    facts = {"runs": len(records) - counts["missing"]}
    facts |= {name: counts[name] for name in sorted(counts, key=lambda k: (k != "finished", k))}
    colours = {
        name: Markup(" ".join(f"--{one}: {colour};" for one, colour in each.items()))
        for name, each in {"light": LIGHT, "dark": DARK}.items()
    }
    text = environment.get_template(template).render(
        sections=sections, source=source, facts=facts, **colours
    )
    return text.rstrip() + "\n"
