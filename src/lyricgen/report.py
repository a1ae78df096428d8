"""Compare many runs: python -m lyricgen.report [DIRECTORY …] [--where cell=lstm] [--by layers]."""

import argparse
import gc
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from lyricgen.cli.command_line import Parser, run

OPTIONS = {
    "--by SETTINGS": "group by these settings, such as cell,layers (default: the settings that "
    "vary)",
    "--over SETTINGS": "average over these settings (default: seed)",
    "--metric NAME": "rank by this figure of summary.json, such as test/perplexity (default: the "
    "held-out perplexity)",
    "--out DIRECTORY": "write the files here (default: report/ in the sweep, if only that was "
    "read, else in outputs/; with --where, --by, --over or --metric a directory beside it, such as "
    "report_by_cell/)",
    "--json": "print the rows with all digits as JSON and nothing else",
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend prints one line and gives status 2."""
    run(create_parser(), _report, arguments)


def create_parser() -> Parser:
    """Create the parser of the command's arguments."""
    parser = Parser("report", "Compare runs and sweeps, over seeds.", checkpoint=False)
    parser.add_runs()
    parser.add_options(OPTIONS, {"SETTINGS": _names, "DIRECTORY": Path})
    return parser


def _names(typed: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in typed.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{typed!r}: give names of settings, as in cell,layers")
    return names


def _report(options: argparse.Namespace) -> None:
    # matplotlib and pandas take a while to import, and --help does not need them. Imports leave no
    # garbage, so a collection meanwhile would waste time.
    gc.disable()
    from lyricgen.console import show_json
    from lyricgen.files import to_json
    from lyricgen.reporting.sweep_report import print_report, report
    from lyricgen.reporting.tables import plain

    gc.freeze()
    gc.enable()
    values = {name: getattr(options, name) for name in ("where", "by", "over", "metric", "out")}
    given = {name: value for name, value in values.items() if value is not None}
    # with --json nothing else may stand on standard output
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        comparisons, out = report(options.directories, **given)
    if options.json:
        show_json(to_json([row for each in comparisons for row in plain(each)]))
    else:
        print_report(comparisons, out)


if __name__ == "__main__":
    main()
