"""The options of the generate command; none has a default, so that it is known which were given."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all options, in groups."""
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
    parser.add_argument(
        "--length",
        type=int,
        metavar="N",
        help="new characters at most (default: 50; for single lines what the longest training line "
        "needs; with --lines or --acrostic 50 a line; with --max-length, or --lines and "
        "--line-length, what these need)",
    )
    parser.add_argument(
        "--count",
        type=int,
        metavar="N",
        help="texts for each prefix or --fill (default: 1; with --beams all that it finds)",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the random numbers (default: 1)")
    parser.add_argument(
        "--generator",
        choices=("torch", "numpy_reseeded"),
        help="of the random numbers; numpy_reseeded repeats texts of course code letter for letter "
        "(default: torch)",
    )
    _add_strategy(parser.add_argument_group("strategy", "how characters are chosen"))
    _add_control(parser.add_argument_group("control", "what texts must be like"))
    filling = parser.add_argument_group("with --fill")
    filling.add_argument(
        "--sweeps", type=int, metavar="N", help="how often each gap is drawn anew (default: 20)"
    )
    filling.add_argument(
        "--gap",
        metavar="CHARACTER",
        help="what marks a gap (default: _, where the texts do not have it)",
    )
    _add_output(parser.add_argument_group("output"))


def _add_strategy(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="below 1 more probable, above 1 more varied, 0 always the most probable character "
        "(default: 0.8)",
    )
    group.add_argument(
        "--top-k", type=int, metavar="K", help="draw from the K most probable characters"
    )
    group.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the most probable characters that together have probability P",
    )
    group.add_argument(
        "--min-p",
        type=float,
        metavar="P",
        help="draw from the characters that have P times the largest probability, or more",
    )
    group.add_argument(
        "--repetition-penalty",
        type=float,
        metavar="R",
        help="above 1 makes what the text has already less probable",
    )
    group.add_argument(
        "--no-repeat-ngram",
        type=int,
        metavar="N",
        help="no N characters in a row occur twice in a text, unless the control wants them",
    )
    group.add_argument(
        "--beams",
        type=int,
        metavar="N",
        help="search for the most probable text, N at a time, and print the N best (or --count) "
        "with their scores",
    )
    group.add_argument(
        "--length-penalty",
        type=float,
        metavar="A",
        help="of --beams: 0 for none, larger ones favour longer texts (default: 0.6)",
    )


def _add_control(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--lines", type=int, metavar="N", help="write N lines, the prefix included")
    group.add_argument(
        "--line-length",
        type=int,
        metavar="K",
        help="every line has K characters: letters, punctuation and, in scripts with spaces "
        "between words, the spaces within it; in others, and where newlines became spaces, it has "
        "none; without --lines the last one is cut off at --length",
    )
    group.add_argument(
        "--acrostic", metavar="TEXT", help="a line for each character of TEXT, beginning with it"
    )
    group.add_argument(
        "--rhyme",
        action="store_true",
        default=None,
        help="for Chinese: the last characters of all lines rhyme by their pinyin and differ; with "
        "--line-length; needs pip install 'lyricgen[rhyme]'",
    )
    group.add_argument(
        "--ban",
        metavar="SET",
        help="never write these characters, as between the brackets of a regular expression: a-z",
    )
    group.add_argument("--only", metavar="SET", help="write only these, likewise: 一-龥")
    group.add_argument(
        "--starts-with", metavar="TEXT", help="for names: what they begin with, as part of them"
    )
    group.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="for names: their characters at most; every name ends",
    )
    group.add_argument(
        "--novel",
        action="store_true",
        default=None,
        help="for names: whole ones, none that the model was trained on, and none twice",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format",
        choices=("text", "jsonl"),
        help="jsonl: an object a line with prefix, text, strategy, seed, log_probability (nats), "
        "perplexity, with --beams score, of lines ended (false: cut off), with --compare "
        "checkpoint (default: text)",
    )
    group.add_argument(
        "--watch",
        action="store_true",
        default=None,
        help="show a text character by character as it is written",
    )
    group.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="CHECKPOINT",
        help="show texts of several checkpoints side by side",
    )
