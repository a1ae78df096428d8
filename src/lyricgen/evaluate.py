"""Look into a trained model: python -m lyricgen.evaluate [CHECKPOINT] --gates PNG --text TEXT."""

import argparse
from pathlib import Path

from lyricgen.command_line import Parser, run
from lyricgen.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    run(_parser(), _evaluate, arguments)


def _evaluate(options: argparse.Namespace) -> None:
    if options.gates is None:
        raise UserError("--gates PNG is needed, with --text TEXT: it draws the gates over a text")
    if options.text is None:
        raise UserError("--gates needs --text TEXT, characters for the model to read")
    _draw_gates(options.checkpoint, options.gates, options.text, options.layer)


def _draw_gates(checkpoint: Path | None, png: Path, text: str, layer: int) -> None:
    if png.suffix.lower() != ".png":
        raise UserError(f"--gates {str(png)!r}: give a name that ends in .png")
    if not png.parent.is_dir():
        raise UserError(f"--gates {str(png)!r}: there is no directory {str(png.parent)!r}")
    if png.is_dir():
        raise UserError(f"--gates {str(png)!r} is a directory: name a file")

    # torch and matplotlib take seconds, which --help need not wait for
    from lyricgen.files import replacing
    from lyricgen.gate_plot import draw
    from lyricgen.model.checkpoint import load
    from lyricgen.runs import newest_checkpoint

    path = checkpoint or newest_checkpoint()
    figure, missing = draw(load(path), text, layer)
    try:
        with replacing(png) as stream:
            figure.savefig(stream, format="png")
    except OSError as error:
        raise UserError(f"--gates {str(png)!r} cannot be written: {error.strerror}") from error
    if missing:
        print(
            f"no installed font has {len(missing)} of the characters: their code points are shown; "
            "install a font that has them (for Chinese: apt-get install fonts-noto-cjk)"
        )
    print(f"gates of {path}: {png}")


def _parser() -> Parser:
    parser = Parser("evaluate", "Look into a trained model.")
    parser.add_argument(
        "--gates",
        type=Path,
        metavar="PNG",
        help="draw the activations of a layer's gates and states over --text into this file",
    )
    parser.add_argument("--text", help="what the model reads, 500 characters at most")
    parser.add_argument(
        "--layer",
        type=int,
        default=1,
        metavar="N",
        help="whose gates; 1 is next to the input (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    main()
