"""Continuing texts with a language model, many at once.

A texts, B of which still run, V vocabulary, P prefix characters, N new characters.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lyricgen.console import progress
from lyricgen.errors import UserError
from lyricgen.generation.draws import below_one, draw
from lyricgen.generation.rules import PartialTexts, Rule
from lyricgen.generation.stepping import right_aligned, stepper
from lyricgen.models.model import NextModel, evaluating

# (B,) which of the texts go on, and the next character (B,) of each
Watch = Callable[[Tensor, Tensor], None]


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
    watch: Watch | None = None,
) -> list[list[int]]:
    """Continue each prefix by characters drawn from the softmax of the logits, after all rules.

    Every text has random numbers of its own, one a character, so that it depends on its prefix and
    its numbers, not on the others; `stepping.RecurrentStepper` says where rounding may still tip a
    draw that lies on the border between two characters.

    Args:
        model: the network; it is put into evaluation mode and back.
        prefixes: A tensors (P,) of at least one input id each, on the CPU.
        rules: applied to the logits, one after the other.
        uniforms: (A, length) from [0, 1), see `draws.draw_uniforms`; None for greedy texts.
        length: new characters at most.
        stop: a character that ends a text; it is not part of it.
        stops: A, at which of its stops, counted from 1, each text ends; None for the first.
        watch: called after each step with (B,) which of the texts go on and (B,) their new
            characters, so without what ends one; for showing texts as they are written.

    Returns:
        A lists of new character ids.

    Raises:
        ValueError: an empty prefix.
        UserError: the rules leave no character for some place of a text.
    """
    # how often the device is asked which texts have ended
    look = 1 if watch is not None else 32 if stop is None else 4
    with evaluating(model), progress("writing", length) as moved:
        batch = _Batch(model, prefixes, uniforms, length, stop, stops)
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
    """B texts that are written side by side.

    Attributes:
        model: it has read the texts so far.
        step: characters chosen so far.
        start: P, where new characters begin.
        text: (B, P + N) ids, -1 before a shorter prefix and where none is chosen yet.
    """

    def __init__(self, model: NextModel, prefixes: list[Tensor], length: int) -> None:
        self.model = stepper(model, prefixes, length)
        self.step = 0
        prefix = right_aligned(prefixes).to(self.model.logits.device)  # (B, P)
        self.start = prefix.shape[1]
        self.text = torch.cat([prefix, prefix.new_full((len(prefix), length), -1)], dim=1)

    def logits(self, rules: Sequence[Rule], rows: Tensor) -> Tensor:
        """Logits (B, V) of the next characters, after rules, which get `rows` (B,)."""
        written = PartialTexts(self.text[:, : self.start + self.step], self.step, rows)
        logits = self.model.logits
        for rule in rules:
            logits = rule(logits, written)
        return logits


class _Batch(PartialBatch):
    """The running texts, and the characters of the ended ones.

    Attributes:
        rows: (B,), numbers of the running ones of the A texts; some may have ended since `settle`.
    """

    def __init__(
        self,
        model: NextModel,
        prefixes: list[Tensor],
        uniforms: Tensor | None,
        length: int,
        stop: int | None,
        stops: Sequence[int] | None,
    ) -> None:
        super().__init__(model, prefixes, length)
        device = self.model.logits.device
        self._vocabulary = self.model.logits.shape[1]
        self.rows = torch.arange(len(prefixes), device=device)
        self._new = self.text[:, self.start :].clone()  # (A, N) of texts that have ended
        self._uniforms: Tensor | None = None
        if uniforms is not None:
            numbers = below_one(uniforms.to(device), self.model.logits.dtype)
            self._uniforms = numbers.T[..., None].contiguous()  # (N, B, 1)
        self._stop = -1 if stop is None else stop
        self._stops = list(stops or [1] * len(prefixes))  # (A,)
        self._left = torch.tensor(self._stops, device=device)  # (B,), stops that are still to come
        self._settled = 0  # steps

    @property
    def newest(self) -> Tensor:
        """The last character of each text, (B,)."""
        return self.text[:, self.start + self.step - 1]

    def choose(self, rules: Sequence[Rule]) -> None:
        """Choose one more character for each text."""
        place = self.start + self.step
        numbers = None if self._uniforms is None else self._uniforms[self.step]
        self.text[:, place : place + 1] = draw(self.logits(rules, self.rows), numbers)
        self.step += 1

    def settle(self) -> None:
        """Remove the texts that have ended; this waits for the device.

        Raises:
            UserError: there was no character to choose.
        """
        since = self.text[:, self.start + self._settled : self.start + self.step]  # (B, S)
        stops = (since == self._stop).cumsum(dim=1)
        ended = stops >= self._left[:, None]
        # where there is no character, one past the last was chosen; after an end it does not count
        missing = (since == self._vocabulary) & ~ended
        wrong, over = torch.stack([missing.any(), ended[:, -1].any()]).tolist()
        if wrong:
            first = int(missing.any(dim=0).long().argmax())
            raise no_character(self._settled + first, self.model.logits)
        self._left -= stops[:, -1]
        if over:
            self._keep((~ended[:, -1]).nonzero()[:, 0])
        self._settled = self.step

    def texts(self) -> list[list[int]]:
        """The new characters of all A texts."""
        self._new[self.rows] = self.text[:, self.start :]
        each = zip(self._new.tolist(), self._stops, strict=True)
        return [until(row, self._stop, number) for row, number in each]

    def _keep(self, running: Tensor) -> None:
        self._new[self.rows] = self.text[:, self.start :]
        self.rows, self.text = self.rows[running], self.text[running]
        self._left = self._left[running]
        if self._uniforms is not None:
            self._uniforms = self._uniforms[:, running]
        self.model.select(running)


def no_character(step: int, logits: Tensor) -> UserError:
    """Error for a step that leaves no allowed character in one of the rows (B, V)."""
    if logits.isnan().any():
        return UserError(
            "the model's outputs are no numbers, its training has diverged: take the checkpoint of "
            "an earlier step"
        )
    return UserError(
        f"the constraints leave no character at position {step + 1} of a text: loosen one of them"
    )


def until(row: list[int], stop: int, number: int) -> list[int]:
    """Symbols before the `number`-th stop, from 1; all if there are fewer stops."""
    place = -1
    for _ in range(number):
        if stop not in row[place + 1 :]:
            return row
        place = row.index(stop, place + 1)
    return row[:place]
