"""Style of the report's plots: PNG on white, SVG in the colours of the page."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lyricgen.errors import escape_line
from lyricgen.evaluation.style import choose_families

DPI = 160
SIZE = (5.4, 3.6)  # inches
# The page's colours by name, on a light and on a dark ground.
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
def plot_style(words: str) -> Iterator[None]:
    """Set the style of figures, with fonts for `words`, until the block ends."""
    families, _ = choose_families(escape_line(words))
    with rc_context({**_STYLE, "font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # no font has the character
        yield


class ShownFigure(Figure):
    """Figure that a notebook shows."""

    def _repr_png_(self) -> bytes:
        return to_png(self)


def new_plot(title: str, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """Create an empty plot; `size` is in inches."""
    figure = ShownFigure(size, dpi=DPI, layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set_title(title, size=10.5, loc="left", color=INK)
    return figure, axes


def set_scale(axes: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Scale an axis for `values`, which must not be empty.

    The axis is logarithmic if all values are positive and the largest exceeds three times the
    smallest.
    """
    low, high = min(values), max(values)
    axis = axes.xaxis if which == "x" else axes.yaxis
    if low > 0 and high > 3 * low:
        axes.set(**{f"{which}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 12 * low else MaxNLocator(6))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(PLAIN)


def add_legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Add a legend below the axes, which keep their height."""
    columns = 1 if max(map(len, labels)) > 32 else 2
    rows = -(-len(labels) // columns)
    figure.set_size_inches(SIZE[0], SIZE[1] - 0.9 + 0.19 * rows)
    names = [escape_line(label) for label in labels]
    figure.legend(handles, names, loc="outside lower left", ncols=columns, fontsize=8.5)


# The canvases write the image themselves: `Figure.savefig` would render the figure twice.


def to_png(figure: Figure) -> bytes:
    """Draw a figure on a white background; return the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.set_facecolor("white")
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def to_svg(figure: Figure, name: str) -> str:
    """Draw a figure as an SVG element for the page, which defines the colours.

    `name` describes the figure for readers who cannot see it.
    """
    stream = io.StringIO()
    figure.set_facecolor("none")
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    unneeded = (
        r"<metadata>.*?</metadata>|<style.*?</style>"
        r"| xmlns(:xlink)?=\"[^\"]*\"| (width|height)=\"[\d.]+pt\""
        r"|font-family: [^;\"]*;? ?"  # the page has fonts
    )
    text = re.sub(unneeded, "", text, flags=re.DOTALL).replace("xlink:href=", "href=")
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    names = {colour: one for one, colour in LIGHT.items()}
    text = re.sub("|".join(names), lambda match: f"var(--{names[match[0]]})", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)
