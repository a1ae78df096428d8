"""Ctrl-C and other signals, Slurm's among them: stop where a run can go on from, or at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from rich import get_console

from lyricgen.console import tell_now

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


class Interrupted(SystemExit):
    """The user, or the scheduler, has stopped the run; exit status 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(130 if number == signal.SIGINT else 143)
        self.number = number


class Interruption:
    """Notes the first signal while `patient`, and raises Interrupted at any other time.

    Being patient is for training, which stops by itself at the next exact point. A second signal
    stops at once. Outside the main thread, where Python has no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.patient = False
        self.requested: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.patient = False
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals, also from Lightning, which puts a handler of its own before ours."""
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                if before is not signal.SIG_IGN:  # as of a background job
                    signal.signal(number, self._handle)

    def raise_if_requested(self) -> None:
        """Stop here if a signal has come.

        Raises:
            Interrupted: one has.
        """
        if self.requested is not None:
            raise Interrupted(self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.patient and self.requested is None:
            self.requested = number
            if get_console().quiet:
                return
            tell_now("\nstopping after this step; once more stops at once")
            return
        # should a library swallow what comes now, as happens in callbacks from C
        self.requested = self.requested or number
        raise Interrupted(number)
