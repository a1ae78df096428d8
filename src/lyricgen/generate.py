"""Print texts from a trained model: python -m lyricgen.generate [CHECKPOINT …] [--prefix 分开]."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lyricgen.cli.command_line import (
    MEMORY_NAMES,
    MEMORY_OPTIONS,
    Parser,
    check_forms,
    choose_memory,
    run,
)
from lyricgen.errors import UserError

if TYPE_CHECKING:
    from lyricgen.generation.texts import GeneratedText
    from lyricgen.models.trained_model import TrainedModel

T = TypeVar("T")

# options that only this module reads
OWN_OPTIONS = (
    *("checkpoints", "run", "best", "debug", "prefix", "fill", "format", "watch", "compare"),
    *("member", "mixture", *MEMORY_NAMES),
)

# Options as --help shows them, and their meanings.
INPUTS = {
    "--prefix": "beginning of the texts; may be given several times",
    "--fill": "fill the gaps of this text, such as 分__天, with a model trained with "
    "objective=fill; may be given several times",
}
GENERAL = {
    "--length N": "most new characters (default: 50; for single lines and documents, as many as "
    "the longest of training needs; with --lines or --acrostic, 50 a line; with --max-length, or "
    "with --lines and --line-length, as many as these need)",
    "--stop TEXT": "end each text before the first TEXT that the model writes",
    "--count N": "texts for each prefix or --fill (default: 1; with --beams all that it finds)",
    "--seed N": "seed of the random numbers (default: 1)",
    "--generator {torch,numpy_reseeded}": "source of the random numbers; numpy_reseeded repeats "
    "texts of course code letter for letter (default: torch)",
}
MODEL = {
    "--member {whole,network,ngram}": "of a run with model=hybrid: the network mixed with the "
    "n-grams, the network alone, or the n-grams alone (default: whole)",
    "--mixture": "of a run with model=recurrent: its network mixed with the best n-grams, as "
    "in the table at the end of the run; reads the training text again",
}
STRATEGY = {
    "--temperature T": "below 1 the text is more probable, above 1 more varied; 0 always takes the "
    "most probable character (default: 0.8)",
    "--top-k K": "draw from the K most probable characters",
    "--top-p P": "draw from the most probable characters that together have probability P",
    "--min-p P": "draw from the characters with at least P times the largest probability",
    "--repetition-penalty R": "above 1, characters that the text already has are less probable",
    "--no-repeat-ngram N": "no N characters in a row occur twice in a text, unless the form of the "
    "text leaves nothing else",
    "--beams N": "search for the most probable text, N at a time, and print the N best (or "
    "--count) with their scores",
    "--length-penalty A": "of --beams: 0 for none; larger numbers favour longer texts (default: "
    "0.6)",
}
CONTROL = {
    "--lines N": "write N lines, the prefix included",
    "--line-length K": "every line has K characters: letters, punctuation and, in scripts with "
    "spaces between words, spaces; in other scripts, and where newlines became spaces, lines have "
    "no spaces; without --lines, --length cuts the last line off",
    "--acrostic TEXT": "a line for each character of TEXT, which starts with this character",
    "--rhyme": "for Chinese: the last characters of all lines rhyme by their pinyin and differ; "
    "with --line-length; needs pip install 'lyricgen[rhyme]'",
    "--ban SET": "never write these characters, as between the brackets of a regular expression: "
    "a-z",
    "--only SET": "write only these characters, in the same form: 一-龥",
    "--starts-with TEXT": "for names and documents: their beginning, as part of the drawn name",
    "--max-length N": "for names and documents: at most N characters, then the name ends",
    "--novel": "for names and documents: only complete ones that the training split does not have, "
    "none twice",
}
FILLING = {
    "--sweeps N": "number of times that each gap is drawn (default: 20)",
    "--gap CHARACTER": "character that marks a gap (default: _, unless the corpus contains it)",
}
OUTPUT = {
    "--format {text,jsonl}": "jsonl: one object a line with prefix, text, strategy, seed, "
    "log_probability (nats), perplexity; with --beams score; for lines and documents ended "
    "(false: cut off); "
    "with --compare checkpoint (default: text)",
    "--watch": "show a text, character by character, as it is written",
    "--compare CHECKPOINT …": "show texts of several checkpoints side by side",
}
NUMBERS = {"N": int, "K": int, "T": float, "P": float, "R": float, "A": float}
TYPES: dict[str, Callable[[str], Any]] = {**NUMBERS, "CHECKPOINT": Path}  # other values stay texts

# Options of texts that are drawn or searched.
TEXT_OPTIONS = (
    *("prefix", "length", "count", "repetition_penalty", "no_repeat_ngram", "lines"),
    *("line_length", "acrostic", "rhyme", "ban", "only", "starts_with", "max_length", "format"),
    *("member", "mixture", *MEMORY_NAMES),
)
DRAW_OPTIONS = ("temperature", "top_k", "top_p", "min_p", "seed", "generator")
# Forms of the command: the options that a form needs, and the other options that go with them.
FORMS = {
    (): (*TEXT_OPTIONS, *DRAW_OPTIONS, "stop", "novel", "compare"),
    ("beams",): (*TEXT_OPTIONS, "length_penalty", "novel", "compare"),
    ("watch",): (*TEXT_OPTIONS, *DRAW_OPTIONS),
    ("fill",): ("count", "temperature", "seed", "sweeps", "gap", "compare"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend prints one line and gives status 2."""
    run(create_parser(), _generate, arguments)


def create_parser() -> Parser:
    """Create the parser of the command's arguments, with its options in groups."""
    parser = Parser(
        "generate",
        "Print texts from a trained model, or from several as one (an ensemble).",
    )
    for name, meaning in INPUTS.items():
        parser.add_argument(name, action="append", metavar="TEXT", help=meaning)
    parser.add_options(GENERAL, TYPES)
    parser.add_options(MODEL | MEMORY_OPTIONS, TYPES, "model", "choose what writes")
    parser.add_options(STRATEGY, TYPES, "strategy", "choose the characters")
    parser.add_options(CONTROL, TYPES, "control", "choose the form of texts")
    parser.add_options(FILLING, TYPES, "with --fill")
    parser.add_options(OUTPUT, TYPES, "output")
    return parser


def _generate(options: argparse.Namespace) -> None:
    _check_options(options)
    # torch takes seconds, which --help need not wait for
    from lyricgen.generation.ensembles import join_models
    from lyricgen.generation.output import headings, print_columns, print_json, print_texts
    from lyricgen.models.checkpoint import load
    from lyricgen.runs.newest import newest_checkpoint

    named = [*options.checkpoints, *(options.compare or [])]
    paths: list[Path] = named or [newest_checkpoint()]
    loaded = [load(path) for path in paths]
    if len(options.checkpoints) > 1:
        loaded, paths = [join_models(loaded)], paths[:1]
    models = _with_each(_choose_part, loaded, paths, options)
    if options.watch:
        _watch_text(models[0], options)
    elif options.format == "jsonl":
        described = _with_each(_describe_texts, models, paths, options)
        print_json(described, paths if options.compare else None)
    elif options.compare:
        print_columns(headings(paths, models), _with_each(_write_texts, models, paths, options))
    else:
        print_texts(_write_texts(models[0], options))


def _with_each(
    write: Callable[["TrainedModel", argparse.Namespace], T],
    models: list["TrainedModel"],
    paths: list[Path],
    options: argparse.Namespace,
) -> list[T]:
    """Call a function with each model; with --compare, an error names the checkpoint."""
    written = []
    for model, path in zip(models, paths, strict=True):
        try:
            written.append(write(model, options))
        except UserError as error:
            raise UserError(f"{path}: {error}" if options.compare else str(error)) from error
    return written


def _choose_part(model: "TrainedModel", options: argparse.Namespace) -> "TrainedModel":
    from lyricgen.generation.remembering import remember
    from lyricgen.generation.training_text import final_mixture

    part = final_mixture(model) if options.mixture else model.member(options.member or "whole")
    memory = choose_memory(options)
    return part if memory is None else remember(part, memory)


def _describe_texts(model: "TrainedModel", options: argparse.Namespace) -> list["GeneratedText"]:
    from lyricgen.generation.texts import generate

    return generate(model, options.prefix or [""], **_library_options(options))


def _write_texts(model: "TrainedModel", options: argparse.Namespace) -> list[str]:
    from lyricgen.generation.filling import fill_texts
    from lyricgen.generation.output import mark_cut, with_score
    from lyricgen.generation.texts import continue_prefixes

    if options.fill:
        return fill_texts(model, options.fill, **_library_options(options))
    if options.beams:
        return [with_score(one) for one in _describe_texts(model, options)]
    written, _ = continue_prefixes(model, options.prefix or [""], **_library_options(options))
    return [mark_cut(one.text, one.ended) for one in written]


def _watch_text(model: "TrainedModel", options: argparse.Namespace) -> None:
    from lyricgen.generation.output import Stream
    from lyricgen.generation.texts import continue_prefixes

    prefixes = options.prefix or [""]
    stream = Stream(model.normalise(prefixes[0]))
    try:
        [one], _ = continue_prefixes(model, prefixes, watch=stream, **_library_options(options))
        stream.mark(one.ended)
    finally:
        stream.end()


def _library_options(options: argparse.Namespace) -> dict[str, Any]:
    """Select the given options that the library reads; the library has the defaults."""
    every = vars(options).items()
    return {name: value for name, value in every if value is not None and name not in OWN_OPTIONS}


def _check_options(options: argparse.Namespace) -> None:
    """Raise a UserError for options that exclude each other, or whose values do."""
    check_forms(options, FORMS)
    choose_memory(options)
    if options.watch and options.format == "jsonl":
        raise UserError("--watch shows a text itself: leave --format jsonl out")
    if options.watch and (len(options.prefix or [""]) > 1 or (options.count or 1) > 1):
        raise UserError("--watch shows one text as it is written: ask for one prefix, --count 1")
    if options.mixture and options.member:
        raise UserError("--mixture and --member do not go together: leave one of them out")
    if options.compare and len(options.compare) + len(options.checkpoints) < 2:
        raise UserError("--compare needs two checkpoints or more")
    single = [name for name in ("fill", "member", "mixture", "compare") if getattr(options, name)]
    if len(options.checkpoints) > 1 and single:
        raise UserError(
            f"several checkpoints write as one model, and --{single[0]} is for single models: "
            "leave it out, or name one checkpoint before the options"
        )


if __name__ == "__main__":
    main()
