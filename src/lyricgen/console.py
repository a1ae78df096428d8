"""Print texts, tables, progress and log messages, escaped for the terminal."""

import errno
import io
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TextIO

from rich import get_console
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import Progress, ProgressColumn
from rich.segment import Segment
from typing_extensions import override

from lyricgen.errors import HARMLESS, escape_line, escape_text, in_one_line

log = logging.getLogger(__name__)

Printer = Callable[[str], None]

PATIENCE = 2.0  # seconds of work before its progress is shown
SILENCE = 10.0  # seconds between lines about progress outside a terminal
# A notebook's output, for rich: plain lines as on a terminal, without elements of the page.
NOTEBOOK: Any = {"width": 100, "force_jupyter": False, "force_terminal": True, "color_system": None}
NOTEBOOK_BAR = '<pre style="margin: 0">{code}</pre>'  # HTML of a progress bar
EXPONENT_FROM = 1e7  # smallest figure that is shown by its exponent


def prepare_streams() -> None:
    """Set up the streams of a command, escape Python's own messages, and call `quiet_matplotlib`.

    A terminal that cannot show a character shows its code. Files and pipes get UTF-8, unless
    PYTHONIOENCODING is set.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if not stream.isatty() and "PYTHONIOENCODING" not in os.environ:
                stream.reconfigure(encoding="utf-8")
    sys.excepthook = lambda *error: tell("".join(traceback.format_exception(*error)).rstrip("\n"))
    warnings.showwarning = lambda *warning, **_: tell(
        warnings.formatwarning(*warning[:4]).rstrip("\n")
    )
    quiet_matplotlib()


def quiet_matplotlib() -> None:
    """Silence Matplotlib's messages, such as those about its fonts and its cache, except errors."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End a command quietly if the reader of its output, such as `head`, has left.

    Raises:
        SystemExit: the output cannot be written for another reason.
    """
    try:
        with suppress(BrokenPipeError):  # nobody needs the output
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError as error:
                forget_output(stream)
                if not isinstance(error, BrokenPipeError):
                    refuse(output_problem(error) or str(error))


def refuse(message: str) -> NoReturn:
    """Print an error in one line and end the command with status 2."""
    tell(f"error: {in_one_line(message)}")
    sys.exit(2)


def forget_output(stream: TextIO) -> None:
    """Discard the rest of a stream, so that the interpreter's last flush does not fail."""
    with suppress(OSError):  # a test's stream has no descriptor
        _send_nowhere(stream.fileno())


def leave_closed_terminal() -> None:
    """Discard all output to a closed terminal from now on, since each write would fail."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:  # the terminal is gone
            _send_nowhere(descriptor)


def _send_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:  # equal if the descriptor was closed
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


@contextmanager
def terminal_may_close() -> Iterator[None]:
    """End the block without an error if a write finds the terminal closed; discard later output."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO or error.filename is not None:
            raise
        leave_closed_terminal()


class Notebook:
    """Output of a notebook's cell, whose first progress bar makes a place for all bars."""

    display: ClassVar[Any] = None  # IPython's function; None elsewhere
    place: ClassVar[Any] = None  # IPython's handle of the place

    @classmethod
    def show_bar(cls, bar: RenderableType) -> None:
        """Show a bar in place of the bar before."""
        page = Console(file=io.StringIO(), record=True, **NOTEBOOK)
        page.print(bar)
        text, html = page.export_text(clear=False), page.export_html(code_format=NOTEBOOK_BAR)
        cls._put({"text/plain": text, "text/html": html})

    @classmethod
    def clear_bar(cls) -> None:
        """Empty the place, if there is one."""
        if cls.place is not None:
            cls._put({"text/plain": ""})

    @classmethod
    def _put(cls, shown: dict[str, str]) -> None:
        if cls.place is None:
            cls.place = cls.display(shown, raw=True, display_id=True)
        else:
            cls.place.update(shown, raw=True)


class ProgressBar(Progress):
    """Progress bar without a thread; a closed terminal ends no work; a notebook has one place."""

    def __init__(self, *columns: ProgressColumn) -> None:
        self._in_notebook = Notebook.display is not None
        shared: Any = {"auto_refresh": False, "disable": self._in_notebook}
        super().__init__(*columns, console=get_console(), transient=True, **shared)

    @override
    def refresh(self) -> None:
        with terminal_may_close():
            if self._in_notebook:
                Notebook.show_bar(self.get_renderable())
            else:
                super().refresh()

    @override
    def stop(self) -> None:
        with terminal_may_close():
            super().stop()
        if self._in_notebook:
            Notebook.clear_bar()


def output_problem(error: Exception) -> str | None:
    """Describe a failed write to standard output, and discard all further output.

    The result is None for any other error.
    """
    if not isinstance(error, OSError) or error.filename is not None:
        return None
    forget_output(sys.stdout)
    return f"the output cannot be written: {error.strerror or error}"


def show(text: str) -> None:
    """Print a text on standard output, escaped; the terminal wraps long lines."""
    _print(escape_text(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """Print a message on standard error, escaped; a failure to print it is ignored."""
    try:
        print(escape_text(text), file=sys.stderr, flush=True)
    except OSError:  # its reader has left, or a disk is full: the exit status tells
        forget_output(sys.stderr)


def tell_now(text: str) -> None:
    """Print like `tell`, but safely in a signal handler that may interrupt another print."""
    with suppress(OSError):  # its reader may have left
        os.write(2, f"{escape_text(text)}\n".encode(errors="backslashreplace"))


def show_json(text: str) -> None:
    """Print JSON on standard output; unprintable characters become JSON's own escapes."""
    shown = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    write(shown if shown.endswith("\n") else f"{shown}\n")


def show_generated(text: str) -> None:
    """Write a generated text to standard output, escaped only on a terminal."""
    write(escape_text(text, HARMLESS) if on_terminal() else text)


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def put(what: RenderableType, console: Console | None = None) -> None:
    """Print a table or another object of rich, escaped; on the shared console by default."""
    _print(_Escaped(what), console)


@dataclass
class _Escaped:
    """Object of rich whose text is escaped after its layout is computed."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for text, style, control in console.render(self.content, options):
            yield Segment(text if control else escape_text(text, HARMLESS), style, control)


def write(text: str) -> None:
    """Write a text to standard output, unaltered."""
    sys.stdout.write(text)
    sys.stdout.flush()


def _print(what: RenderableType, console: Console | None = None, **options: Any) -> None:
    try:
        with terminal_may_close():
            (console or get_console()).print(what, **options)
    except SystemExit as stop:
        # rich ends the program when the reader of a pipe has left; a run goes on
        if type(stop) is not SystemExit:
            raise


def format_figure(value: float, digits: int = 2, sign: str = "") -> str:
    """Format a figure for people: 1,234.50, or 1.2e+09 from `EXPONENT_FROM` on.

    Args:
        value: the figure.
        digits: number of decimals of a figure below `EXPONENT_FROM`.
        sign: "+" to show the sign of a positive figure, too.
    """
    form = f",.{digits}f" if abs(value) < EXPONENT_FROM else ".1e"
    return format(value, sign + form)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of slow work: a bar on a terminal, lines of the log elsewhere.

    Work that ends within `PATIENCE` seconds shows nothing.

    Args:
        what: name of the work.
        total: number of its steps.

    Yields:
        A function to call often with the number of steps done.
    """
    bar: ProgressBar | None = None
    start = shown = time.monotonic()

    def move_bar(done: int) -> None:
        nonlocal bar, shown
        now = time.monotonic()
        if now - start < PATIENCE:
            return
        if get_console().is_terminal and now - shown > 0.25:
            shown = now
            if bar is None:
                bar = ProgressBar()
                bar.add_task(escape(escape_line(what)), total=total)
                bar.start()
            bar.update(bar.task_ids[0], completed=done, refresh=True)
        elif not get_console().is_terminal and now - shown > SILENCE:
            shown = now
            log.info("%s: %d %%", what, 100 * done / max(1, total))

    try:
        yield move_bar
    finally:
        if bar is not None:
            bar.stop()


def quiet_messages() -> None:
    """Print only the log's warnings and errors from now on; the log file gets all messages."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, ConsoleHandler):
            handler.setLevel(logging.WARNING)


class ConsoleHandler(logging.Handler):
    """Prints log messages by `show` or `tell`, above a running progress bar."""

    def __init__(self, printer: Printer = show) -> None:
        super().__init__()
        self._printer = printer

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._printer(self.format(record))
        except Exception:  # a message never ends the work
            self.handleError(record)


class PrintableFormatter(logging.Formatter):
    """Escapes log messages for a file, which somebody may show on a terminal."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return escape_text(super().format(record))


class LogFile(logging.FileHandler):
    """Appends log messages to a file; a failure to write never ends the work.

    The constructor raises an OSError if the file cannot be opened, is a link, or is a pipe that
    nobody reads.
    """

    @override
    def _open(self) -> io.TextIOWrapper:
        # follow no link, and wait for no pipe
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self.baseFilename, flags, 0o666)
        stream = os.fdopen(descriptor, "ab", buffering=0)
        return io.TextIOWrapper(stream, encoding=self.encoding, write_through=True)

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        # the run's other files report a full disk
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
