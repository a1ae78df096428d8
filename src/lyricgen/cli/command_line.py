"""Command lines without Hydra: parsing, one-line errors, exit statuses and output files."""

import argparse
import logging
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from lyricgen.console import (
    ConsoleHandler,
    output_problem,
    prepare_streams,
    reader_may_leave,
    refuse,
    tell,
)
from lyricgen.errors import UserError, as_option, did_you_mean, in_one_line, path_problem
from lyricgen.files import replace_file
from lyricgen.threads import wait_passively

LARGEST_INTEGER = 10**6  # largest whole number that an option takes

# Options of a memory, for models that were trained without one.
MEMORY_OPTIONS = {
    "--memory": "let the model look back at what it has read in the same text; the memory is "
    "fitted on the validation split of its text, which is read again",
    "--memory-scope {split,document,line}": "what --memory remembers: the whole text, the document "
    "(up to an empty line), or the line (default: split)",
    "--memory-size N": "characters that --memory looks back at most (default: 1000000)",
}
MEMORY_NAMES = tuple(name.partition(" ")[0][2:].replace("-", "_") for name in MEMORY_OPTIONS)

# Forms of a command: the options that a form needs, and the other options that go with them. One
# form needs no option.
Forms = Mapping[tuple[str, ...], tuple[str, ...]]


class Parser(argparse.ArgumentParser):
    """Parser of a command's options, of --debug, and of the path of a checkpoint.

    All paths go into the list `checkpoints`. If the argument `checkpoint` is false, the parser
    takes no path. `known` contains the names of all options.
    """

    def __init__(self, command: str, description: str, *, checkpoint: bool = True) -> None:
        self.known: list[str] = []
        prog = command if " " in command else f"python -m lyricgen.{command}"
        super().__init__(prog=prog, description=description)
        if checkpoint:
            self.add_argument(
                "checkpoints",
                nargs="*",
                type=Path,
                metavar="CHECKPOINT",
                help="a checkpoint, a model file or a run's directory; without it, the best "
                "checkpoint of the newest run that has one",
            )
            self.add_argument(
                "--run",
                nargs="+",
                metavar="RUN",
                help="in place of CHECKPOINT: the id or name of a run (lyricgen runs lists them), "
                "its path, or latest; several runs are several checkpoints",
            )
            self.add_argument(
                "--best",
                nargs="*",
                metavar="SETTING=VALUE",
                help="in place of CHECKPOINT: the run with the best held-out perplexity of all, or "
                "of those with these settings, such as data=dino cell=gru; they must have one text",
            )
        self.add_argument("--debug", action="store_true", help="show where an error comes from")

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add an argument outside groups; see argparse."""
        self.known += [name for name in names if name.startswith("-")]
        return super().add_argument(*names, **options)

    def add_runs(self) -> None:
        """Add the directories of runs, and the conditions that runs must fulfil."""
        self.add_argument(
            "directories",
            nargs="*",
            type=Path,
            metavar="DIRECTORY",
            help="sweeps, runs, or directories of these; without it, all outputs",
        )
        self.add_argument(
            "--where",
            action="append",
            metavar="SETTING=VALUE",
            help="take only runs with one of these values, such as cell=lstm,gru, status=failed or "
            "tag=paper; may be given several times",
        )

    def add_options(
        self,
        options: Mapping[str, str],
        types: Mapping[str, Callable[[str], Any]],
        title: str | None = None,
        description: str | None = None,
    ) -> None:
        """Add options without defaults: an option that was not given is None.

        Args:
            options: help text of each option, by the option as --help shows it: "--flag",
                "--name VALUE", "--name VALUE …" or "--name {one,other}". An alias stands last, as
                in "--name, --alias VALUE".
            types: functions that convert values, by the last name of an option or by the name of
                its value. A value without a function stays a text.
            title: title of the options as a group; None for no group.
            description: description of the group.
        """
        types = {**types, "--memory-size": number_from(1, 2**31 - 1)}
        group = self.add_argument_group(title, description) if title else None
        add = super().add_argument if group is None else group.add_argument
        for shown, meaning in options.items():
            *first, last = shown.split(", ")
            name, _, value = last.partition(" ")
            kind = value.removesuffix(" …")
            reading: dict[str, Any] = {"type": types.get(name, types.get(kind, str))}
            reading |= {"metavar": kind, "nargs": None if kind == value else "+"}
            if value.startswith("{"):
                reading = {"choices": value.strip("{}").split(",")}
            elif not value:
                reading = {"action": "store_true", "default": None}
            add(*first, name, help=meaning, **reading)
            self.known += [*first, name]

    def error(self, message: str) -> NoReturn:
        """End the command with one line on standard error and status 2."""
        shown = in_one_line(with_suggestions(message, self.known))
        self.exit(2, f"error: {shown} (see --help)\n")


def choose_memory(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return the options of a memory by their names in conf/memory; None without --memory.

    Raises:
        UserError: an option of a memory is given without --memory.
    """
    given = {name: getattr(options, name) for name in MEMORY_NAMES[1:]}
    for name, value in given.items():
        if value is not None and not options.memory:
            raise UserError(f"{as_option(name)} needs --memory")
    return (
        {name.partition("_")[2]: value for name, value in given.items()} if options.memory else None
    )


def check_forms(options: argparse.Namespace, forms: Forms) -> None:
    """Check that all options that are not None belong to one form.

    Raises:
        UserError: options do not go together, or an option lacks another that it needs.
    """
    whole = {needed: {*needed, *more} for needed, more in forms.items()}
    names = set().union(*whole.values())
    given = [name for name, value in vars(options).items() if value is not None and name in names]
    fitting = [needed for needed in forms if whole[needed].issuperset(given)]
    if not fitting:
        conflict = next(
            pair
            for pair in combinations(given, 2)
            if not any(form.issuperset(pair) for form in whole.values())
        )
        raise UserError(f"{_list_options(conflict)} do not go together: leave one of them out")
    missing = min(([name for name in needed if name not in given] for needed in fitting), key=len)
    if missing:
        reached = max((needed for needed in forms if set(needed).issubset(given)), key=len)
        lacking = as_option(next(name for name in given if name not in whole[reached]))
        needs = _list_options(missing)
        raise UserError(f"{lacking} needs {needs}: give {needs} as well, or leave {lacking} out")


def _list_options(names: Sequence[str]) -> str:
    *first, last = map(as_option, names)
    return f"{', '.join(first)} and {last}" if first else last


def number_from(least: int, most: float = LARGEST_INTEGER) -> Callable[[str], int]:
    """Make a function for argparse that reads a whole number from `least` to `most`.

    `least` must not be negative.
    """

    def number(value: str) -> int:
        if not value.isdecimal() or not least <= int(value) <= most:
            end = f" to {most}" if most < math.inf else ""
            raise argparse.ArgumentTypeError(f"{value!r}: give a whole number from {least}{end}")
        return int(value)

    return number


def amount(value: str) -> float:
    """Read a number that is finite and not negative.

    Raises:
        argparse.ArgumentTypeError: the text is not such a number.
    """
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r}: give a number from 0")
    return number


def with_suggestions(message: str, known: Iterable[str]) -> str:
    """Add near names to a parser's message about an unknown option or choice, not to others.

    `known` holds the names of all options; the message itself lists the choices.
    """
    unknown = re.match(r"unrecognized arguments: .*?(-[^\s=]*)", message)
    if unknown:
        return message + did_you_mean(unknown[1], known)
    choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
    return message + (did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2])) if choice else "")


def run(
    parser: Parser, work: Callable[[argparse.Namespace], None], arguments: list[str] | None
) -> None:
    """Run a command; an error that the user can mend prints one line and gives status 2.

    Ctrl-C gives status 130. The command ends quietly if the reader of its output has left. Other
    errors are raised; with --debug, all errors of the work are raised.

    Args:
        parser: parser of the command.
        work: function that does the command's work with the parsed arguments.
        arguments: arguments as typed; None for the arguments of the process.
    """
    prepare_streams()
    wait_passively()
    with reader_may_leave():
        options = parser.parse_args(arguments)
        try:
            with _show_messages():
                _resolve_runs(options)
                work(options)
            sys.stdout.flush()
        except UserError as error:
            if options.debug:
                raise
            refuse(_with_options_as_typed(str(error), options))
        except BrokenPipeError:
            raise
        except Exception as error:
            problem = path_problem(error) or output_problem(error)
            if options.debug or problem is None:
                raise
            refuse(problem)
        except KeyboardInterrupt:
            sys.exit(130)


def _resolve_runs(options: argparse.Namespace) -> None:
    """Replace --run or --best by checkpoints."""
    if getattr(options, "run", None) is not None or getattr(options, "best", None) is not None:
        from lyricgen.cli.named_runs import resolve_models  # noqa: PLC0415  heavy; seldom needed

        resolve_models(options)


@contextmanager
def _show_messages() -> Iterator[None]:
    """Show log messages on standard error until the block ends."""
    handler, log = ConsoleHandler(tell), logging.getLogger("lyricgen")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def _with_options_as_typed(message: str, options: argparse.Namespace) -> str:
    """Replace each name=value in a message by --name value, if the user typed this option."""

    def translate(found: re.Match[str]) -> str:
        name, shown = found[1], found[2]
        value = getattr(options, name, "")
        given = {str(value)} | ({f"{value:g}"} if isinstance(value, int | float) else set())
        return f"{as_option(name)} {shown}" if shown in given - {"None"} else found[0]

    return re.sub(r"(?<![\w.'\"-])([a-z_]+)=([\w.+-]*\w)", translate, message)


def check_output(option: str, path: Path, suffix: str) -> None:
    """Check, before any work, that an output file could be written.

    Raises:
        UserError: the suffix is wrong, the directory does not exist, or the path is a directory.
    """
    if path.suffix.lower() != suffix:
        raise UserError(f"{option} {str(path)!r}: give a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise UserError(f"{option} {str(path)!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise UserError(f"{option} {str(path)!r} is a directory: name a file")


@contextmanager
def open_output(option: str, path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; the file gets its name when it is complete.

    Raises:
        UserError: the file cannot be written, or the block raises an OSError; an earlier file
            stays.
    """
    try:
        with replace_file(path, follow_link=True) as stream:
            yield stream
    except OSError as error:
        raise UserError(f"{option} {str(path)!r} cannot be written: {error.strerror}") from error
