"""The terminal: one rich console, shared by messages, tables and the progress bars."""

import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich import get_console
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from lyricgen.errors import printable, printable_text

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds for which nothing is shown of what may soon be done
WIDEST = 1000  # characters in a line that no terminal shows
SILENCE = 10.0  # seconds between lines where there is no terminal to draw a bar on


def prepare_streams() -> None:
    """Let a terminal that cannot show a character show its number; files and pipes get UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if not stream.isatty() and "PYTHONIOENCODING" not in os.environ:
                stream.reconfigure(encoding="utf-8")


def show(text: str) -> None:
    """Print a text as it is, but nothing that steers; long lines are the terminal's to wrap."""
    put(printable_text(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def put(what: RenderableType, console: Console | None = None, **options: Any) -> None:
    """Print anything that rich can, while somebody reads it; on the shared console by default."""
    try:
        (console or get_console()).print(what, **options)
    except SystemExit as stop:
        # rich ends the program when the pipe is closed, as by head or tee; a run goes on
        if type(stop) is not SystemExit:
            raise


def table_console() -> Console:
    """Where tables are shown; without a terminal as wide as they are."""
    console = get_console()
    return console if console.is_terminal else Console(width=WIDEST, quiet=console.quiet)


def put_whole(table: Table) -> None:
    """Print a table; where there is no terminal, as wide as it is."""
    put(table, table_console())


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far something slow has come: a bar on a terminal, plain lines elsewhere.

    Args:
        what: is being done.
        total: steps there are in all.

    Yields:
        What to call with the number of steps done, often.
    """
    bar: Progress | None = None
    start = shown = time.monotonic()

    def moved(done: int) -> None:
        nonlocal bar, shown
        now = time.monotonic()
        if now - start < PATIENCE:
            return
        if get_console().is_terminal and now - shown > 0.25:
            shown = now
            if bar is None:
                # auto_refresh would draw in a thread
                bar = Progress(console=get_console(), transient=True, auto_refresh=False)
                bar.add_task(escape(printable(what)), total=total)
                bar.start()
            bar.update(bar.task_ids[0], completed=done, refresh=True)
        elif not get_console().is_terminal and now - shown > SILENCE:
            shown = now
            log.info("%s: %d %%", what, 100 * done / max(1, total))

    try:
        yield moved
    finally:
        if bar is not None:
            bar.stop()


def quiet_messages() -> None:
    """From here on only warnings and errors reach the terminal; all goes to train.log as before."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, ConsoleHandler):
            handler.setLevel(logging.WARNING)


class ConsoleHandler(logging.Handler):
    """Prints log messages above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        try:
            show(self.format(record))
        except Exception:  # as logging.Handler has it: a message never ends the work
            self.handleError(record)
