"""What each process holds of an epoch, put together for a checkpoint and taken from one again.

L layers, B rows (batch size) in all, H hidden size.
"""

import torch
from torch import Tensor

from lyricgen.data.sharing import block, rank, world_size
from lyricgen.models.recurrence import State
from lyricgen.training.ddp.collectives import gathered


def whole_state(own: State | None) -> State | None:
    """The state of all rows, (L, B, H) tensors on the CPU, from that of each process's rows."""
    if own is None:
        return None
    shares = gathered(tuple(part.cpu() for part in own))
    return tuple(torch.cat(rows, dim=1) for rows in zip(*shares, strict=True))


def own_rows(whole: State | None) -> State | None:
    """The state of this process's rows, from that of all, however many processes had them."""
    if whole is None:
        return None
    rows = block(whole[0].shape[1], rank(), world_size())
    return tuple(part[:, rows].contiguous() for part in whole)


def totals_of_all(own: Tensor | None) -> list[float | None]:
    """Each process's total: a total of totals, gone on with, would end in other digits."""
    return gathered(None if own is None else float(own))


def own_total(totals: list[float | None] | Tensor | None) -> Tensor | None:
    """This process's total; where there were more or fewer of them, rank 0 takes it all.

    Args:
        totals: of each process; a tensor or None from checkpoints that know of one only.
    """
    if totals is None or isinstance(totals, Tensor):
        totals = [None if totals is None else float(totals)]
    known = [total for total in totals if total is not None]
    if not known:
        return None
    own = totals[rank()] if len(totals) == world_size() else sum(known) if rank() == 0 else 0.0
    return torch.tensor(own, dtype=torch.float64)
