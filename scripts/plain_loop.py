"""Training loop of the textbooks, with which lyricgen's speed is compared.

One-hot characters go into torch's layer, or step by step into torch's cell; a dense layer follows.

Shapes: B rows read side by side, T time steps, V symbols, H hidden size, N characters of the text.
"""

import time
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.training.options import TrainOptions

PLAIN: dict[str, type[nn.RNNBase | nn.RNNCellBase]] = {
    "rnn": nn.RNN,
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "rnn_scratch": nn.RNNCell,
    "gru_scratch": nn.GRUCell,
    "lstm_scratch": nn.LSTMCell,
}
State = Tensor | tuple[Tensor, Tensor] | None


def plain_loop(options: TrainOptions, ids: Tensor, symbols: int) -> float:
    """Train with the textbook loop on the device of `ids`; return characters a second.

    They are those of the median epoch.
    """
    batch_size, steps = options.data.batch_size, options.data.num_steps
    cell = PLAIN[options.cell.kind](symbols, options.hidden_size, device=ids.device)
    output = nn.Linear(options.hidden_size, symbols, device=ids.device)
    parameters = [*cell.parameters(), *output.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=options.optimizer.lr)
    rows = ids[: len(ids) // batch_size * batch_size].view(batch_size, -1)  # (B, N//B)
    speeds = []
    for _ in range(options.trainer.max_epochs):
        start = time.perf_counter()
        state, nats = None, 0.0
        for first in range(0, rows.shape[1] - steps, steps):
            inputs = rows[:, first : first + steps].T  # (T, B)
            targets = rows[:, first + 1 : first + steps + 1].T.flatten()  # (T·B,)
            hidden, state = read(cell, F.one_hot(inputs, symbols).float(), state)  # (T, B, H)
            lstm = isinstance(state, tuple)
            state = (state[0].detach(), state[1].detach()) if lstm else state.detach()
            loss = F.cross_entropy(output(hidden).flatten(0, 1), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, options.trainer.gradient_clip_val)
            optimizer.step()
            nats += loss.item() * len(targets)
        characters = (rows.shape[1] - 1) // steps * steps * batch_size
        speeds.append(characters / (time.perf_counter() - start))
    return median(speeds)


def read(cell: nn.Module, features: Tensor, state: State) -> tuple[Tensor, State]:
    """Read features, (T, B, V), by a layer at once or by a cell step by step."""
    if isinstance(cell, nn.RNNBase):
        return cell(features, state)
    outputs = []
    for step in features:
        state = cell(step, state)  # (B, H); for an LSTM two tensors
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs), state
