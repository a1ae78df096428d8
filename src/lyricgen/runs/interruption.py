"""Handle Ctrl-C and other signals: stop at the next exact point, or at once.

A run that was saved at an exact point can be resumed exactly.
"""

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, NoReturn

from rich import get_console

from lyricgen.console import leave_closed_terminal, tell_now

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
HANGUP = getattr(signal, "SIGHUP", None)  # not on Windows


class Interrupted(SystemExit):
    """Exit after a signal, with status 130 for Ctrl-C, and 143 for other signals."""

    def __init__(self, number: int) -> None:
        super().__init__(130 if number == signal.SIGINT else 143)
        self.number = number


class Interruption:
    """Records the first signal that asks this process to stop.

    While `patient` is true, training stops only at its next exact point. Otherwise the signal
    raises Interrupted at once. Python drops this exception in `__del__` and in callbacks of the
    garbage collector, so code calls `raise_if_requested` before it starts long work.

    Attributes:
        requested: number of the first signal; None before it.
        raised: whether Interrupted was raised at a signal.
    """

    active: ClassVar["Interruption | None"] = None  # set by `handle_signals`

    def __init__(self) -> None:
        self.patient = False
        self.requested: int | None = None
        self.raised = False

    def raise_if_requested(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self.requested is not None:
            raise Interrupted(self.requested)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record the first signal, and raise Interrupted unless `patient`.

        Later signals always raise Interrupted, except SIGHUP, which a closing terminal may repeat.
        """
        del frame
        if number == HANGUP:
            leave_closed_terminal()
        if self.requested is None:
            self.requested = number
            if not self.patient:
                self._stop(number)
            if not get_console().quiet:
                tell_now(
                    "\nstopping after this step, and after the validation or the end of the epoch "
                    "if one is due; once more stops at once"
                )
        elif number != HANGUP:
            self._stop(number)

    def _stop(self, number: int) -> NoReturn:
        self.raised = True
        raise Interrupted(number)


@contextmanager
def handle_signals(signals: Iterable[signal.Signals] = SIGNALS) -> Iterator[Interruption]:
    """Handle signals of this process until the block ends.

    An inner block uses the Interruption of the outer block, and restores `patient` at its end.
    Ignored signals, as under nohup, stay ignored. Outside the main thread no signal is handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield Interruption()
        return
    outer = Interruption.active
    if outer is not None:
        patient = outer.patient
        try:
            yield outer
        finally:
            outer.patient = patient
        return
    interruption = Interruption.active = Interruption()
    before = {number: signal.getsignal(number) for number in signals}
    unraisable = sys.unraisablehook

    def report(unraised: Any) -> None:
        if not isinstance(unraised.exc_value, Interrupted):  # Interrupted is raised again later
            unraisable(unraised)

    try:
        sys.unraisablehook = report
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, interruption.handle)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = unraisable
        Interruption.active = None


def signal_came() -> bool:
    """Whether a signal has asked this process to stop."""
    return Interruption.active is not None and Interruption.active.requested is not None


def was_raised() -> bool:
    """Whether a signal has raised Interrupted, which a library may have lost since."""
    return Interruption.active is not None and Interruption.active.raised


def raise_if_requested() -> None:
    """Raise Interrupted if a signal has asked this process to stop; see `Interruption`."""
    if Interruption.active is not None:
        Interruption.active.raise_if_requested()


@contextmanager
def terminal_signals_blocked() -> Iterator[None]:
    """Block Ctrl-C and SIGHUP in this thread, and in the processes that it starts.

    A terminal sends both signals to all of its processes, but only the main process must handle
    them. On Windows nothing is blocked.
    """
    if HANGUP is None:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, HANGUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
