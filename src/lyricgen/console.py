"""The terminal: one rich console, shared by messages, tables and the progress bar."""

import io
import logging
import sys

from rich import get_console


def prepare_streams() -> None:
    """Let a terminal that cannot show a character show its number instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Print a text exactly as it is; long lines are left to the terminal to wrap."""
    get_console().print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


class ConsoleHandler(logging.Handler):
    """Prints log messages above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        try:
            show(self.format(record))
        except Exception:  # as logging.Handler has it: a message never ends the work
            self.handleError(record)
