"""Processes forked from a server that has done the slow imports.

A test of the start of the interpreter, or of a signal at its start, starts a new Python instead.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

IMPORTED = ["lyricgen.training.main", "tests.conftest"]


def fork_context() -> ForkServerContext:
    """Context whose processes are forked from a server with the imports done."""
    context = get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def start_process(
    function: Callable[..., object],
    *arguments: Any,
    output: Path,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start a process that calls a function of a module in the current directory.

    Args:
        function: function that the process calls.
        arguments: arguments of the function; they are pickled.
        output: file of its standard output and standard error.
        environment: variables in addition to those of this process.

    Returns:
        The process.
    """
    variables = {**os.environ, **(environment or {})}
    call = (Path.cwd(), variables, output, function, arguments)
    process = fork_context().Process(target=_call, args=call, daemon=True)
    process.start()
    return process


def _call(
    directory: Path,
    variables: dict[str, str],
    output: Path,
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    with output.open("w", encoding="utf-8", buffering=1) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if "OMP_NUM_THREADS" in variables:  # torch read it in the server
        torch.set_num_threads(int(variables["OMP_NUM_THREADS"]))
    function(*arguments)


def train_with_avx2(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Train in a process of its own, on one thread, with the instructions of any CPU with AVX2."""
    command = [sys.executable, "-m", "lyricgen.train", *options]
    variables = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        command, cwd=directory, env=variables, capture_output=True, text=True, check=False
    )
