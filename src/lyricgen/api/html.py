"""Parts of the page by which a notebook shows runs; all texts are escaped."""

import base64
from collections.abc import Callable, Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from lyricgen.errors import HARMLESS, escape_text
from lyricgen.reporting.plot_style import plot_style, to_png


def make_figure(plot: Callable[[], Figure], words: str) -> Figure:
    """Make a plot with fonts for `words` on a white ground."""
    with plot_style(words):
        figure = plot()
        figure.set_facecolor("white")
        figure.draw_without_rendering()  # makes the labels, whose fonts the style chooses
    return figure


def image_html(figure: Figure) -> Markup:
    """Show a figure."""
    png = base64.b64encode(to_png(figure)).decode()
    return Markup('<img style="max-width: 540px" src="data:image/png;base64,{}">').format(png)


def paragraph_html(*texts: str) -> Markup:
    """Show texts as a paragraph."""
    return Markup("<p>{}</p>").format(escape_text(" ".join(texts)))


def sample_html(text: str) -> Markup:
    """Show a generated text as it is."""
    return Markup("<pre>{}</pre>").format(escape_text(text, HARMLESS))


def table_html(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Show a table."""
    lines = [Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row) for row in rows]
    head = Markup("").join(Markup("<th>{}</th>").format(each) for each in headings)
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in (head, *lines))
    return Markup("<table>{}</table>").format(body)
