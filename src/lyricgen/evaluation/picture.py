"""A picture of figures: bars with intervals for each part, and the curves below them."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lyricgen.console import rounded
from lyricgen.errors import printable
from lyricgen.evaluation.curves import Curve, Curves
from lyricgen.evaluation.estimates import Row
from lyricgen.evaluation.figures import Figures
from lyricgen.evaluation.fonts import families_for

DPI = 120
WIDTH = 13  # inches
PLAIN = FuncFormatter(lambda value, _: f"{value:,g}")  # 1,000 instead of a power of ten
COLOURS = {"checkpoint": "C0", "mixture": "C4", "ngram": "C7", "unigram": "C7", "uniform": "C7"}
TITLES = {
    "position": "by position in the {place}",
    "context": "by characters of context",
    "frequency": "by times in the training part",
}


def draw(figures: Figures, curves: Curves | None) -> Figure:
    """Draw all parts, and curves where there are some."""
    names = [row.series.name for row in max(figures.parts.values(), key=len)]
    bars = 0.32 * len(names) + 1.1
    heights = [bars] if curves is None else [bars, 3.4]
    figure = Figure((WIDTH, sum(heights) + 0.5), dpi=DPI, layout="constrained")
    rows = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    families, _ = families_for("".join(map(printable, names)) + figures.evaluated[0].corpus.name)
    axes = rows[0].subplots(1, len(figures.parts), sharey=True, squeeze=False)[0]
    for each, (part, of_part) in zip(axes, figures.parts.items(), strict=True):
        _draw_bars(each, part, of_part, names)
    axes[0].set_yticks(range(len(names)), [*map(printable, names)], family=families)
    axes[0].invert_yaxis()
    what = f"{figures.prefix}perplexity".replace("_", "-")
    title = f"{what} on {printable(figures.evaluated[0].corpus.name)}, 95 % intervals"
    rows[0].suptitle(title, family=families)
    if curves is not None:
        rows[1].suptitle(f"{what} on {curves.part}")
        panels = rows[1].subplots(1, len(curves.curves), squeeze=False)[0]
        for each, curve in zip(panels, curves.curves, strict=True):
            _draw_curve(each, curve, TITLES[curve.name].format(place=curves.position_in), families)
    return figure


def _draw_bars(axes: Axes, part: str, rows: Sequence[Row], names: Sequence[str]) -> None:
    for row in rows:
        value, low, high = row.perplexity
        place = names.index(row.series.name)
        error = None
        if low is not None and high is not None and high - low > 1e-9 * value:
            error = [[value - low], [high - value]]
        axes.barh(
            place,
            value - 1,
            left=1,  # nothing is below it, and a logarithmic axis has no 0
            xerr=error,
            color=COLOURS[row.series.kind],
            height=0.7,
            error_kw={"elinewidth": 1.2, "capsize": 2.5},
        )
        axes.annotate(
            rounded(value),
            (value if high is None else high, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            size=8,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.margins(x=0.22)
    axes.set_xlim(left=1)
    axes.set_title(f"{part}: {rows[0].characters:,} characters", size=10)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, curve: Curve, title: str, families: list[str]) -> None:
    places = curve.told
    for label, values in curve.perplexities.items():
        known = [(place, value) for place, value in enumerate(values) if value is not None]
        axes.plot(*zip(*known, strict=True), marker="o", markersize=3, label=printable(label))
    ticks = [one for one in places if curve.name != "position" or _has_tick(one, len(places))]
    rotation = 45 if curve.name == "frequency" else 0
    axes.set_xticks(ticks, [curve.places[one] for one in ticks], size=8, rotation=rotation)
    axes.set_title(title, size=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(curve.perplexities) > 1:
        axes.legend(prop={"family": families, "size": 8})
    if curve.name == "frequency":
        _note_characters(axes, curve)


def _note_characters(axes: Axes, curve: Curve) -> None:
    """Say below each place on how many characters it rests."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(PLAIN)
    low, high = axes.get_ylim()
    axes.set_ylim(low / (high / low) ** 0.2)
    for place in curve.told:
        axes.annotate(
            f"{curve.characters[place]:,}",
            (place, 0.02),
            xycoords=("data", "axes fraction"),
            rotation=90,
            ha="center",
            size=7,
            color="0.4",
        )


def _has_tick(place: int, number: int) -> bool:
    """Whether a position stands on the axis: 1, 5, 10, 15 …, fewer where they are many."""
    step = 5 * max(1, -(-number // 60))
    return place == 0 or (place + 1) % step == 0
