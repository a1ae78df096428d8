"""Hosts that the dashboard answers, and the number of files that it can open."""

import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lyricgen import dashboard
from lyricgen.dashboard import NamedHosts, allow_open_files, check_host
from lyricgen.errors import UserError
from tests.conftest import run_main


@pytest.mark.parametrize(
    ("host", "header", "answered"),
    [
        *[("127.0.0.1", one, True) for one in ("localhost:6006", "LOCALHOST", "localhost.")],
        *[("127.0.0.1", one, True) for one in ("127.0.0.1:6006", "[::1]:6006", "[::1]")],
        *[("127.0.0.1", one, False) for one in ("evil.example:6006", "evil.example", "", ":6006")],
        *[("127.0.0.1", one, False) for one in ("10.0.0.5:6006", "localhost.evil.example", "[")],
        *[("127.0.0.1", one, False) for one in ("127.0.0.1.evil.example", "[::2]", "0.0.0.0:1")],
        *[("10.0.0.5", one, True) for one in ("10.0.0.5:6006", "a.localhost:6006")],
        *[("10.0.0.5", one, False) for one in ("10.0.0.6:6006", "xlocalhost")],
        *[("Server.example", one, True) for one in ("server.example:1", "SERVER.example")],
        *[("0.0.0.0", one, True) for one in ("10.0.0.5:6006", "[fe80::1]:6006", "localhost")],
        *[("::", one, False) for one in ("evil.example:6006", "evil.example")],
    ],
)  # fmt: skip
def test_requests_for_the_names_of_the_server_are_answered(
    host: str, header: str, answered: bool
) -> None:
    assert NamedHosts(lambda *_: [b""], host).knows(header) == answered


@pytest.mark.parametrize("host", ["no.such.name.invalid", "203.0.113.77", "a b", "x" * 250, ""])
def test_a_host_of_another_machine_is_refused(
    host: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done = run_main(dashboard.main, capfd, tmp_path, f"--host={host}")
    assert done.status == 2
    assert done.err.startswith(f"error: --host {host}: the dashboard cannot listen there (")
    assert done.err.count("\n") == 1


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_of_open_files_is_raised(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    assert allow_open_files(600) is None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == limits[1]
    assert soft >= min(664, hard)


def test_a_limit_that_cannot_be_raised_is_reported() -> None:
    script = (
        "import resource; from lyricgen.dashboard import allow_open_files\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))\n"
        "print(allow_open_files(400)); print(allow_open_files(600))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    few, many = done.stdout.splitlines()
    assert few == "None"
    assert "600 event files and this process may open 512 files: some runs will be" in many


def test_the_command_raises_the_limit_and_names_wrong_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "events.out.tfevents.1.x").touch()
    (tmp_path / "0" / "events.out.tfevents.2.x").symlink_to("/dev/zero")
    asked = []

    def allow(files: int) -> str:
        asked.append(files)
        return "too many"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dashboard, "allow_open_files", allow)
    monkeypatch.setattr(dashboard, "_launch", interrupt)
    done = run_main(dashboard.main, capfd, tmp_path)
    assert asked == [4]
    assert "0/events.out.tfevents.2.x is no ordinary file" in done.err
    assert "too many" in done.err


def test_addresses_of_this_machine_are_accepted() -> None:
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        check_host(host)
    with pytest.raises(UserError):
        check_host("\0")


@pytest.mark.parametrize("answer", [b"no HTTP\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n<html>"])
def test_an_answer_without_a_list_of_runs_is_an_error(answer: bytes) -> None:
    """Another program listens at the address, or TensorBoard answers with an error page."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        listener.settimeout(10)
        thread = threading.Thread(target=reply, daemon=True)
        thread.start()
        with pytest.raises(UserError, match="TensorBoard does not answer at"):
            dashboard._wait_for(f"http://127.0.0.1:{listener.getsockname()[1]}/", 1)
        thread.join()
