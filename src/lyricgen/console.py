"""The terminal: one rich console, shared by messages, tables and the progress bar."""

import logging

from rich import get_console


def show(text: str) -> None:
    """Print a text exactly as it is; long lines are left to the terminal to wrap."""
    get_console().print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


class ConsoleHandler(logging.Handler):
    """Prints log messages above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        show(self.format(record))
