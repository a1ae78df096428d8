"""Continuation of many texts at once, one character at a time.

Shapes: A texts, B texts that still grow, V vocabulary, P prefix characters, N new characters.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lyricgen.console import progress
from lyricgen.errors import UserError
from lyricgen.generation.options import Generator
from lyricgen.generation.rules import PartialTexts, Rule
from lyricgen.generation.steppers import stepper
from lyricgen.models.model import NextModel, eval_mode

# called with the numbers (B,) of the texts that go on, and the new character (B,) of each text
StepWatch = Callable[[Tensor, Tensor], None]


def draw_uniforms(generator: Generator, seeds: list[int], length: int) -> Tensor:
    """Draw random numbers from [0, 1), a row for each seed.

    Args:
        generator: with "torch", torch's generator draws each row from its seed. With
            "numpy_reseeded", as in course code, NumPy's legacy generator gets the seed (2k + seed)
            mod 2**32 before it draws number k of a row.
        seeds: B numbers, at least one; for "torch" from 0 to 2**32 - 1.
        length: numbers in a row.

    Returns:
        (B, length), float32 from torch and float64 from NumPy.

    Raises:
        ValueError: `length` is below 1.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    if generator == "torch":
        rows = [torch.rand(length, generator=torch.Generator().manual_seed(one)) for one in seeds]
        return torch.stack(rows)
    numbers = np.random.RandomState()

    def draw_first(seed: int) -> float:
        numbers.seed(seed % 2**32)
        return numbers.random_sample()

    drawn = [[draw_first(2 * step + seed) for step in range(length)] for seed in seeds]
    return torch.tensor(drawn, dtype=torch.float64)


def divergence_error() -> UserError:
    """Make the error for a model whose logits are NaN."""
    return UserError(
        "the model's outputs are no numbers, its training has diverged: take the checkpoint of an "
        "earlier step"
    )


def below_one(uniforms: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert numbers from [0, 1) for `draw_characters`; keep them below 1 after rounding.

    Args:
        uniforms: the numbers, of any shape.
        dtype: type of the logits.

    Returns:
        The numbers in the type `dtype`, or in float32 if `dtype` is less precise.
    """
    dtype = torch.promote_types(dtype, torch.float32)
    # a larger number could round to the sum of all probabilities, and so draw a forbidden character
    return uniforms.to(dtype).clamp(max=1 - torch.finfo(dtype).eps)


def draw_characters(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """Draw one character for each row, by the inverse of the cumulative distribution.

    Args:
        logits: (B, V), -inf for forbidden characters.
        uniforms: (B, 1), from `below_one`; None takes the most probable character.

    Returns:
        (B, 1) int64; V if all logits of a row are -inf, or a logit is NaN.
    """
    if uniforms is None:
        largest, chosen = logits.max(dim=-1, keepdim=True)
        return chosen.where(largest > -torch.inf, logits.shape[-1])
    cumulative = torch.softmax(logits, dim=-1, dtype=uniforms.dtype).cumsum_(dim=-1)
    # without a possible character the sums are NaN, and nothing is larger than NaN
    return torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)


@torch.inference_mode()
def continue_texts(
    model: NextModel,
    prefixes: list[Tensor],
    *,
    rules: Sequence[Rule],
    uniforms: Tensor | None,
    length: int,
    stop: int | None = None,
    stops: Sequence[int] | None = None,
    ending: Tensor | None = None,
    watch: StepWatch | None = None,
) -> list[list[int]]:
    """Continue each prefix by characters drawn from the softmax of the logits, after all rules.

    A text depends on its prefix and its random numbers, not on the other texts. Rounding can make
    exceptions, which `stepping.RecurrentStepper` explains.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: a tensor (P,) of at least one input id for each text, on the CPU.
        rules: applied to the logits, one after the other.
        uniforms: (A, length) from [0, 1), see `draw_uniforms`; None for greedy texts.
        length: largest number of new characters.
        stop: a character that ends a text; the text does not include it.
        stops: for each text, the number of stops that end it; None for one stop each.
        ending: new characters, (E,) ids, after which a text ends, too; None for none.
        watch: called after each step, see `StepWatch`.

    Returns:
        The ids of the new characters of each text.

    Raises:
        ValueError: a prefix is empty.
        UserError: the rules leave no character for a place of a text, or the logits are NaN.
    """
    # steps between two looks for ended texts, each of which waits for the device
    look = 1 if watch is not None else 32 if stop is None and ending is None else 4
    with eval_mode(model), progress("writing", length) as moved:
        batch = _Batch(model, prefixes, uniforms, length, stop, stops, ending)
        while True:
            batch.choose(rules)
            if batch.step % look == 0 or batch.step == length:
                batch.settle()
            if watch is None:
                moved(batch.step)
            elif len(batch.rows):
                watch(batch.rows, batch.newest)
            if batch.step == length or len(batch.rows) == 0:
                return batch.texts()
            batch.model.step(batch.newest)


class PartialBatch:
    """Batch of B texts that grow by one character at each step."""

    def __init__(
        self,
        model: NextModel,
        prefixes: list[Tensor],
        length: int,
        stop: int | None,
        stops: Sequence[int],
    ) -> None:
        self.model = stepper(model, prefixes, length)  # it has read the texts so far
        self.step = 0  # number of characters chosen so far
        self.stop = -1 if stop is None else stop
        self.stops = stops  # for each of A texts, the number of stops that end it
        self.device = self.model.logits.device
        longs = [prefix.long() for prefix in prefixes]
        padded = pad_sequence(longs, batch_first=True, padding_value=-1, padding_side="left")
        prefix = padded.to(self.device)  # (B, P)
        self.start = prefix.shape[1]  # P, position of the first new character
        # (B, P + N) ids, -1 before a shorter prefix and where no character is chosen yet
        self.text = torch.cat([prefix, prefix.new_full((len(prefix), length), -1)], dim=1)

    def logits(self, rules: Sequence[Rule], rows: Tensor) -> Tensor:
        """Apply rules to the logits of the next characters, (B, V).

        Args:
            rules: applied one after the other.
            rows: (B,), see `PartialTexts`.
        """
        written = PartialTexts(self.text[:, : self.start + self.step], self.step, rows)
        logits = self.model.logits
        for rule in rules:
            logits = rule(logits, written)
        return logits

    def no_character(self, step: int) -> UserError:
        """Make the error for a text that has no character to choose at a step, counted from 0."""
        if self.model.logits.isnan().any():
            return divergence_error()
        return UserError(
            f"the constraints leave no character at position {step + 1} of a text: loosen one of "
            "them"
        )

    def cut_at_stop(self, new: list[int], text: int) -> list[int]:
        """Cut the new characters of text number `text` before the stop that ends it, if any."""
        index = -1
        for _ in range(self.stops[text]):
            if self.stop not in new[index + 1 :]:
                return new
            index = new.index(self.stop, index + 1)
        return new[:index]


class _Batch(PartialBatch):
    """Batch of growing texts, which keeps the new characters of texts that have ended."""

    def __init__(
        self,
        model: NextModel,
        prefixes: list[Tensor],
        uniforms: Tensor | None,
        length: int,
        stop: int | None,
        stops: Sequence[int] | None,
        ending: Tensor | None,
    ) -> None:
        super().__init__(model, prefixes, length, stop, stops or [1] * len(prefixes))
        self._ending = None if ending is None else ending.to(self.device)
        # (B,) numbers of the running texts; some may have ended since the last `settle`
        self.rows = torch.arange(len(prefixes), device=self.device)
        self._new = self.text[:, self.start :].clone()  # (A, N), texts that have ended
        self._uniforms: Tensor | None = None
        if uniforms is not None:
            numbers = below_one(uniforms.to(self.device), self.model.logits.dtype)
            self._uniforms = numbers.T[..., None].contiguous()  # (N, B, 1)
        self._left = torch.tensor(self.stops, device=self.device)  # (B,), stops still to come
        self._settled = 0  # steps before the last `settle`

    @property
    def newest(self) -> Tensor:
        """The last character of each text, (B,)."""
        return self.text[:, self.start + self.step - 1]

    def choose(self, rules: Sequence[Rule]) -> None:
        """Choose one more character for each text."""
        position = self.start + self.step
        numbers = None if self._uniforms is None else self._uniforms[self.step]
        self.text[:, position : position + 1] = draw_characters(
            self.logits(rules, self.rows), numbers
        )
        self.step += 1

    def settle(self) -> None:
        """Remove the texts that have ended; this waits for the device.

        Raises:
            UserError: a text had no character to choose, or the logits are NaN.
        """
        since = self.text[:, self.start + self._settled : self.start + self.step]  # (B, S)
        stops = (since == self.stop).cumsum(dim=1)
        earlier = 0 if self._ending is None else len(self._ending) - 1
        recent = self.text[:, self.start + max(0, self._settled - earlier) : self.start + self.step]
        endings = self._find_endings(recent)[:, -since.shape[1] :]
        ended = (stops >= self._left[:, None]) | (endings.cumsum(dim=1) > 0)
        # V: no character was possible; after the end of a text it does not count
        missing = (since == self.model.logits.shape[1]) & ~ended
        wrong, over = torch.stack([missing.any(), ended[:, -1].any()]).tolist()
        if wrong:
            raise self.no_character(self._settled + int(missing.any(dim=0).long().argmax()))
        self._left -= stops[:, -1]
        self._settled = self.step
        if over:
            running = (~ended[:, -1]).nonzero()[:, 0]
            self._new[self.rows] = self.text[:, self.start :]
            self.rows, self.text = self.rows[running], self.text[running]
            self._left = self._left[running]
            if self._uniforms is not None:
                self._uniforms = self._uniforms[:, running]
            self.model.select(running)

    def _find_endings(self, texts: Tensor) -> Tensor:
        """Mark the last character of each whole ending in texts, (B, N)."""
        found = torch.zeros_like(texts, dtype=torch.bool)
        if self._ending is not None and len(self._ending) <= texts.shape[1]:
            size = len(self._ending)
            found[:, size - 1 :] = (texts.unfold(1, size, 1) == self._ending).all(dim=-1)
        return found

    def texts(self) -> list[list[int]]:
        """Return the ids of the new characters of all texts, up to the stop or the ending."""
        self._new[self.rows] = self.text[:, self.start :]
        endings = self._find_endings(self._new)
        lengths = (endings.cumsum(dim=1) == endings).sum(dim=1).tolist()  # up to the first ending
        return [
            self.cut_at_stop(new[:length], text)
            for text, (new, length) in enumerate(zip(self._new.tolist(), lengths, strict=True))
        ]
