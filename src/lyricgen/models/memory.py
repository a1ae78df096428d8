"""A memory of the text that a model has read.

A model of fixed weights predicts a refrain or a name the third time as it did the first time. The
memory raises the probabilities of the characters that have followed earlier occurrences of the last
k characters, from short contexts to long ones:

    p_k(w) = (c_k(w) + D_k u_k p(w)) / (n_k + D_k u_k)

Here p is the distribution of the next shorter context, and that of the model for the shortest one.
After the newest J occurrences of the last k characters stood n_k characters, u_k of them distinct,
and c_k(w) of them w. Without an occurrence p_k is p. The empty context, k = 0, recalls the W newest
characters. The counts of all contexts at a position decide how far it trusts them: ln D = a + A f,
where f holds n_k / (n_k + u_k) and u_k / J. A memory that is trained with a hybrid model adds B h,
where h is the last hidden state of the network.

Sources: Kuhn and De Mori, IEEE PAMI 12(6), 1990, for the cache; Witten and Bell, IEEE Transactions
on Information Theory 37(4), 1991, for the number of distinct characters in the denominator.

Shapes: B rows, T time steps, M positions, V vocabulary, H hidden, K lengths of contexts, J
occurrences, L characters before.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lyricgen.data.options import RecallOptions
from lyricgen.models.model import at_least_float32, safe_log

MOST = 12.0  # ln D is at most this, and at least minus this
STEPS = 100  # of the fit
DECAY = 1e-5  # of the fit: penalty on the squares of A


class Recalled(NamedTuple):
    """Characters that are recalled at each position; MISSING where there is none."""

    recent: Tensor  # (M, W) the newest characters
    after: Tensor  # (M, K, J) after the newest earlier occurrences of each context


class Memory(nn.Module):
    """Mixes predictions with what is recalled.

    Args:
        options: what is recalled.
        hidden_size: H; None without B, for a memory that is only fitted.

    Attributes:
        bias: a, (K,).
        on_counts: A, (K, 2K).
        on_hidden: B, (K, H), or None.
    """

    on_hidden: nn.Parameter | None
    _most: Tensor  # (K,) most characters that are recalled after each context

    def __init__(self, options: RecallOptions, hidden_size: int | None) -> None:
        super().__init__()
        self._options = options
        recent = [0.7] if options.recent else []  # so that D is about 100
        lengths = torch.tensor([*recent, *options.orders], dtype=torch.float32)
        self.bias = nn.Parameter((60.0 / lengths**1.5).log())  # about what fits on many texts
        self.on_counts = nn.Parameter(torch.zeros(len(lengths), 2 * len(lengths)))
        most = [options.newest] * len(recent) + [options.occurrences] * len(options.orders)
        self.register_buffer("_most", torch.tensor(most, dtype=torch.float32), persistent=False)
        self.on_hidden = None
        if hidden_size is not None:
            self.on_hidden = nn.Parameter(torch.zeros(len(lengths), hidden_size))

    def mix(self, logits: Tensor, recalled: Recalled, hidden: Tensor | None = None) -> Tensor:
        """Raise the probabilities of recalled characters.

        Args:
            logits: (M, V) of the model.
            recalled: characters that are recalled at each position.
            hidden: (M, H) hidden states, if there is a B.

        Returns:
            Log-probabilities, (M, V).
        """
        probabilities = at_least_float32(logits).softmax(-1)
        counts = self._count(recalled, logits.shape[1], probabilities.dtype)  # (M, 2, K)
        passed = self._pass(counts, self._base_trust(hidden), self.on_counts)  # (M, K)
        # what passes through all longer contexts
        longer = F.pad(passed, (0, 1), value=1.0).flip(1).cumprod(1).flip(1)  # (M, K + 1)
        shares = longer[:, 1:] * (1 - passed) / counts[:, 0].clamp(min=1)
        by_context = self._by_context(recalled)
        characters = torch.cat(by_context, dim=1)  # (M, …)
        each = [shares[:, k, None].expand_as(one) for k, one in enumerate(by_context)]
        added = torch.cat(each, dim=1) * (characters >= 0)
        mixed = probabilities * longer[:, :1]
        return safe_log(mixed.scatter_add(1, characters.clamp(min=0).long(), added))

    def model_weight(self, recalled: Recalled, size: int, hidden: Tensor | None = None) -> Tensor:
        """Compute the weight of the model in a prediction, (M,); `mix` explains the arguments."""
        counts = self._count(recalled, size, torch.float32)
        return self._pass(counts, self._base_trust(hidden), self.on_counts).prod(-1)

    def _by_context(self, recalled: Recalled) -> list[Tensor]:
        """List the characters recalled after each context, (M, most)."""
        after = list(recalled.after.unbind(1))
        return [recalled.recent, *after] if self._options.recent else after

    def _count(self, recalled: Recalled, size: int, dtype: torch.dtype) -> Tensor:
        """Count all and the distinct characters that are recalled, (M, 2, K)."""
        counts = count_characters(recalled.after, dtype)
        if not self._options.recent:
            return counts
        known = recalled.recent >= 0
        seen = torch.zeros(len(known), size, device=known.device)
        seen.scatter_add_(1, recalled.recent.clamp(min=0).long(), known.to(seen))
        recent = torch.stack([known.sum(-1), (seen > 0).sum(-1)], dim=1).to(dtype)
        return torch.cat([recent[..., None], counts], dim=2)

    def nats(self, nats: Tensor, counts: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Compute the nats of targets with memory.

        Args:
            nats: (M,) of the model.
            counts: (M, 3, K) from `count_recalled`.
            hidden: (M, H) hidden states, if there is a B.
        """
        return self.nats_with(nats, counts, self._base_trust(hidden), self.on_counts)

    def nats_with(
        self, nats: Tensor, counts: Tensor, base_trust: Tensor, on_counts: Tensor
    ) -> Tensor:
        """Compute the same as `nats`, with another a + B h, (K,) or (M, K), and another A."""
        numbers = counts.to(nats.dtype)
        passed = self._pass(numbers[:, 1:], base_trust, on_counts)  # (M, K)
        direct = (1 - passed) * numbers[:, 0] / numbers[:, 1].clamp(min=1)
        probability = (-nats).exp()
        for share, more in zip(passed.unbind(1), direct.unbind(1), strict=True):
            probability = share * probability + more
        return -safe_log(probability)

    def _base_trust(self, hidden: Tensor | None) -> Tensor:
        """Compute a + B h, (M, K), or a, (K,)."""
        if self.on_hidden is None or hidden is None:
            return self.bias
        return F.linear(hidden, self.on_hidden, self.bias)

    def _pass(self, counts: Tensor, base_trust: Tensor, on_counts: Tensor) -> Tensor:
        """Compute the share that each context passes on to the next shorter one, (M, K).

        Args:
            counts: (M, 2, K) n and u of each context.
            base_trust: a + B h.
            on_counts: A.
        """
        number, distinct = counts.unbind(1)
        shares = number / (number + distinct).clamp(min=1)
        features = torch.cat([shares, distinct / self._most.to(distinct)], dim=1)
        trust = torch.addmm(base_trust.to(features), features, on_counts.to(features).T)  # ln D
        trust = at_least_float32(trust).clamp(-MOST, MOST)
        odds = trust + distinct.clamp(min=1).log() - number.clamp(min=1).log()
        return torch.where(number > 0, odds.sigmoid(), 1.0)

    def fit(self, nats: Tensor, counts: Tensor) -> None:
        """Fit a and A to a validation split, with the model as it is.

        Args:
            nats: (N,) float64 nats of the model.
            counts: (N, 3, K) from `count_recalled`.
        """
        parameters = [self.bias, self.on_counts]
        values = [one.detach().cpu().double().requires_grad_() for one in parameters]
        optimizer = torch.optim.LBFGS(values, max_iter=STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            found = self.nats_with(nats, counts, *values).mean() + DECAY * values[1].square().sum()
            torch.autograd.backward(found)
            return found

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        for parameter, value in zip(parameters, values, strict=True):
            parameter.data.copy_(value)


def count_characters(recalled: Tensor, dtype: torch.dtype) -> Tensor:
    """Count all and the distinct characters that are recalled, (M, 2, K), from (M, K, J) ids."""
    ordered = recalled.sort(-1).values
    known = ordered >= 0
    new = known.clone()
    new[..., 1:] &= ordered[..., 1:] != ordered[..., :-1]
    return torch.stack([known.sum(-1), new.sum(-1)], dim=1).to(dtype)
