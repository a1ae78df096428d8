"""List, show, compare, annotate and remove runs: lyricgen runs [DIRECTORY …] [--where cell=gru]."""

import argparse
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lyricgen.cli.command_line import Parser, run
from lyricgen.console import show, show_json
from lyricgen.errors import UserError, did_you_mean
from lyricgen.files import to_json

if TYPE_CHECKING:
    from lyricgen.reporting.records import Record

# Actions, with their purposes.
ACTIONS = {
    "show": "Show a run: settings that differ from the defaults, figures, files, samples.",
    "diff": "Show the settings and figures in which two runs differ.",
    "note": "Give a run or sweep a note; an empty text removes it.",
    "tag": "Give a run or sweep tags, which --where tag=TAG finds.",
    "rm": "Move runs and sweeps into .trash/ in the outputs directory.",
}
RUN = "the id, name or path of a run, or latest"


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend prints one line and gives status 2."""
    typed = sys.argv[1:] if arguments is None else arguments
    action = typed[0] if typed and typed[0] in ACTIONS else ""
    works: dict[str, Callable[[argparse.Namespace], None]] = {
        "": _list,
        "show": _show,
        "diff": _show_differences,
        "note": _write_note,
        "tag": _write_tags,
        "rm": _remove,
    }
    run(create_parser(action), works[action], typed[1:] if action else typed)


def create_parser(action: str = "") -> Parser:
    """Create the parser of an action; without an action, the parser of the list of runs."""
    if not action:
        lines = (f"lyricgen runs {name}: {purpose}" for name, purpose in ACTIONS.items())
        parser = Parser("lyricgen runs", "List runs. " + " ".join(lines), checkpoint=False)
        parser.add_runs()
        jobs = {
            "--jobs": "list the jobs of sweeps, too",
            "--json": "print the rows as JSON and nothing else",
        }
        parser.add_options(jobs, {})
        return parser
    parser = Parser(f"lyricgen runs {action}", ACTIONS[action], checkpoint=False)
    if action == "rm":
        parser.add_argument("runs", nargs="+", metavar="RUN", help=RUN)
        parser.add_options({"--yes": "do not ask"}, {})
        return parser
    parser.add_argument("one", metavar="RUN", help=RUN)
    if action == "diff":
        parser.add_argument("other", metavar="OTHER", help="another run")
    elif action == "note":
        parser.add_argument("text", metavar="TEXT", help="the note; quote it")
    elif action == "tag":
        parser.add_argument("tags", nargs="+", metavar="TAG", help="letters, digits and _.-")
        parser.add_options({"--remove": "remove these tags"}, {})
    return parser


def _list(options: argparse.Namespace) -> None:
    for directory in options.directories:
        if not directory.is_dir():
            meant = did_you_mean(str(directory), ACTIONS)
            raise UserError(
                f"{str(directory)!r} is no directory, nor one of {', '.join(ACTIONS)}{meant}"
            )
    from lyricgen.reporting.run_list import list_rows, print_rows

    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        rows = list_rows(options.directories, options.where or [], jobs=bool(options.jobs))
    if options.json:
        show_json(to_json(rows))
    else:
        print_rows(rows)


def _read(reference: str) -> tuple[dict[str, Any], "Record | None"]:
    """Read the row and the record of a run, sweep or job."""
    from lyricgen.reporting.run_list import read_run
    from lyricgen.runs.references import find_directory

    return read_run(find_directory(reference))


def _show(options: argparse.Namespace) -> None:
    from lyricgen.cli.recorded_settings import default_settings
    from lyricgen.reporting.run_list import print_run

    row, record = _read(options.one)
    print_run(row, record, {} if record is None else default_settings(record.summary.unfilled))


def _show_differences(options: argparse.Namespace) -> None:
    from lyricgen.reporting.run_list import print_differences

    found = []
    for reference in (options.one, options.other):
        row, record = _read(reference)
        if record is None:
            raise UserError(f"{row['directory']!r} is a sweep or damaged: name two runs or jobs")
        found.append(record)
    print_differences(*found)


def _write_note(options: argparse.Namespace) -> None:
    from lyricgen.runs.notes import read_notes, write_notes

    directory = Path(_read(options.one)[0]["directory"])
    note = " ".join(options.text.split())
    write_notes(directory, replace(read_notes(directory), note=note))
    show(f"{directory}: {f'note {note!r}' if note else 'no note'}")


def _write_tags(options: argparse.Namespace) -> None:
    from lyricgen.runs.notes import read_notes, write_notes

    directory = Path(_read(options.one)[0]["directory"])
    notes = read_notes(directory)
    for tag in options.tags:
        if not re.fullmatch(r"[\w.-]+", tag):
            raise UserError(f"tag {tag!r}: give one word of letters, digits and _.-")
        if options.remove and tag not in notes.tags:
            raise UserError(f"{str(directory)!r} has no tag {tag}{did_you_mean(tag, notes.tags)}")
    kept = [tag for tag in notes.tags if not options.remove or tag not in options.tags]
    tags = tuple(dict.fromkeys([*kept, *([] if options.remove else options.tags)]))
    write_notes(directory, replace(notes, tags=tags))
    show(f"{directory}: {'tags ' + ', '.join(tags) if tags else 'no tags'}")


def _remove(options: argparse.Namespace) -> None:
    from lyricgen.runs.references import find_directory
    from lyricgen.runs.trash import check_removable, move_to_trash

    directories = list(dict.fromkeys(find_directory(reference) for reference in options.runs))
    for directory in directories:
        check_removable(directory)
    if not options.yes:
        if not sys.stdin.isatty():
            raise UserError("rm asks before it removes runs: add --yes where it cannot ask")
        for directory in directories:
            show(str(directory))
        if input("move to the trash? [y/N] ").strip().lower() not in ("y", "yes"):
            show("nothing is removed")
            return
    for directory in directories:
        target = move_to_trash(directory)
        back = shlex.join(["mv", str(target), str(directory)])
        show(f"{directory} is in the trash; to bring it back: {back}")


if __name__ == "__main__":
    main()
