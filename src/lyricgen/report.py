"""Compare many runs: python -m lyricgen.report [DIRECTORY …] [--where cell=lstm] [--by layers]."""

import argparse
import sys
from contextlib import nullcontext, redirect_stdout

from lyricgen.cli.command_line import Parser, run
from lyricgen.cli.report_options import add_options

# matplotlib takes a while, which --help need not wait for: it is imported where it is needed.


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    parser = Parser("report", "Compare runs and sweeps, over seeds.", checkpoint=False)
    add_options(parser)
    run(parser, _report, arguments)


def _report(options: argparse.Namespace) -> None:
    from lyricgen.console import show, show_json
    from lyricgen.files import to_json
    from lyricgen.reporting.formats import plain
    from lyricgen.reporting.output import REPORT, print_tables
    from lyricgen.reporting.sweep_report import report

    chosen = {name: getattr(options, name) for name in ("where", "by", "over", "metric", "out")}
    # with --json nothing else may stand on standard output
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        comparisons, out = report(options.directories, **chosen)
    if options.json:
        show_json(to_json([row for each in comparisons for row in plain(each)]))
        return
    print_tables(comparisons)
    show(f"report: {out / REPORT}.html")


if __name__ == "__main__":
    main()
