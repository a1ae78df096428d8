"""Activations of a layer over a text, the panels that show them, and their fonts."""

from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, get_font
from torch import Tensor, nn

from lyricgen.data.vocabulary import Vocabulary
from lyricgen.errors import UserError
from lyricgen.evaluation import style
from lyricgen.evaluation.gate_plot import Panel, activations, notes, panels, plot_gates
from lyricgen.models.cells.cell import Cell
from lyricgen.models.cells.rnn import RnnCell
from lyricgen.models.network import FillModel
from lyricgen.models.trained_model import TrainedModel
from tests.helpers import hybrid_models
from tests.helpers.checkpoints import model_of
from tests.helpers.fonts import use_only_latin
from tests.helpers.networks import CELLS, architecture
from tests.helpers.ngram_models import new_model

TEXT = "abc分de开bé"


def in_double_precision(model: TrainedModel) -> TrainedModel:
    model.network.double()
    return model


def features(model: TrainedModel, text: str) -> Tensor:
    """Inputs of the first layer, one character after the other, (T, I)."""
    vocabulary = model.vocabulary.characters
    ids = [vocabulary.index(character) for character in text]
    rows = torch.eye(len(vocabulary), dtype=torch.float64)[ids]
    if model.layout == "lines":
        rows = torch.cat([torch.zeros(1, len(vocabulary), dtype=torch.float64), rows])
        ids = [len(vocabulary), *ids]
    embedding = model.network.embedding
    return rows if embedding is None else embedding.weight[ids]


def layer_inputs(model: TrainedModel, text: str, layer: int, *, residual: bool) -> Tensor:
    """Inputs of a layer, computed by the layers below it one by one, (T, I)."""
    read = features(model, text)
    for number, block in enumerate(list(model.network.recurrence.blocks)[: layer - 1]):
        above, _ = block(read[None], None)
        read = read + above[0] if residual and number > 0 else above[0]
    return read


def assert_close(array: Any, expected: Tensor) -> None:
    np.testing.assert_allclose(array, expected.detach().numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["stream", "lines"])
@pytest.mark.parametrize("kind", ["embedding", "one_hot"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_gates_of_an_lstm_of_any_depth(layer: int, residual: bool, kind: str, layout: str) -> None:
    """Gates equal those of nn.LSTMCell, step by step, in torch's documented order i, f, g, o."""
    options = {"layers": 3, "residual": residual, "depth_dropout": 0.5, "dropout": 0.5}
    model = in_double_precision(model_of("lstm", layout=layout, input=kind, **options))
    got = activations(model, TEXT, layer)
    layer_weights = model.network.recurrence.blocks[layer - 1].state_dict()
    inputs = layer_inputs(model, TEXT, layer, residual=residual)
    cell = nn.LSTMCell(inputs.shape[1], 12).double()
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer_weights.items()})
    h = c = torch.zeros(12, dtype=torch.float64)
    assert got.c is not None
    assert got.a.shape == (12, 1, len(TEXT) + (layout == "lines"))
    for t, x in enumerate(inputs):
        total = F.linear(x, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh)
        i, f, g, o = (total + cell.bias_hh).chunk(4)
        assert_close(got.gates["update"][:, 0, t], i.sigmoid())
        assert_close(got.gates["forget"][:, 0, t], f.sigmoid())
        assert_close(got.gates["candidate"][:, 0, t], g.tanh())
        assert_close(got.gates["output"][:, 0, t], o.sigmoid())
        h, c = cell(x, (h, c))
        assert_close(got.c[:, 0, t], c)
        assert_close(got.a[:, 0, t], h)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_the_last_layers_states_and_predictions_equal_the_networks(cell: str, layers: int) -> None:
    model = in_double_precision(model_of(cell, layers=layers, layout="lines", input="one_hot"))
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(0.3)  # otherwise rectified units grow without bound
    got = activations(model, TEXT, layers)
    ids = [len(model.vocabulary), *model.vocabulary.encode(TEXT).tolist()]
    logits, state = model.network(torch.tensor([ids]))
    assert_close(got.y[:, 0], logits[0].softmax(-1).T)
    assert_close(got.a[:, 0, -1], state[0][-1, 0])


def test_dropout_is_off_and_no_hook_is_left_behind() -> None:
    model = model_of("gru", layers=2, depth_dropout=0.9)
    first = activations(model, TEXT, 2)
    assert np.array_equal(first.a, activations(model, TEXT, 2).a)
    assert first.a.dtype == np.float32  # the type of the network's weights
    assert not model.network.recurrence.blocks[1]._forward_pre_hooks


def panels_of(model: TrainedModel) -> list[Panel]:
    return panels(activations(model, TEXT, 1), model.network.recurrence.blocks[0].titles)


def test_panels_have_the_usual_names_of_gates() -> None:
    def shown(cell: str) -> list[str]:
        return [panel.title for panel in panels_of(model_of(cell))]

    assert [title.split(" (")[0] for title in shown("lstm")] == [
        "forget gate $f$",
        "update or input gate $i$",
        r"candidate $\tilde{c}$",
        "output gate $o$",
        "cell state $c$",
        "hidden state $h$",
    ]
    assert [title.split(" (")[0] for title in shown("gru")] == [
        "update gate $z$",
        "reset gate $r$",
        r"candidate $\tilde{h}$",
        "hidden state $h$",
    ]
    assert shown("rnn") == ["hidden state $h$"]
    for cell in ("rnn", "gru", "lstm"):
        assert shown(f"{cell}_scratch") == shown(cell)


@pytest.mark.parametrize("cell", CELLS)
def test_every_value_is_within_its_scale_of_colours(cell: str) -> None:
    model = model_of(cell)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(4)
    for panel in panels_of(model):
        assert panel.least in {0, -panel.most}
        assert panel.least <= panel.values.min()
        assert panel.values.max() <= panel.most
        assert panel.least == 0 or panel.values.min() < 0 or cell == "relu"


def labels(model: TrainedModel, text: str) -> tuple[list[str], str, str]:
    """Labels of the lowest axis, its title, and the characters that no font has."""
    figure, missing = plot_gates(model, text, 1)
    axes = [one for one in figure.axes if one.get_xlabel()]
    [last] = axes
    assert [label.get_text() for label in last.get_xticklabels()][: len(text)]
    return [label.get_text() for label in last.get_xticklabels()], last.get_xlabel(), missing


def test_characters_stand_on_the_axis() -> None:
    model = model_of("gru", vocabulary=Vocabulary("\t\n $ab\u3000"))
    names, title, missing = labels(model, "a \nb\t\u3000$a$")
    assert names == ["a", "␣", "⏎", "b", "⇥", "U+3000", "$", "a", "$"]
    assert title == "characters read, ⏎ line break, ␣ space, ⇥ tab"
    assert missing == ""
    names, title, _ = labels(model_of("gru", layout="lines", lowercase=True), "AB")
    assert names == ["▷", "a", "b"]
    assert title == "characters read, ▷ start of line"


def test_dollar_signs_are_no_formula() -> None:
    """As a formula, `$_$` could not be drawn."""
    figure, _ = plot_gates(model_of("rnn", vocabulary=Vocabulary("$_a")), "$_$", 1)
    figure.savefig(BytesIO(), format="png")


def test_plots_show_each_value_at_its_place() -> None:
    model = model_of("lstm")
    figure, _ = plot_gates(model, TEXT, 1)
    read = activations(model, TEXT, 1)
    assert read.c is not None
    images = [axes.get_images()[0] for axes in figure.axes if axes.get_images()]
    expected = [*read.gates.values(), read.c, read.a]
    assert len(images) == len(expected) == 6
    for image, values in zip(images, expected, strict=True):
        assert np.array_equal(image.get_array(), values[:, 0])


def test_characters_that_no_font_has(monkeypatch: pytest.MonkeyPatch) -> None:
    use_only_latin(monkeypatch)
    names, _, missing = labels(model_of("rnn"), "a分b开é")
    assert names == ["a", "U+5206", "b", "U+5F00", "é"]
    assert missing == "分开"


def test_a_font_is_chosen_by_its_characters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A font that matplotlib has not listed yet is found; a damaged one is passed over."""
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"no font")
    other = str(findfont("STIXGeneral"))
    latin, more = (set(get_font(path).get_charmap()) for path in (findfont("DejaVu Sans"), other))
    mathematical = chr(min(more - latin))
    use_only_latin(monkeypatch, str(damaged))
    assert style.choose_families("a" + mathematical) == (["DejaVu Sans"], mathematical)
    use_only_latin(monkeypatch, str(damaged), other)
    assert style.choose_families("abc") == (["DejaVu Sans"], "")
    families, missing = style.choose_families(f"a{mathematical}分")
    assert (families, missing) == (["DejaVu Sans", "STIXGeneral"], "分")
    figure = Figure()
    figure.text(0, 0, "a" + mathematical, family=families)
    figure.savefig(BytesIO(), format="png")  # a missing glyph would be a warning, thus an error


def test_fonts_of_simplified_chinese_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["A", "Noto Sans CJK JP", "Noto Serif CJK SC", style.LATIN, style.BOXES, "SC A"]
    held = dict.fromkeys(names, "分") | {style.LATIN: "a", "A": "分α"}
    listed = [FontEntry(fname=name, name=name, weight=400) for name in names]
    bold = FontEntry(fname="A", name="A", weight=700)
    monkeypatch.setattr(style.fontManager, "ttflist", [bold, *listed])
    monkeypatch.setattr(style, "findSystemFonts", list)
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "SC A")
    monkeypatch.setattr(
        style, "get_font", lambda name: SimpleNamespace(get_charmap=lambda: map(ord, held[name]))
    )
    assert style.choose_families("a分") == ([style.LATIN, "Noto Serif CJK SC"], "")
    assert style.choose_families("α分Ω") == ([style.LATIN, "Noto Serif CJK SC", "A"], "Ω")


def test_the_units_that_vary_most_are_drawn() -> None:
    model = model_of("lstm")
    read = activations(model, TEXT, 1)
    spread = [float(np.std(unit)) for unit in read.a[:, 0]]
    expected = sorted(sorted(range(12), key=lambda unit: -spread[unit])[:5])
    figure, _ = plot_gates(model, TEXT, 1, 5)
    images = [axes.get_images()[0] for axes in figure.axes if axes.get_images()]
    for image, values in zip(images, [*read.gates.values(), read.c, read.a], strict=True):
        assert values is not None
        assert np.array_equal(image.get_array(), values[expected, 0])
    [axes, *_] = figure.axes
    assert [int(label.get_text()) for label in axes.get_yticklabels()] == expected
    assert "5 of 12 units" in figure.get_suptitle()
    [note] = notes(model, 5)
    assert "5 of 12 units" in note
    assert "--units all" in note
    assert notes(model, 12) == notes(model, None) == []
    everything, _ = plot_gates(model, TEXT, 1)
    assert len(everything.axes[0].get_images()[0].get_array()) == 12


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_without_gates_has_a_note(cell: str) -> None:
    without = cell in ("rnn", "relu", "rnn_scratch")
    note = [f"cell={CELLS[cell]['kind']} has no gates: its hidden state is shown"]
    assert notes(model_of(cell), None) == (note if without else [])


@pytest.mark.parametrize("layer", [-1, 0, 3])
def test_a_missing_layer_is_refused(layer: int) -> None:
    with pytest.raises(UserError, match=f"layer={layer}: the network has 2, give 1 to 2"):
        activations(model_of("gru", layers=2), TEXT, layer)


def test_models_without_shown_gates_are_refused() -> None:
    filling = FillModel(architecture("lstm", objective="fill"))
    counting = new_model(2, "witten_bell")
    for network, message in ((filling, "fills gaps from both sides"), (counting, "counts n-grams")):
        model = TrainedModel(network, Vocabulary("abcde"), "stream", lowercase=False)
        with pytest.raises(UserError, match=f"this model {message}: --gates shows recurrent"):
            activations(model, TEXT, 1)


def test_a_cell_without_a_step_in_numpy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RnnCell, "column_step", Cell.column_step)
    with pytest.raises(
        UserError, match="the cell TorchRnn has no step in NumPy for --gates to show"
    ):
        activations(model_of("rnn"), TEXT, 1)


def test_gates_of_a_hybrid_model_are_those_of_its_network() -> None:
    model = hybrid_models.model_of(layers=2)
    network: Any = model.network
    alone = TrainedModel(network.network, model.vocabulary, model.layout, model.lowercase)
    for layer in (1, 2):
        read, expected = activations(model, TEXT, layer), activations(alone, TEXT, layer)
        assert np.array_equal(read.a, expected.a)
        assert read.gates.keys() == expected.gates.keys()
        assert all(np.array_equal(read.gates[name], expected.gates[name]) for name in read.gates)
    figure, _ = plot_gates(model, TEXT, 1)
    assert len(figure.axes) >= 6
    assert notes(model, 5) == notes(alone, 5)
