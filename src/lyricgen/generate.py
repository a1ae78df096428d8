"""Print texts from a trained model: python -m lyricgen.generate [CHECKPOINT] [--prefix 分开]."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from lyricgen.console import prepare_streams
from lyricgen.errors import UserError, printable


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    prepare_streams()
    options = _parser().parse_args(arguments)
    try:
        _generate(options)
    except UserError as error:
        if options.debug:
            raise
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
    except KeyboardInterrupt:
        sys.exit(130)


def _generate(options: argparse.Namespace) -> None:
    from lyricgen.model.checkpoint import (
        load,
    )  # torch takes seconds, which --help need not wait for
    from lyricgen.runs import newest_checkpoint

    path = options.checkpoint or newest_checkpoint()
    model = load(path)
    prefixes = options.prefix or [""]
    texts = model.generate_many(
        prefixes,
        count=options.count,
        length=options.length,
        temperature=options.temperature,
        seed=options.seed,
    )
    between = "\n\n" if any("\n" in text for text in texts) else "\n"
    print(between.join(texts))
    sys.stdout.flush()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say it in one line."""
        self.exit(2, f"error: {printable(message)} (see --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m lyricgen.generate",
        description="Print texts from a trained model.",
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        help="a checkpoint or a run's directory; without it, the newest run's best one",
    )
    parser.add_argument(
        "--prefix",
        action="append",
        metavar="TEXT",
        help="what the texts begin with; may be given several times",
    )
    parser.add_argument(
        "--length", type=int, default=50, help="new characters at most (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        help="below 1 more probable, above 1 more varied, 0 always the most probable character "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the random numbers (default: %(default)s)"
    )
    parser.add_argument(
        "--count", type=int, default=1, help="texts for each prefix (default: %(default)s)"
    )
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser


if __name__ == "__main__":
    main()
