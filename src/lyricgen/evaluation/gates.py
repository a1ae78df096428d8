"""Gates and states of the units of one layer while the network reads a text.

T time steps, H hidden size, I input size, V vocabulary.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lyricgen.errors import UserError
from lyricgen.models.cells.column_parameters import step_of, to_columns
from lyricgen.models.cells.column_vectors import Activations, Array, forward, lstm_step
from lyricgen.models.language_model import LanguageModel
from lyricgen.models.trained_model import TrainedModel


def recurrent_network(model: TrainedModel) -> LanguageModel:
    """The network of a model that has gates or states at all.

    Raises:
        UserError: it is of another kind.
    """
    network: nn.Module = model.network
    if not isinstance(network, LanguageModel):
        what = "fills gaps from both sides" if model.fills_gaps else "counts n-grams"
        raise UserError(
            f"this model {what}: --gates shows recurrent networks that read from left to right"
        )
    return network


def activations(model: TrainedModel, text: str, layer: int) -> Activations:
    """Gates and states of a layer that reads a text from state zero.

    What the layers below give comes from the network itself, dropout off.

    Args:
        model: whose network has a recurrence.
        text: as `TrainedModel.encode_prefix` takes it; a model of lines reads a start symbol first.
        layer: 1 is the one next to the input.

    Returns:
        Activations of one sample, (H, 1, T), and predictions, (V, 1, T). These are the network's
        own for the last layer, without residual connections.

    Raises:
        UserError: a character that the model does not know, no such layer, or no recurrence at all.
    """
    network = recurrent_network(model)
    layers = network.architecture.layers
    if not 1 <= layer <= layers:
        known = "1" if layers == 1 else f"1 to {layers}"
        raise UserError(f"layer={layer}: the network has {layers}, give {known}")
    block: Any = network.recurrence.blocks[layer - 1]
    below = _input_of(block, network, model.encode_prefix(text)[None])  # (T, I)
    step = step_of(block)
    zero = np.zeros((block.hidden_size, 1), below.dtype)
    state = (zero, zero) if step is lstm_step else (zero,)
    parameters = to_columns(block, network.output_weight, network.output.bias)
    return forward(step, below.T[:, None], state, parameters)


@torch.no_grad()
def _input_of(block: nn.Module, network: LanguageModel, ids: Tensor) -> Array:
    """Input of a layer while the network reads ids (1, T): (T, I)."""
    caught: list[Tensor] = []
    hook = block.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        network(ids)
    finally:
        hook.remove()
    below = caught[0][0]
    if not below.is_floating_point():  # ids, which stand for one-hot vectors
        below = network.one_hot(below)
    array: Array = below.cpu().numpy()
    return array
