"""Judge trained models: python -m lyricgen.evaluate [CHECKPOINT …]; or look into one: --gates."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lyricgen.command_line import Parser, run
from lyricgen.errors import UserError

if TYPE_CHECKING:
    from lyricgen.evaluation.curves import Curves
    from lyricgen.evaluation.figures import Figures

PARTS = ("train", "val", "test")
MOST = 10**6  # resamples, or a seed


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    run(_parser(), _evaluate, arguments)


def _evaluate(options: argparse.Namespace) -> None:
    if options.gates is not None:
        _draw_gates(options)
    elif options.text is not None:
        raise UserError("--text TEXT goes with --gates PNG: it draws the gates over a text")
    else:
        _judge(options)


def _judge(options: argparse.Namespace) -> None:
    if options.png is not None:
        _check_png("--png", options.png)
    # torch and matplotlib take seconds, which --help need not wait for
    from lyricgen.evaluation.report import print_tables, to_plain
    from lyricgen.files import to_json

    # with --json nothing else may stand on standard output
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        found, drawn = _measure(options)
        if not options.json:
            print_tables(found, drawn)
        if options.png is not None:
            from lyricgen.evaluation.picture import draw

            with _writing("--png", options.png) as stream:
                draw(found, drawn).savefig(stream, format="png")
            print(f"figures: {options.png}")
    if options.json:
        print(to_json(to_plain(found, drawn)), end="")
    sys.stdout.flush()


def _measure(options: argparse.Namespace) -> "tuple[Figures, Curves | None]":
    from lyricgen.evaluation.checkpoints import open_checkpoints
    from lyricgen.evaluation.curves import check_curves, curves
    from lyricgen.evaluation.figures import figures
    from lyricgen.runs import newest_checkpoint

    evaluated = open_checkpoints(options.checkpoints or [newest_checkpoint()])
    parts = list(evaluated[0].data.parts)
    if options.part is not None and options.part not in parts:
        raise UserError(f"--part {options.part}: the text has only {' and '.join(parts)}")
    if options.curves:
        check_curves(evaluated)
    parts = parts if options.part is None else [options.part]
    found = figures(evaluated, parts, resamples=options.resamples, seed=options.seed)
    return found, curves(found) if options.curves else None


def _draw_gates(options: argparse.Namespace) -> None:
    _check_png("--gates", options.gates)
    if options.text is None:
        raise UserError("--gates needs --text TEXT, characters for the model to read")
    if len(options.checkpoints) > 1:
        raise UserError("--gates draws one model's: name one checkpoint")

    # torch and matplotlib take seconds, which --help need not wait for
    from lyricgen.gate_plot import draw
    from lyricgen.model.checkpoint import load
    from lyricgen.runs import newest_checkpoint

    path = options.checkpoints[0] if options.checkpoints else newest_checkpoint()
    figure, missing = draw(load(path), options.text, options.layer)
    with _writing("--gates", options.gates) as stream:
        figure.savefig(stream, format="png")
    if missing:
        print(
            f"no installed font has {len(missing)} of the characters: their code points are shown; "
            "install a font that has them (for Chinese: apt-get install fonts-noto-cjk)"
        )
    print(f"gates of {path}: {options.gates}")


def _check_png(option: str, path: Path) -> None:
    """Refuse, before any work, a picture that could not be written."""
    if path.suffix.lower() != ".png":
        raise UserError(f"{option} {str(path)!r}: give a name that ends in .png")
    if not path.parent.is_dir():
        raise UserError(f"{option} {str(path)!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise UserError(f"{option} {str(path)!r} is a directory: name a file")


@contextmanager
def _writing(option: str, path: Path) -> Iterator[BinaryIO]:
    from lyricgen.files import replacing

    try:
        with replacing(path) as stream:
            yield stream
    except OSError as error:
        raise UserError(f"{option} {str(path)!r} cannot be written: {error.strerror}") from error


def _from(least: int) -> Callable[[str], int]:
    def number(typed: str) -> int:
        if not typed.isdecimal() or not least <= int(typed) <= MOST:
            raise argparse.ArgumentTypeError(f"{typed!r}: give a number from {least} to {MOST}")
        return int(typed)

    return number


def _parser() -> Parser:
    parser = Parser("evaluate", "Judge trained models, or look into one.", several=True)
    judged = parser.add_argument_group("figures")
    judged.add_argument(
        "--curves",
        action="store_true",
        help="also perplexity by position, by length of the context and by frequency of characters",
    )
    judged.add_argument("--json", action="store_true", help="print them as JSON, and nothing else")
    judged.add_argument(
        "--part", choices=PARTS, help="of this part of the text alone (default: of all)"
    )
    judged.add_argument(
        "--resamples",
        type=_from(100),
        default=1000,
        metavar="N",
        help="texts drawn for each 95 %% interval (default: %(default)s)",
    )
    judged.add_argument(
        "--seed", type=_from(0), default=1, help="of what is drawn (default: %(default)s)"
    )
    judged.add_argument("--png", type=Path, metavar="PNG", help="draw them into this file as well")
    gates = parser.add_argument_group("gates")
    gates.add_argument(
        "--gates",
        type=Path,
        metavar="PNG",
        help="draw the activations of a layer's gates and states over --text into this file",
    )
    gates.add_argument("--text", help="what the model reads, 500 characters at most")
    gates.add_argument(
        "--layer",
        type=int,
        default=1,
        metavar="N",
        help="whose gates; 1 is next to the input (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    main()
