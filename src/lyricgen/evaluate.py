"""Judge trained models: python -m lyricgen.evaluate [CHECKPOINT …]; or look into one: --gates."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lyricgen.command_line import Parser, run
from lyricgen.errors import UserError

if TYPE_CHECKING:
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
    elif options.json:
        with redirect_stdout(sys.stderr):  # all but the figures
            text = _json(_figures(options))
        print(text, end="")
    else:
        _show(_figures(options))
    sys.stdout.flush()


def _figures(options: argparse.Namespace) -> "Figures":
    if options.png is not None:
        _check_png("--png", options.png)
    # torch takes seconds, which --help need not wait for
    from lyricgen.evaluation.checkpoints import open_checkpoints
    from lyricgen.evaluation.figures import figures
    from lyricgen.runs import newest_checkpoint

    evaluated = open_checkpoints(options.checkpoints or [newest_checkpoint()])
    parts = tuple(evaluated[0].data.parts)
    if options.part is not None:
        if options.part not in parts:
            raise UserError(f"--part {options.part}: the text has no such part, choose {parts}")
        parts = (options.part,)
    return figures(evaluated, parts, resamples=options.resamples, seed=options.seed)


def _json(found: "Figures") -> str:
    from lyricgen.evaluation.report import plain
    from lyricgen.files import to_json

    return to_json(plain(found))


def _show(found: "Figures") -> None:
    from lyricgen.console import put_whole
    from lyricgen.evaluation.report import checkpoint_table, comparison_table

    put_whole(checkpoint_table(found))
    for part in found.parts:
        if len(found.parts[part]) > 1 and part != "train":
            put_whole(comparison_table(found, part))


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
