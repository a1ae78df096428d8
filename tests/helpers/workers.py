"""Workers of a run, forked from a server that has done the slow imports."""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from lyricgen.training import worker
from lyricgen.training.ddp import launch
from tests.helpers.processes import fork_context, start_process


class ForkedWorker:
    """Replacement of `subprocess.Popen` that forks a worker instead of starting Python.

    The process of the worker calls `before` first.
    """

    def __init__(
        self,
        before: Callable[[], None],
        command: list[str],
        *,
        stderr: IO[bytes],
        env: dict[str, str],
        **others: object,
    ) -> None:
        assert command[1:] == ["-m", "lyricgen.training.worker"]
        assert others["stdin"] == subprocess.PIPE
        assert others["start_new_session"]
        reading, writing = fork_context().Pipe(duplex=False)
        errors = Connection(os.dup(stderr.fileno()), readable=False)
        self._process = start_process(
            _work, before, reading, errors, output=Path(os.devnull), environment=env
        )
        self.stdin = os.fdopen(os.dup(writing.fileno()), "wb")
        for end in (reading, writing, errors):
            end.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)

    def kill(self) -> None:
        self._process.kill()


def do_nothing() -> None:
    """Do nothing before a worker's start."""


def fork_workers(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None] = do_nothing) -> None:
    """Let runs of this process fork their workers, which call `before` first."""
    named = {name: getattr(subprocess, name) for name in ("PIPE", "DEVNULL", "TimeoutExpired")}
    monkeypatch.setattr(
        launch, "subprocess", SimpleNamespace(Popen=partial(ForkedWorker, before), **named)
    )


def _work(before: Callable[[], None], pipe: Connection, errors: Connection) -> None:
    os.setsid()
    os.dup2(pipe.fileno(), 0)
    os.dup2(errors.fileno(), 2)
    before()
    worker.main()
