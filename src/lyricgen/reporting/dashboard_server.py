"""The server of the dashboard: which requests it answers, and how many files it may open."""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from lyricgen.errors import UserError

Application = Callable[..., Iterable[bytes]]  # WSGI

_REFUSAL = b"this is no name of the dashboard: open it as localhost, or start it with --host NAME\n"
_OTHER_FILES = 64  # that are open beside those of runs
_MANY = 1 << 16  # files, where the system sets no limit


class NamedHosts:
    """Answers requests for the names of this server alone.

    A web page may give a name of its own the address 127.0.0.1, and would then read all runs in
    the browser of whoever visits it; the Host header still says the page's name.

    Args:
        application: that answers.
        host: address or name that the server listens on.
    """

    def __init__(self, application: Application, host: str) -> None:
        self._application = application
        self._names = {"localhost", host.lower()}
        self._any_address = _is_everywhere(host)
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
        if not port.isdecimal():
            name = header.lower()
        name = name.removesuffix(".")
        if name in self._names or name.endswith(".localhost"):
            return True
        address = _address(name[1:-1] if name[:1] == "[" and name[-1:] == "]" else name)
        if address is None:
            return False
        # no page can give an address of digits another meaning
        return address.is_loopback or self._any_address or str(address) in self._names


def check_host(host: str) -> None:
    """Refuse a host that is no address of this machine.

    Raises:
        UserError: it is none.
    """
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM
        ):
            with socket.socket(family, kind, protocol) as one:
                one.bind(place)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--host {host}: the dashboard cannot listen there "
            f"({getattr(error, 'strerror', None) or error}): name an address of this machine, or "
            "0.0.0.0 for all"
        ) from error


def allow_open_files(files: int) -> str | None:
    """Let this process, and those that it starts, open many files.

    Args:
        files: of runs that are there by now; each stays open.

    Returns:
        What is wrong, if it may not open so many.
    """
    try:
        import resource  # noqa: PLC0415  not on Windows
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited:
        wanted = max(soft, files + _OTHER_FILES, _MANY) if hard == unlimited else hard
        with suppress(OSError, ValueError):  # then the limit stays, and is told below
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == unlimited or files + _OTHER_FILES <= soft:
        return None
    return (
        f"the runs have {files:,} event files and this process may open {soft:,} files: some runs "
        "will be missing; name a directory with fewer runs, or raise the limit (ulimit -Hn)"
    )


def _is_everywhere(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
