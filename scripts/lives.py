"""Lives of a command, up to its end or its death; used by chaos.py.

Each life is a fork of this process with all modules loaded.
"""

import math
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from lyricgen import train

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # which a run can handle
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir")
LIFE_LIMIT = 120  # seconds; a life that takes longer hangs
HUNG = 1000  # exit status given to a life that hangs


def live(
    arguments: list[str],
    output: Path,
    cause: str = "",
    moment: float = 0.0,
    drawn: random.Random | None = None,
    main: Callable[[], None] = train.main,
) -> int:
    """Run the command in a fork of this process.

    Args:
        arguments: arguments of the command.
        output: file for the output of the command.
        cause: cause of death: "SIGKILL", "signal" (a signal that the run can handle), "file"
            (killed at an access to one of its files), or "" for a life without death.
        moment: time of death, in seconds after the start; for "file", number of accesses.
        drawn: generator that draws the signal.
        main: the command.

    Returns:
        The exit status, negative for a signal; HUNG if the process did not end in time.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    number = drawn.choice(SIGNALS) if cause == "signal" and drawn else signal.SIGKILL
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    process = os.fork()
    if process == 0:
        _be_born(arguments, output, int(moment) if cause == "file" else None, main)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    deadline = time.monotonic() + (moment if cause in ("SIGKILL", "signal") else math.inf)
    limit = time.monotonic() + LIFE_LIMIT
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return HUNG
        if time.monotonic() > deadline:
            os.kill(process, number)
            deadline = math.inf
        time.sleep(0.002)


def _be_born(
    arguments: list[str], output: Path, touches: int | None, main: Callable[[], None]
) -> NoReturn:
    """Run the command in the forked process, and exit."""
    status = 1
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the command does until it can answer
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.argv = ["lyricgen", *arguments]
        if touches is not None:
            _die_at_touch(touches, str(output.parent / "run"))
        main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _die_at_touch(touches: int, directory: str) -> None:
    """Kill this process after a number of accesses to files of its run."""
    left = touches

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in FILE_EVENTS and str(arguments[0]).startswith(directory):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
