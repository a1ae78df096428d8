"""Compare many runs: python -m lyricgen.report [DIRECTORY …] [--where cell=lstm] [--by layers]."""

import argparse
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from lyricgen.cli.command_line import Parser, run

# matplotlib takes a while, which --help need not wait for: it is imported where it is needed.


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend prints one line and gives status 2."""
    parser = Parser("report", "Compare runs and sweeps, over seeds.", checkpoint=False)
    add_options(parser)
    run(parser, _report, arguments)


def _report(options: argparse.Namespace) -> None:
    from lyricgen.console import show_json
    from lyricgen.files import to_json
    from lyricgen.reporting.sweep_report import print_report, report
    from lyricgen.reporting.tables import plain

    chosen = {name: getattr(options, name) for name in ("where", "by", "over", "metric", "out")}
    # with --json nothing else may stand on standard output
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        comparisons, out = report(options.directories, **chosen)
    if options.json:
        show_json(to_json([row for each in comparisons for row in plain(each)]))
        return
    print_report(comparisons, out)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options."""
    parser.add_argument(
        "directories",
        nargs="*",
        type=Path,
        metavar="DIRECTORY",
        help="sweeps, runs, or directories of these; without it, all outputs",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="take only runs with one of these values, such as cell=lstm,gru or status=failed; "
        "may be given several times",
    )
    parser.add_argument(
        "--by",
        type=_names,
        default=(),
        metavar="SETTINGS",
        help="group by these settings, such as cell,layers (default: the settings that vary)",
    )
    parser.add_argument(
        "--over",
        type=_names,
        default=("seed",),
        metavar="SETTINGS",
        help="average over these settings (default: seed)",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="rank by this figure of summary.json, such as test/perplexity (default: the held-out "
        "perplexity)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIRECTORY",
        help="write the files here (default: report/ in the sweep, if only that was read, else in "
        "outputs/; with --where, --by, --over or --metric a directory beside it, such as "
        "report_by_cell/)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the rows with all digits as JSON and nothing else",
    )


def _names(typed: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in typed.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{typed!r}: give names of settings, as in cell,layers")
    return names


if __name__ == "__main__":
    main()
