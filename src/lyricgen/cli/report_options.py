"""The options of the report command."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options."""
    parser.add_argument(
        "directories",
        nargs="*",
        type=Path,
        metavar="DIRECTORY",
        help="sweeps, runs, or directories that hold them; without one, all outputs",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="only runs that have one of these values, as in cell=lstm,gru or status=failed; may "
        "be given several times",
    )
    parser.add_argument(
        "--by",
        type=_names,
        default=(),
        metavar="SETTINGS",
        help="group by these, as in cell,layers (default: those that vary)",
    )
    parser.add_argument(
        "--over",
        type=_names,
        default=("seed",),
        metavar="SETTINGS",
        help="average over these (default: seed)",
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="rank by this figure of summary.json, as in test/perplexity (default: the held-out "
        "perplexity)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIRECTORY",
        help="where the files go (default: report/ in the sweep, if that is all, else in outputs/; "
        "with --where, --by, --over or --metric a directory beside it, as report_by_cell/)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the rows with all their figures as JSON, and nothing else",
    )


def _names(typed: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in typed.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{typed!r}: give names of settings, as in cell,layers")
    return names
