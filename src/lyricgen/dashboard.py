"""Show all runs in TensorBoard: python -m lyricgen.dashboard [DIRECTORY]."""

import argparse
import fnmatch
import io
import ipaddress
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lyricgen.cli.command_line import Parser, run
from lyricgen.console import progress, show
from lyricgen.errors import UserError
from lyricgen.files import expand_home
from lyricgen.runs.directories import EVENTS, hide_trash, outputs_directory
from lyricgen.runs.record_files import walk

log = logging.getLogger(__name__)

HOST = "127.0.0.1"  # no other machine reads the runs
# Points of a curve and texts of a run that TensorBoard keeps; of more, it keeps a random choice.
LIMITS = {"scalars": 100_000, "text": 10_000}
ANSWER = 60.0  # seconds in which the server must answer
PATIENCE = 5.0  # seconds without a further run before the page is shown
_REFUSAL = b"this is no name of the dashboard: open it as localhost, or start it with --host NAME\n"
_OTHER_FILES = 64  # open files beside those of runs
_MANY = 1 << 16  # files, where the system sets no limit


def main(arguments: list[str] | None = None) -> None:
    """Run the command until Ctrl-C or SIGTERM."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(create_parser(), _show, arguments)
    finally:
        signal.signal(signal.SIGTERM, before)


def create_parser() -> Parser:
    """Create the parser of the command's arguments."""
    parser = Parser("dashboard", "Show all runs in TensorBoard, until Ctrl-C.", checkpoint=False)
    parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        metavar="DIRECTORY",
        help="a run, a sweep or a directory of runs; without it, outputs/",
    )
    options = {
        "--host NAME": "address or name of this machine to listen on (default: 127.0.0.1, which "
        "only this machine reaches; 0.0.0.0: others reach it, too)",
        "--port N": "port of the page (default: the first free one from 6006 on; 0: any free port)",
    }
    parser.add_options(options, {"--port": int})
    return parser


def _show(options: argparse.Namespace) -> None:
    if options.port is not None and not 0 <= options.port <= 65535:
        raise UserError(f"--port {options.port}: it must be from 0 to 65535")
    directory = outputs_directory() if options.directory is None else expand_home(options.directory)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{str(directory)!r} is a file: name the directory of one run or of many")
    if options.directory is not None and not directory.exists():
        raise UserError(f"{str(directory)!r} is not there: name a directory of runs, or none")
    host = HOST if options.host is None else options.host
    check_host(host)
    files = []
    for folder, _, names in walk(directory):
        for path in (folder / name for name in fnmatch.filter(names, EVENTS)):
            if not path.is_file():
                log.warning("%s is no ordinary file: TensorBoard may wait for it forever", path)
            files.append(path)
    runs = {path.parent for path in files}
    if problem := allow_open_files(len(files)):
        log.warning("%s", problem)
    tensorboard: Any = None
    try:
        with hide_trash(directory) as shown:
            # the process that reads the files lives as long as `tensorboard`
            tensorboard, address = _launch(shown, host, options.port)
            _wait_for(address, len(runs))
            if not runs:
                show(f"no runs in {str(directory)!r} yet: they will show here as they are trained")
            show(f"TensorBoard of {str(directory)!r}: {address} (Ctrl-C ends it)")
            threading.Event().wait()
    except KeyboardInterrupt:  # the only way to end the command
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        del tensorboard


def check_host(host: str) -> None:
    """Check that this machine can listen at a host.

    Raises:
        UserError: the name is unknown, or one of its addresses does not belong to this machine.
    """
    try:
        addresses = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            with socket.socket(family, kind, protocol) as one:
                one.bind(address)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--host {host}: the dashboard cannot listen there "
            f"({getattr(error, 'strerror', None) or error}): name an address of this machine, or "
            "0.0.0.0 for all"
        ) from error


def allow_open_files(files: int) -> str | None:
    """Let this process and its children open many files.

    Args:
        files: number of event files of the runs, which all stay open.

    Returns:
        A message if the system's limit is too low, else None.
    """
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited:
        limit = max(soft, files + _OTHER_FILES, _MANY) if hard == unlimited else hard
        with suppress(OSError, ValueError):  # the limit stays, and the message below tells it
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == unlimited or files + _OTHER_FILES <= soft:
        return None
    return (
        f"the runs have {files:,} event files and this process may open {soft:,} files: some runs "
        "will be missing; name a directory with fewer runs, or raise the limit (ulimit -Hn)"
    )


def _launch(directory: Path, host: str, port: int | None) -> tuple[Any, str]:
    """Start TensorBoard in a thread, and return it and its address; refuse a taken port."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where TensorFlow is installed
    from tensorboard.program import (
        TensorBoard,
        TensorBoardServerException,
        create_port_scanning_werkzeug_server,
    )

    def server(application: Any, flags: Any) -> Any:
        return create_port_scanning_werkzeug_server(NamedHosts(application, host), flags)

    # it would report each connection that a browser drops
    logging.getLogger("tensorboard").setLevel(logging.CRITICAL)
    tensorboard = TensorBoard(server_class=server)
    options = {"logdir": str(directory.resolve()), "host": host, "port": port}
    tensorboard.configure(**options, samples_per_plugin=LIMITS, window_title="lyricgen")
    try:
        with redirect_stderr(io.StringIO()):  # hides a note about how TensorBoard reads files
            return tensorboard, tensorboard.launch()
    except TensorBoardServerException as error:
        if port is None:
            raise UserError(f"{error.msg}: name a free one by --port, or 0 for any") from error
        raise UserError(f"--port {port}: {error.msg}: leave it out for a free one") from error


class NamedHosts:
    """WSGI application that answers only requests for the names of this server.

    A hostile web page may point its own name to 127.0.0.1, and read the runs through the browser of
    a visitor. The Host header of such a request holds the name of the page.

    Args:
        application: answers the requests for this server.
        host: address or name that the server listens on.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], host: str) -> None:
        self._application = application
        self._names = {"localhost", host.lower()}
        address = _address(host)
        self._any_address = address is not None and address.is_unspecified
        if self._any_address:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, or refuse it."""
        if self.knows(environ.get("HTTP_HOST", "")):
            return self._application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [_REFUSAL]

    def knows(self, header: str) -> bool:
        """Whether a Host header names this server."""
        name, _, port = header.lower().rpartition(":")
        name = (name if port.isdecimal() else header.lower()).removesuffix(".")
        if name in self._names or name.endswith(".localhost"):
            return True
        address = _address(name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name)
        # no page can give a numeric address another meaning
        return address is not None and (
            address.is_loopback or self._any_address or str(address) in self._names
        )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _wait_for(address: str, runs: int) -> None:
    """Wait until the server has read all runs, or has read no further run for `PATIENCE` seconds.

    Raises:
        UserError: the server does not answer, or not with a list of runs.
    """
    url = urlsplit(address)
    connection = HTTPConnection(url.hostname or HOST, url.port, timeout=ANSWER)
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
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"TensorBoard does not answer at {address} ({why}): try again") from error
    finally:
        connection.close()


if __name__ == "__main__":
    main()
