"""Recurrences as one operation each, with the gradient written out.

autograd would keep and visit some ten operations a step. Here the steps compute their gates in
place, and the gradient of the state's matrix is one product over all steps, after the loop.

Since tanh(x) = 2 σ(2x) - 1, one sigmoid serves the gates and the candidate. The loops keep half of
each state and twice its gradient, which saves factors of 2.

Shapes: T time steps, B batch, H hidden size, G gates.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Blocks = dict[str, Tensor]  # (T, B, H) for each gate, by its letter


class FusedSteps(ABC):
    """All steps of a recurrence, and their gradients; each kind of cell has a subclass.

    Attributes:
        totals: (T, B, G·H) products with the input plus bias. The steps overwrite them: a gate by
            its value, and the candidate by the sigmoid of twice its total.
        gates: views of `totals`.
        weight: matrix for the state, (H, G·H).
        scaled: the matrix for half states, and for twice the total of a candidate.
        halves: for each tensor of the state, its halves before the first step and after each step,
            (T + 1, B, H).
        of_totals: gradients of the totals, (T, B, G·H), made by `differentiate`.
    """

    letters: ClassVar[str]  # of the gates, in the order of the weights
    candidate: ClassVar[str]  # letters of the gates that tanh squashes

    def __init__(self, totals: Tensor, weight: Tensor, state_bias: Tensor, *state: Tensor) -> None:
        self.totals, self.weight, self.state_bias = totals, weight, state_bias
        self.gates = self.split_blocks(totals)
        self.scaled = torch.mul(weight, 2, out=weight.new_empty(weight.shape))
        for letter in self.candidate:
            self.gates[letter].mul_(2)
            self.split_blocks(self.scaled)[letter].mul_(2)
        self.halves = [totals.new_empty(len(totals) + 1, *part.shape) for part in state]
        for half, part in zip(self.halves, state, strict=True):
            torch.mul(part, 0.5, out=half[0])

    def split_blocks(self, values: Tensor) -> Blocks:
        """Split (…, G·H) into views for each gate."""
        return dict(zip(self.letters, values.chunk(len(self.letters), dim=-1), strict=True))

    @abstractmethod
    def run(self) -> None:
        """Compute the gates and the states of all steps."""

    def differentiate(self) -> Blocks:
        """Make `of_totals`, and return its blocks.

        A subclass fills them with the factors that turn twice the gradient of a state after a step
        into the gradients of the totals. Here they are the derivatives of the sigmoids.
        """
        self.of_totals = torch.addcmul(self.totals, self.totals, self.totals, value=-1)
        return self.split_blocks(self.of_totals)

    @abstractmethod
    def step_back(self, t: int, twice: list[Tensor]) -> None:
        """Turn the factors of step t into gradients.

        `twice` holds twice the gradients of the state after the step, (B, H) tensors. The method
        turns them into twice the gradients of the state before the step.
        """

    def of_parameters(self) -> tuple[Tensor, Tensor | None]:
        """Compute the gradients of `weight` and `state_bias`."""
        of_weight = torch.empty_like(self.weight)
        return self.product_over_steps(self.of_totals, of_weight), None

    def product_over_steps(self, of_totals: Tensor, out: Tensor) -> Tensor:
        """Write the gradient of a matrix for the state into `out`, and return it."""
        hidden = self.halves[0][:-1].flatten(0, 1)
        return out.addmm_(hidden.T, of_totals.flatten(0, 1), beta=0, alpha=2)


class Recurrence(torch.autograd.Function):
    """All steps of a recurrence as one operation."""

    @staticmethod
    def forward(
        ctx: Any, kind: type[FusedSteps], totals: Tensor, *weights_and_state: Tensor
    ) -> tuple[Tensor, ...]:
        """Compute all hidden states, (T, B, H), and the last state, (B, H) tensors.

        Args:
            ctx: keeps the steps for the gradient.
            kind: class of the steps.
            totals: (T, B, G·H) products with the input plus bias; overwritten.
            weights_and_state: matrix for the state, (H, G·H); bias of the state inside a gate, or
                an empty tensor; and the initial state, (B, H) tensors.
        """
        steps = ctx.steps = kind(totals, *weights_and_state)
        steps.run()
        return 2 * steps.halves[0][1:], *(2 * half[-1] for half in steps.halves)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_hidden: Tensor, *of_last: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients of `forward`'s arguments from the gradients of its results."""
        steps: FusedSteps = ctx.steps
        steps.differentiate()
        twice = [2 * part for part in of_last]
        for t, of_output in reversed(list(enumerate(of_hidden.unbind()))):
            twice[0].add_(of_output, alpha=2)
            steps.step_back(t, twice)
        return None, steps.of_totals, *steps.of_parameters(), *(part / 2 for part in twice)
