"""Print texts from a trained model: python -m lyricgen.generate [CHECKPOINT] [--prefix 分开]."""

import argparse
import sys

from lyricgen.command_line import Parser, run
from lyricgen.errors import UserError


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    run(_parser(), _generate, arguments)


def _generate(options: argparse.Namespace) -> None:
    # torch takes seconds, which --help need not wait for
    from lyricgen.model.checkpoint import load
    from lyricgen.model.trained_model import SWEEPS
    from lyricgen.runs import newest_checkpoint

    path = options.checkpoint or newest_checkpoint()
    model = load(path)
    _refuse_idle(options)
    if options.fill:
        texts = model.fill_many(
            options.fill,
            count=options.count,
            temperature=options.temperature,
            seed=options.seed,
            sweeps=SWEEPS if options.sweeps is None else options.sweeps,
            gap=options.gap,
        )
    else:
        texts = model.generate_many(
            options.prefix or [""],
            count=options.count,
            length=50 if options.length is None else options.length,
            temperature=options.temperature,
            seed=options.seed,
            generator=options.generator or "torch",
        )
    between = "\n\n" if any("\n" in text for text in texts) else "\n"
    print(between.join(texts))
    sys.stdout.flush()


def _refuse_idle(options: argparse.Namespace) -> None:
    """Refuse what would change nothing."""
    idle = ("length", "generator") if options.fill else ("sweeps", "gap")
    for name in idle:
        if getattr(options, name) is not None:
            there = "does not go with" if options.fill else "goes with"
            raise UserError(f"--{name} {there} --fill")


def _parser() -> Parser:
    parser = Parser("generate", "Print texts from a trained model.")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--prefix",
        action="append",
        metavar="TEXT",
        help="what the texts begin with; may be given several times",
    )
    asked.add_argument(
        "--fill",
        action="append",
        metavar="TEXT",
        help="a text whose gaps are to be filled, as in 分__天, by a model trained with "
        "objective=fill; may be given several times",
    )
    parser.add_argument("--length", type=int, help="new characters at most (default: 50)")
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
        "--generator",
        choices=("torch", "numpy_reseeded"),
        help="of the random numbers; numpy_reseeded repeats texts of course code letter for letter "
        "(default: torch)",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=1,
        help="texts for each of these (default: %(default)s)",
    )
    parser.add_argument(
        "--sweeps",
        type=int,
        help="how often --fill draws each gap anew (default: 20)",
    )
    parser.add_argument(
        "--gap", help="the character that marks a gap (default: _, where the texts do not have it)"
    )
    return parser


if __name__ == "__main__":
    main()
