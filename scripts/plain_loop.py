"""The training loop that the books teach, which lyricgen's speed is held against.

B rows read side by side, T time steps, V symbols, H hidden size, N characters of the text.
"""

import time
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.config import TrainOptions

PLAIN = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def plain_loop(options: TrainOptions, ids: Tensor, symbols: int) -> float:
    """The loop of the books; gives the characters a second of its median epoch."""
    batch_size, steps = options.data.batch_size, options.data.num_steps
    cell = PLAIN[options.cell.kind](symbols, options.hidden_size)
    output = nn.Linear(options.hidden_size, symbols)
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
            hidden, state = cell(F.one_hot(inputs, symbols).float(), state)  # (T, B, H)
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
