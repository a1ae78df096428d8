"""The look of the report's plots: as PNG on white, and as SVG in the colours of the page."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lyricgen.errors import printable
from lyricgen.evaluation.fonts import families_for

DPI = 160
SIZE = (5.4, 3.6)  # inches
# Names of the page's colours, and what they are on a light ground and on a dark one.
INK, MUTED, LINE = "#1c1b1a", "#66625c", "#dedbd3"
LIGHT = {"ink": INK, "muted": MUTED, "line": LINE}
DARK = {"ink": "#ece9e4", "muted": "#a09b93", "line": "#2d2e36"}
SERIES = (
    *("#2f6fb7", "#d9722e", "#3a9457", "#c0413f", "#7d5bb5"),
    *("#8c6247", "#cf5fa5", "#1f9bab", "#a39a1f", "#5d6b7a"),
)
SERIES_DARK = (
    *("#6aa9ef", "#f2995c", "#6cc98a", "#f07a73", "#b196e8"),
    *("#c49a7e", "#f08fcb", "#5accdb", "#d2c94d", "#a9b7c6"),
)
LIGHT |= {f"series{number}": colour for number, colour in enumerate(SERIES)}
DARK |= {f"series{number}": colour for number, colour in enumerate(SERIES_DARK)}

PLAIN = FuncFormatter(lambda value, _: f"{value:,g}" if value < 1e6 else f"{value / 1e6:g}M")
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar in a setting is a dollar
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "lyricgen",
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


@contextmanager
def styled(words: str) -> Iterator[None]:
    """Draw and save in here.

    Args:
        words: that will be drawn, for fonts that have their characters.
    """
    families, _ = families_for(printable(words))
    with rc_context({**_STYLE, "font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # where no font has a character
        yield


def new_plot(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """An empty plot."""
    figure = Figure(size, dpi=DPI, layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set_title(title, size=10.5, loc="left", color=INK)
    return figure, axes


def scale(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Logarithmic where numbers are far apart, with ticks that can be read."""
    low, high = min(values), max(values)
    axis = axes.xaxis if which == "x" else axes.yaxis
    if low > 0 and high > 3 * low:
        axes.set(**{f"{which}scale": "log"})
        far = high > 12 * low
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if far else MaxNLocator(6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(PLAIN)


def add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Below the axes, which keep their height."""
    columns = 1 if max(map(len, labels)) > 32 else 2
    rows = -(-len(labels) // columns)
    figure.set_size_inches(SIZE[0], SIZE[1] - 0.9 + 0.19 * rows)
    figure.legend(
        handles,
        [printable(label) for label in labels],
        loc="outside lower left",
        ncols=columns,
        fontsize=8.5,
    )


def to_png(figure: Figure) -> bytes:
    """On white."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def to_svg(figure: Figure, name: str) -> str:
    """An element for a page that has the colours as properties, and nothing that it would fetch.

    Args:
        figure: to draw.
        name: what it shows, for those who cannot see it.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.S)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[\d.]+pt"', "", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)  # the page has its own
    names = {colour: one for one, colour in LIGHT.items()}
    text = re.sub("|".join(names), lambda match: f"var(--{names[match[0]]})", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)
