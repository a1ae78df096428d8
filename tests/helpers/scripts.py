"""Scripts in processes forked from a server that has done the slow imports."""

import os
import runpy
import subprocess
import sys
import traceback
from multiprocessing import current_process
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any

import quality
import scale
import sweep_speed

from tests.conftest import ROOT
from tests.helpers.processes import start_process


def benchmark(place: Path, *arguments: str) -> str:
    """Run `python scripts/benchmark.py` in a directory; return the text that it prints."""
    output = place / "printed.txt"
    process = start_process(_benchmark, place, arguments, output=output)
    process.join(900)
    text = output.read_text("utf-8")
    if process.exitcode is None:
        process.kill()
    assert process.exitcode == 0, text
    return text


def _benchmark(place: Path, arguments: tuple[str, ...]) -> None:
    os.chdir(place)
    for module in (quality, scale, sweep_speed):  # these modules start Python
        module.subprocess = SimpleNamespace(run=_run)  # type: ignore[attr-defined]
    _run_script([str(ROOT / "scripts" / "benchmark.py"), *arguments])


def _run_script(command: list[str]) -> None:
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__")
        return
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def _run(
    command: list[Any], *, env: dict[str, str], **others: object
) -> "subprocess.CompletedProcess[str]":
    """Replacement of `subprocess.run` that runs a script or a module without starting Python."""
    assert command[0] == sys.executable
    assert others["capture_output"]
    with TemporaryFile("w+", encoding="utf-8") as out, TemporaryFile("w+", encoding="utf-8") as err:
        process = os.fork()
        if not process:
            status = 1
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.environ.update(env)
                current_process().daemon = False  # so that it may start processes
                _run_script([str(word) for word in command[1:]])
                status = 0
            except BaseException:  # the process must end here
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        printed = []
        for stream in (out, err):
            stream.seek(0)
            printed.append(stream.read())
    done = subprocess.CompletedProcess(command, status, *printed)
    if others["check"]:
        done.check_returncode()
    return done
