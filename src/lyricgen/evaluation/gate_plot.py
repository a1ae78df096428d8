"""Plot of a layer's gates and states, in panels with time steps across and units down.

Shapes: T time steps, H hidden size, I input size of the layer, V vocabulary size.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from lyricgen.errors import UserError
from lyricgen.evaluation.style import choose_families
from lyricgen.models.cells import CELLS
from lyricgen.models.cells.column_vectors import Activations, Array, find_step, forward, to_columns
from lyricgen.models.network import LanguageModel
from lyricgen.models.trained_model import TrainedModel

MAX_CHARACTERS = 500  # more cannot be distinguished in a plot
MAX_NUMBERS = 24  # largest number of labelled units beside a panel
MAX_ROWS = 1024  # largest number of units that each get a row of pixels
TITLE_CHARACTERS = 30
DPI = 120
START = "▷"
# signs on the axis for invisible characters
SIGNS = {"\n": ("⏎", "line break"), " ": ("␣", "space"), "\t": ("⇥", "tab")}
LEGEND = [(START, "start of line"), *SIGNS.values()]


def activations(model: TrainedModel, text: str, layer: int) -> Activations:
    """Compute the gates and states of a layer while the network reads a text from state zero.

    The network must be in evaluation mode. Layer 1 is next to the input. A model of lines reads a
    start symbol before the text.

    Returns:
        Activations of one sample, (H, 1, T), and predictions, (V, 1, T). The predictions equal the
        network's own only for the last layer of a network without residual connections.

    Raises:
        UserError: the model fills gaps or counts n-grams, it cannot read a character of the text,
            the network does not have the layer, or its cell has no equations in NumPy.
    """
    network = model.recurrent_model
    layers = network.architecture.layers
    if not 1 <= layer <= layers:
        known = "1" if layers == 1 else f"1 to {layers}"
        raise UserError(f"layer={layer}: the network has {layers}, give {known}")
    block: Any = network.recurrence.blocks[layer - 1]
    below = _find_input(block, network, model.encode_prefix(text)[None])  # (T, I)
    state = (np.zeros((block.hidden_size, 1), below.dtype),) * block.states
    parameters = to_columns(block, network.output_weight, network.output.bias)
    return forward(find_step(block), below.T[:, None], state, parameters)


@torch.no_grad()
def _find_input(block: nn.Module, network: LanguageModel, ids: Tensor) -> Array:
    """Return the input of a layer, (T, I), while the network reads `ids`, (1, T)."""
    caught: list[Tensor] = []
    hook = block.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        network(ids)
    finally:
        hook.remove()
    below = caught[0][0]
    if not below.is_floating_point():  # ids in place of one-hot vectors
        below = network.one_hot(below)
    array: Array = below.cpu().numpy()
    return array


class Panel(NamedTuple):
    """Values of a gate or state, (H, T), and the ends of their colour scale."""

    title: str
    values: Array
    least: float
    most: float


def panels(read: Activations, titles: Mapping[str, str]) -> list[Panel]:
    """Make a panel for each gate, in the order of the equations, then for each state.

    `read` holds the activations of one sample. `titles` maps the names of the gates to titles.
    """
    listed = [
        Panel(titles[name], gate[:, 0], -1 if name == "candidate" else 0, 1)
        for name, gate in read.gates.items()
    ]
    if read.c is not None:
        most = max(1.0, float(np.abs(read.c).max()))  # a cell state has no bounds
        listed.append(Panel("cell state $c$", read.c[:, 0], -most, most))
    most = max(1.0, float(np.abs(read.a).max()))  # rectified units have no bounds either
    listed.append(Panel("hidden state $h$", read.a[:, 0], -most, most))
    return listed


def choose_varying_units(read: Activations, units: int | None) -> list[int]:
    """Return the ascending indices of the `units` units whose hidden state varies most.

    If `units` is None, all units are taken.
    """
    spread = read.a[:, 0].std(axis=1)
    most = np.argsort(-spread, kind="stable")[:units]
    return sorted(int(unit) for unit in most)


def notes(model: TrainedModel, units: int | None, missing: str = "") -> list[str]:
    """Write notes for the terminal on gates, units and characters that the plot does not show.

    `units` is the argument of `plot_gates`. `missing` holds the characters that no installed font
    has.

    Raises:
        UserError: the model fills gaps or counts n-grams.
    """
    architecture = model.recurrent_model.architecture
    lines, size, cell = [], architecture.hidden_size, architecture.cell.kind
    if missing:
        lines.append(
            f"no installed font has {len(missing)} of the characters: their code points are shown; "
            "install a font that has them (for Chinese: apt-get install fonts-noto-cjk)"
        )
    if not CELLS[cell].titles:
        lines.append(f"cell={cell} has no gates: its hidden state is shown")
    if units is not None and units < size:
        lines.append(
            f"{units} of {size} units are shown, whose hidden state varies most: --units all "
            "shows all"
        )
    return lines


def plot_gates(
    model: TrainedModel, text: str, layer: int, units: int | None = None
) -> tuple[Figure, str]:
    """Plot the gates and states of a layer for a text of 1 to `MAX_CHARACTERS` characters.

    Layer 1 is next to the input. The plot shows the `units` units whose hidden state varies most;
    None shows all units.

    Returns:
        The figure, and the characters that no installed font has. The figure shows their code
        points.

    Raises:
        UserError: the text is empty or too long, or `activations` refuses it.
    """
    text = model.normalise(text)
    if not 1 <= len(text) <= MAX_CHARACTERS:
        raise UserError(
            f"the text has {len(text)} characters: 1 to {MAX_CHARACTERS} can be told apart in a "
            "plot"
        )
    read = activations(model, text, layer)
    titles = CELLS[model.recurrent_model.architecture.cell.kind].titles
    numbers = choose_varying_units(read, units)
    shown = [panel._replace(values=panel.values[numbers]) for panel in panels(read, titles)]
    steps = shown[0].values.shape[1]
    families, missing = choose_families("".join(filter(_leaves_a_mark, text)))
    labels = [START] * (steps - len(text)) + [_label(one, missing) for one in text]

    cell = min(max(20 / steps, 0.11), 0.28)  # inches for a character
    height = max(1.6, 0.6 + min(len(numbers), MAX_ROWS) / DPI)  # inches for a panel
    size = (max(cell * steps + 1.5, 8), len(shown) * height + 1.4)
    figure = Figure(size, dpi=DPI, layout="constrained")
    rows = list(figure.subplots(len(shown), 1, squeeze=False)[:, 0])
    for axes, panel in zip(rows, shown, strict=True):
        _plot_panel(axes, panel, numbers if len(numbers) < len(read.a) else None)
    font = {"family": families, "parse_math": False}  # a text may have dollar signs
    for axes, side in ((rows[0], "top"), (rows[-1], "bottom")):
        _name_steps(axes, labels, side, min(12, 54 * cell), font)
    signs = [f"{sign} {meaning}" for sign, meaning in LEGEND if sign in labels]
    rows[-1].set_xlabel(", ".join(["characters read", *signs]), **font)
    figure.suptitle(_title(model, labels, layer, len(numbers)), **font)
    return figure, missing


def _plot_panel(axes: Axes, panel: Panel, numbers: list[int] | None) -> None:
    """Plot a panel; `numbers`, if given, label its rows with the numbers of the units."""
    both_signs = panel.least < 0
    image = axes.imshow(
        panel.values,
        cmap="RdBu_r" if both_signs else "viridis",
        vmin=panel.least,
        vmax=panel.most,
        aspect="auto",
        # other interpolations blur one character into the next
        interpolation="nearest" if len(panel.values) <= MAX_ROWS else "auto",
    )
    axes.set_title(panel.title, loc="left", size=10)
    axes.set_ylabel("unit", size=9)
    if numbers is None:
        axes.locator_params(axis="y", nbins=4, integer=True)
        axes.tick_params(axis="y", labelsize=8)
    else:
        every = -(-len(numbers) // MAX_NUMBERS)
        rows = range(0, len(numbers), every)
        axes.set_yticks(rows, [str(numbers[row]) for row in rows], size=5)
    axes.set_xticks([])
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    inches = figure.get_figwidth()
    middle = (panel.least + panel.most) / 2
    bar = figure.colorbar(image, ax=axes, fraction=0.12 / inches, pad=0.1 / inches, aspect=12)
    ticks = [panel.least, middle, panel.most]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.tick_params(labelsize=8)


def _name_steps(
    axes: Axes, labels: list[str], side: str, size: float, font: dict[str, Any]
) -> None:
    here = side == "top"
    axes.tick_params(axis="x", length=2, top=here, labeltop=here, bottom=not here)
    axes.tick_params(axis="x", labelbottom=not here)
    axes.set_xticks(range(len(labels)), labels, size=size, **font)
    for label, named in zip(labels, axes.get_xticklabels(), strict=True):
        if len(label) > 1:
            named.set_rotation(90)
            named.set_fontsize(size * 0.7)


def _leaves_a_mark(character: str) -> bool:
    return character.isprintable() and not character.isspace()


def _label(character: str, missing: str) -> str:
    if character in SIGNS:
        return SIGNS[character][0]
    shown = _leaves_a_mark(character) and character not in missing
    return character if shown else f"U+{ord(character):04X}"


def _title(model: TrainedModel, labels: list[str], layer: int, plotted: int) -> str:
    architecture = model.recurrent_model.architecture
    shown = [label if len(label) == 1 else "□" for label in labels[:TITLE_CHARACTERS]]
    text = "".join(shown) + "…" * (len(labels) > TITLE_CHARACTERS)
    where = f"layer {layer} of {architecture.layers}"
    size = architecture.hidden_size
    units = f"{size} units" if plotted == size else f"{plotted} of {size} units, which vary most"
    return f"{architecture.cell.kind}, {where}, {units}: {text}"
