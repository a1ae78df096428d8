"""Train from Python or in a notebook, exactly as the train command does."""

import gc
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from rich import get_console, reconfigure

from lyricgen.api.run import Run
from lyricgen.api.runs import Sweep
from lyricgen.cli.errors import Refusal
from lyricgen.cli.hydra_private import keep_callers_state, run_task
from lyricgen.cli.known_settings import POINTS, known_settings
from lyricgen.cli.typed_arguments import expand, read_options
from lyricgen.cli.typed_values import write_value
from lyricgen.console import NOTEBOOK, Notebook
from lyricgen.errors import UserError, in_one_line
from lyricgen.runs.directories import MULTIRUN
from lyricgen.runs.interruption import Interrupted, handle_signals
from lyricgen.runs.references import Reference, read_reference
from lyricgen.settings import CONFIG_DIRECTORY
from lyricgen.sweeps.sweep import UnfinishedJobsError
from lyricgen.sweeps.task import refuse_mendable, task
from lyricgen.threads import wait_passively

_ONE_AT_A_TIME = threading.Lock()  # Hydra and logging have one state a process

Grid = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def fit(*overrides: str | PathLike[str], **settings: Any) -> Run:
    """Train a run in this process, as `python -m lyricgen.train` does, and return it.

    >>> run = lyricgen.fit("cell=gru", data="dino", **{"optimizer.lr": 0.01})
    >>> run = lyricgen.fit("my_text.txt", layers=2, callbacks={"samples": {"count": 3}})

    Args:
        overrides: settings as on the command line, such as "cell=gru", and names of texts.
        settings: settings with Python values: None, numbers, texts, paths and lists; a dictionary
            holds settings of a group. They stand after the overrides.

    Raises:
        Error: a setting, the text or the directory cannot be used, or the training fails; the
            message is the line that the command prints. HYDRA_FULL_ERROR=1 gives the first error.
        KeyboardInterrupt: Ctrl-C, or the stop button of a notebook, has stopped the run at its next
            exact point; `resume("latest")` goes on.
    """
    directory = _train([*_check_texts(overrides), *write_settings(settings)], single=True)
    return Run(directory)


def fit_sweep(values: Grid | str, *overrides: str | PathLike[str], **settings: Any) -> Sweep:
    """Train a run for each combination of values, as `python -m lyricgen.train -m` does.

    >>> sweep = lyricgen.fit_sweep({"cell": ["rnn", "gru"], "seed": [1, 2]}, "data=dino")
    >>> sweep = lyricgen.fit_sweep([{"cell": "rnn"}, {"cell": "gru", "layers": 2}], seed=1)
    >>> sweep = lyricgen.fit_sweep("sweep=optuna", "hydra.sweeper.n_trials=5")

    Args:
        values: the values of each setting; or a list of combinations; or a first override, such as
            "sweep=optuna".
        overrides: settings of all jobs, as on the command line.
        settings: settings of all jobs with Python values, as for `fit`.

    Raises:
        Error: as for `fit`; or jobs have failed, and the message names them. `Sweep` opens the
            directory then, and `resume` tries these jobs again.
        KeyboardInterrupt: as for `fit`.
    """
    shared = [*_check_texts(overrides), *write_settings(settings)]
    if isinstance(values, str):
        arguments = [values, *shared]
    elif isinstance(values, Mapping):
        arguments = [*shared, *(_write_values(name, each) for name, each in values.items())]
    elif isinstance(values, Sequence) and values and all(isinstance(x, Mapping) for x in values):
        arguments = [*shared, *write_settings({POINTS: values})]
    else:
        raise UserError(f"{values!r}: give the values of a sweep as a dictionary or a list of them")
    return Sweep(_train(["--multirun", *arguments]))


def resume(path: Reference, *overrides: str | PathLike[str], **settings: Any) -> Run | Sweep:
    """Go on with a run or sweep, as `resume=` of the command does.

    >>> run = lyricgen.resume("latest", **{"trainer.max_epochs": 40})

    Args:
        path: directory, id or name of the run or sweep, or "latest"; or a `Run` or `Sweep`.
        overrides: changed settings, as on the command line.
        settings: changed settings with Python values, as for `fit`.

    Raises:
        Error: as for `fit`; or there is no such run.
        KeyboardInterrupt: as for `fit`.
    """
    arguments = [
        *_check_texts(overrides),
        *write_settings(settings | {"resume": read_reference(path)}),
    ]
    directory = _train(arguments)
    return Sweep(directory) if (directory / MULTIRUN).exists() else Run(directory)


def _check_texts(overrides: Sequence[str | PathLike[str]]) -> list[str]:
    for one in overrides:
        if not isinstance(one, str | PathLike):
            raise UserError(f"{one!r}: give each override as a text, such as 'cell=gru'")
    return [fspath(one) for one in overrides]


def write_settings(settings: Mapping[str, Any], above: str = "") -> list[str]:
    """Write settings with Python values as overrides; a dictionary holds settings of a group.

    Raises:
        UserError: a value is of another type than `fit` takes.
    """
    written = []
    for name, value in settings.items():
        full = f"{above}{name}"
        if isinstance(value, Mapping) and any(
            one.startswith(f"{full}.") for one in known_settings()
        ):
            written += write_settings(value, f"{full}.")
        else:
            written.append(f"{full}={write_value(_plain(full, value))}")
    return written


def _write_values(name: str, values: Any) -> str:
    """Write the values of a setting as a sweep over them."""
    each = list(values) if isinstance(values, list | tuple | range) else [values]
    if not each:
        raise UserError(f"{name}=[]: a sweep needs a value: give one, or leave {name} out")
    return f"{name}={','.join(write_value(_plain(name, value)) for value in each)}"


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if isinstance(value, Mapping):
        return {str(each): _plain(name, one) for each, one in value.items()}
    if hasattr(value, "item") and not getattr(value, "ndim", 0):  # a number of NumPy or torch
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = type(value).__name__
    raise UserError(
        f"{name}: a value of type {kind} fits no setting: give a number, text, path or list"
    )


def _train(arguments: list[str], *, single: bool = False) -> Path:
    """Train a run or sweep; return its directory.

    Args:
        arguments: arguments as on the command line.
        single: whether to refuse a sweep.
    """
    wait_passively()
    try:
        with (
            _ONE_AT_A_TIME,
            _keep_process(),
            handle_signals() as interruption,
            refuse_mendable(interruption),
        ):
            return _run(arguments, single=single)
    except Interrupted as stop:
        number = stop.number
    except Refusal as refusal:
        line = re.sub(r"type --multirun .*", "call lyricgen.fit_sweep", refusal.line)
        raise UserError(line) from None
    except SystemExit as stop:
        raise UserError(f"a library has ended the work (status {stop.code})") from None
    except UnfinishedJobsError as error:
        raise UserError(in_one_line(str(error))) from None
    if number != signal.SIGINT:
        signal.raise_signal(number)  # it meant the whole process
    raise KeyboardInterrupt


def _run(arguments: list[str], *, single: bool) -> Path:
    for one in arguments:
        if one.startswith("-") and one != "--multirun" and not one.startswith("--config-"):
            raise UserError(f"{one}: give settings and names of texts, and no option of a command")
        if one.lower() == "find_lr=true":
            raise UserError("find_lr=true trains no run: type it to python -m lyricgen.train")
    typed = expand(arguments)
    options = read_options(typed)
    if single and options.multirun:
        raise UserError("fit trains one run: for a sweep call fit_sweep; resume goes on with one")
    sys.argv = ["lyricgen.train", *typed]  # the command that the run records, also in jobs
    return run_task(task, options, CONFIG_DIRECTORY)


@contextmanager
def _keep_process() -> Iterator[None]:
    """Restore the state of the caller's process at the end of the block.

    Meanwhile the main module has no file, since the process of a job would run the caller's script
    again.
    """
    arguments, main, frozen = sys.argv, sys.modules["__main__"], gc.get_freeze_count()
    origin = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    with keep_callers_state(), _print_plainly():
        vars(main).pop("__file__", None)
        main.__spec__ = None
        try:
            yield
        finally:
            sys.argv = arguments
            vars(main).update(origin)
            if not frozen:
                gc.unfreeze()  # a job has frozen the caller's objects


@contextmanager
def _print_plainly() -> Iterator[None]:
    """Print plain lines in a notebook, and progress bars in a place of their own.

    Otherwise rich would make an element of the page of each line. Elsewhere nothing is changed.
    """
    console = get_console()
    before = vars(console).copy()
    if console.is_jupyter:
        reconfigure(**NOTEBOOK)
        Notebook.display = sys.modules["IPython"].display.display
    try:
        yield
    finally:
        Notebook.display = Notebook.place = None
        vars(console).clear()
        vars(console).update(before)
