"""LSTM with coupled gates: what the cell forgets makes room for the candidate.

F, O = σ(X W_x + H W_h + b), C~ = tanh(X W_xc + H W_hc + b_c), C = F∘C + (1 - F)∘C~ and
H = O∘tanh(C): an LSTM whose input gate is 1 - F (Greff et al. 2017, variant CIFG). It has three
quarters of an LSTM's weights.

Shapes: T time steps, B batch, H hidden size.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from lyricgen.models.cells.cell import ScratchCell, State
from lyricgen.models.cells.column_vectors import Step, coupled_lstm_step
from lyricgen.models.cells.lstm import LstmCell, LstmStep


class CoupledRecurrence(torch.autograd.Function):
    """All steps of the recurrence as one operation, with a gradient written out.

    Since tanh(x) = 2 σ(2x) - 1, one sigmoid serves all gates and the candidate. The loops keep
    q = H/2, k = C/2, z = C~/2 and s = tanh(C)/2, which saves factors of 2. The gradient of the
    state's matrix is one product over all steps, after the loop.
    """

    @staticmethod
    def forward(
        ctx: Any, totals: Tensor, weight: Tensor, hidden: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute all hidden states, (T, B, H), and the last hidden and cell state, (B, H).

        Args:
            ctx: keeps tensors for the gradient.
            totals: (T, B, 3·H) products with the input plus bias; overwritten by the gates.
            weight: matrix for the state, (H, 3·H).
            hidden: (B, H), the previous hidden state.
            memory: (B, H), the previous cell state.
        """
        steps, rows, size = len(totals), len(hidden), hidden.shape[1]
        doubled = 2 * weight
        doubled[:, 2 * size :] *= 2
        totals[..., 2 * size :] *= 2
        halves = totals.new_empty(3, steps + 1, rows, size)
        q, k, s = halves
        torch.mul(hidden, 0.5, out=q[0])
        torch.mul(memory, 0.5, out=k[0])
        forget, output, candidate = (gate.unbind() for gate in totals.chunk(3, dim=2))
        for t, total in enumerate(totals.unbind()):
            total.addmm_(q[t], doubled).sigmoid_()
            z = candidate[t].sub_(0.5)
            torch.lerp(z, k[t], forget[t], out=k[t + 1])
            torch.mul(k[t + 1], 4, out=s[t]).sigmoid_().sub_(0.5)
            torch.mul(output[t], s[t], out=q[t + 1])
        ctx.save_for_backward(totals, halves, weight)
        return 2 * q[1:], 2 * q[-1], 2 * k[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the gradients of the arguments of `forward` from those of its results."""
        totals, (q, k, s), weight = ctx.saved_tensors
        of_hidden, last_hidden, of_memory = gradients
        steps, rows, size = of_hidden.shape
        forget, output, z = totals.chunk(3, dim=2)
        # factors that turn the gradients of C, H and C into those of the three totals
        factors = totals.new_empty(steps, rows, 3 * size)
        of_forget, of_output, of_candidate = factors.chunk(3, dim=2)
        torch.mul(1 - forget, forget, out=of_forget).mul_(k[:-1] - z).mul_(2)
        torch.mul(1 - output, output, out=of_output).mul_(s[:-1]).mul_(2)
        torch.mul(z, z, out=of_candidate).mul_(-4).add_(1).mul_(1 - forget)
        through = (s[:-1] * s[:-1]).mul_(-4).add_(1).mul_(output)  # of H to that of C
        of_memory, gradient = of_memory.clone(), of_hidden[-1] + last_hidden
        for t in range(steps - 1, -1, -1):
            of_memory.addcmul_(gradient, through[t])
            of_output[t].mul_(gradient)
            of_forget[t].mul_(of_memory)
            of_candidate[t].mul_(of_memory)
            of_memory.mul_(forget[t])
            below = of_hidden[t - 1] if t else torch.zeros_like(gradient)
            torch.addmm(below, factors[t], weight.T, out=gradient)
        of_weight = q[:-1].flatten(0, 1).T @ factors.flatten(0, 1)
        return factors, of_weight.mul_(2), gradient, of_memory


class CoupledLstmStep(LstmStep):
    """Fast step of an LSTM with coupled gates."""

    @override
    def update_memory(self, memory: Tensor, blocks: dict[str, Tensor]) -> None:
        torch.lerp(blocks["c"].mul_(2).sub_(1), memory, blocks["f"], out=memory)


class CoupledLstm(LstmCell, ScratchCell):
    """An LSTM with coupled gates."""

    fast_step = CoupledLstmStep
    gates = "foc"
    titles: ClassVar[dict[str, str]] = {
        "forget": "forget gate $f$ (1 keeps the cell state, 0 lets the candidate in)",
        **{name: LstmCell.titles[name] for name in ("candidate", "output")},
    }

    @override
    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        outputs, hidden, memory = CoupledRecurrence.apply(  # type: ignore[no-untyped-call]
            self.from_inputs(inputs), self.hidden_weight, *self.initial_state(inputs, state)
        )
        return outputs.transpose(0, 1), (hidden[None], memory[None])

    @override
    def column_step(self) -> Step:
        return coupled_lstm_step
