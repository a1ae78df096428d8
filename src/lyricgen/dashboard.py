"""TensorBoard on all runs: python -m lyricgen.dashboard [DIRECTORY]."""

import argparse
import fnmatch
import io
import json
import logging
import os
import signal
import threading
import time
from contextlib import redirect_stderr
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lyricgen.cli.command_line import Parser, run
from lyricgen.console import progress, show
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.reporting.dashboard_server import NamedHosts, allow_open_files, check_host
from lyricgen.runs.directories import EVENTS, outputs_directory
from lyricgen.runs.record_files import walk

log = logging.getLogger(__name__)

HOST = "127.0.0.1"  # so that nobody else reads the runs
# What TensorBoard keeps of a curve and of a run's texts; of more it would keep a random choice.
LIMITS = {"scalars": 100_000, "text": 10_000}
ANSWER = 60.0  # seconds in which the server must answer
PATIENCE = 5.0  # seconds without another run read, after which the page is shown as it is


def main(arguments: list[str] | None = None) -> None:
    """Run the command until Ctrl-C or SIGTERM; what the user can mend is one line and status 2."""
    parser = Parser("dashboard", "Show all runs in TensorBoard, until Ctrl-C.", checkpoint=False)
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        metavar="DIRECTORY",
        help="of runs, of a sweep or of one run; without it, outputs/",
    )
    parser.add_argument(
        "--host",
        default=HOST,
        metavar="NAME",
        help="address or name of this machine to listen on (default: 127.0.0.1, for this machine "
        "alone; 0.0.0.0: for everyone who reaches it)",
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="of the page (default: the first free one from 6006 on; 0: any free one)",
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(parser, _show, arguments)
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(options: argparse.Namespace) -> None:
    if options.port is not None and not 0 <= options.port <= 65535:
        raise UserError(f"--port {options.port}: it must be from 0 to 65535")
    directory = _directory(options.directory)
    check_host(options.host)
    files = _event_files(directory)
    runs = {path.parent for path in files}
    problem = allow_open_files(len(files))
    if problem is not None:
        log.warning("%s", problem)
    board: Any = None
    try:
        # kept to the end: with it goes the process that reads the files
        board, address = _launch(directory, options.host, options.port)
        _wait_for(address, len(runs))
        if not runs:
            show(f"no runs in {str(directory)!r} yet: they will show here as they are trained")
        show(f"TensorBoard of {str(directory)!r}: {address} (Ctrl-C ends it)")
        threading.Event().wait()
    except KeyboardInterrupt:  # the one way to end it
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # it is ending already
        del board


def _directory(wanted: Path | None) -> Path:
    """Where the runs are.

    Raises:
        UserError: no directory of that name.
    """
    directory = outputs_directory() if wanted is None else expand_home(wanted)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{str(directory)!r} is a file: name the directory of one run or of many")
    if wanted is not None and not directory.exists():
        raise UserError(
            f"{str(directory)!r} is not there: name a directory of runs, or none for "
            f"{str(outputs_directory())!r}"
        )
    return directory


def _event_files(directory: Path) -> list[Path]:
    found = []
    for place, _, names in walk(directory):
        for path in (place / name for name in fnmatch.filter(names, EVENTS)):
            if not path.is_file():
                log.warning("%s is no ordinary file: TensorBoard may wait for it forever", path)
            found.append(path)
    return found


def _launch(directory: Path, host: str, port: int | None) -> tuple[Any, str]:
    """Start TensorBoard in a thread of this process.

    Returns:
        It, and its address.

    Raises:
        UserError: the port is not to be had.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where TensorFlow is installed
    from tensorboard.program import (
        TensorBoard,
        TensorBoardServerException,
        create_port_scanning_werkzeug_server,
    )

    def server(application: Any, flags: Any) -> Any:
        return create_port_scanning_werkzeug_server(NamedHosts(application, host), flags)

    # connections that browsers drop are no news
    logging.getLogger("tensorboard").setLevel(logging.CRITICAL)
    board = TensorBoard(server_class=server)
    board.configure(
        logdir=str(directory.resolve()),
        host=host,
        port=port,
        samples_per_plugin=LIMITS,
        window_title="lyricgen",
    )
    try:
        with redirect_stderr(io.StringIO()):  # a note about how it reads files
            return board, board.launch()
    except TensorBoardServerException as error:
        if port is None:
            raise UserError(f"{error.msg}: name a free one by --port, or 0 for any") from error
        raise UserError(f"--port {port}: {error.msg}: leave it out for a free one") from error


def _wait_for(address: str, runs: int) -> None:
    """Wait until the server answers and, while it goes on reading, until it has read all runs.

    Raises:
        UserError: it does not answer.
    """
    place = urlsplit(address)
    connection = HTTPConnection(place.hostname or HOST, place.port, timeout=ANSWER)
    read, since = -1, time.monotonic()
    try:
        with progress("reading runs", runs) as moved:
            while read < runs and time.monotonic() - since < PATIENCE:
                if read >= 0:
                    time.sleep(0.1)
                connection.request("GET", "/data/runs")
                found = len(json.loads(connection.getresponse().read()))
                if found > read:
                    read, since = found, time.monotonic()
                moved(read)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"TensorBoard does not answer at {address} ({why}): try again") from error
    finally:
        connection.close()


if __name__ == "__main__":
    main()
