"""Evaluate trained models: python -m lyricgen.evaluate [CHECKPOINT …]."""

import math
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lyricgen.cli.command_line import (
    LARGEST_INTEGER,
    Parser,
    amount,
    check_forms,
    check_output,
    choose_memory,
    number_from,
    open_output,
    run,
)
from lyricgen.cli.evaluation_options import DEFAULTS, FORMS, OPTIONS
from lyricgen.console import show, show_generated, show_json
from lyricgen.errors import UserError, as_option

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lyricgen.evaluation.own_text import TextArgument


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend prints one line and gives status 2."""
    run(create_parser(), _evaluate, arguments)


def create_parser() -> Parser:
    """Create the parser of the command's arguments."""
    parser = Parser("evaluate", "Evaluate trained models, or look into one.")
    types: dict[str, Callable[[str], Any]] = {
        **{"N": number_from(1), "T": amount, "HTML": Path, "PNG": Path},
        **{"--resamples": number_from(100), "--heat-chars": number_from(2), "--layer": int},
        "--seed": number_from(0, math.inf),
        "--units": lambda value: LARGEST_INTEGER if value == "all" else number_from(1)(value),
    }
    for title, options in OPTIONS.items():
        shown = {name: meaning.format(**DEFAULTS) for name, meaning in options.items()}
        parser.add_options(shown, types, title)
    return parser


def _evaluate(options: Namespace) -> None:
    check_forms(options, FORMS)
    known = ("memorisation", "heat", "gates", "lines")
    tasks = [name for name in known if getattr(options, name) is not None]
    tasks = tasks or ["figures" if options.text is None else "text"]
    missing = {name for name in DEFAULTS if getattr(options, name) is None}
    vars(options).update({name: DEFAULTS[name] for name in missing}, recall=choose_memory(options))
    for name, suffix in (("png", ".png"), ("heat", ".html"), ("gates", ".png")):
        path = getattr(options, name)
        if path is not None:
            check_output(f"--{name}", path, suffix)
            if name in tasks and len(options.checkpoints) > 1:
                raise UserError(f"--{name} shows one model: name one checkpoint")
    # torch and matplotlib take seconds, which --help need not wait for
    from lyricgen.cli.text_arguments import read_text_argument, translate_options
    from lyricgen.files import to_json
    from lyricgen.runs.newest import newest_checkpoint

    # with --json, --csv or --jsonl nothing else may stand on standard output
    plain = options.json or options.csv or options.jsonl
    with redirect_stdout(sys.stderr) if plain else nullcontext():
        text = None if options.text is None else read_text_argument(options.text, options.encoding)
        paths = options.checkpoints or [newest_checkpoint()]
        with nullcontext() if text is None else translate_options():
            found = [TASKS[task](options, paths, text) for task in tasks]
    if options.json:
        show_json(to_json(found[0]))
    elif plain:
        (show_generated if options.csv else show_json)(found[0])


def _score_splits(options: Namespace, paths: list[Path], _: object) -> dict[str, Any]:
    from lyricgen.evaluation.compressors import compress_splits
    from lyricgen.evaluation.curves import curves
    from lyricgen.evaluation.dynamic import score_dynamically
    from lyricgen.evaluation.ensembles import join_checkpoints
    from lyricgen.evaluation.scores import check_left_to_right, open_checkpoints, score_splits
    from lyricgen.evaluation.tables import plain_scores, print_scores
    from lyricgen.evaluation.with_memory import score_with_memory, separate_with_memory

    evaluated = open_checkpoints(paths)
    splits = evaluated[0].choose_splits(options.split)
    if options.curves:
        check_left_to_right("--curves", evaluated[0])
    further = [compress_splits(evaluated[0], splits)] if options.compressors else []
    if options.together:
        evaluated.append(join_checkpoints(evaluated))
    numbers = {"resamples": options.resamples, "seed": options.seed}
    fixed, remembering = separate_with_memory(evaluated, options.recall)
    if options.dynamic:
        further.insert(0, score_dynamically(fixed, remembering, splits, **numbers))
    with_memory = score_with_memory(remembering, splits, further, **numbers)
    scores = score_splits(fixed, splits, **numbers)
    found = curves(scores) if options.curves else None
    if not options.json:
        print_scores(scores, found, with_memory)
    if options.png is not None:
        from lyricgen.evaluation.plots import plot_scores

        _save_plot(options, "png", "figures", plot_scores(scores, found, with_memory))
    return plain_scores(scores, found, with_memory)


def _score_text(options: Namespace, paths: list[Path], text: "TextArgument") -> dict[str, Any]:
    from lyricgen.evaluation.own_text import score_text
    from lyricgen.evaluation.scores import load_checkpoints
    from lyricgen.evaluation.tables import plain_text_figures, print_text_figures

    numbers = {"resamples": options.resamples, "seed": options.seed}
    loaded = load_checkpoints(paths, options.recall, together=bool(options.together))
    found = score_text(loaded, text, options.unknown, **numbers)
    if not options.json:
        print_text_figures(found, text, options.resamples)
    return plain_text_figures(found, text, **numbers)


def _score_lines(options: Namespace, paths: list[Path], _: object) -> str | None:
    from lyricgen.cli.text_arguments import read_lines
    from lyricgen.evaluation.line_scores import (
        lines_as_csv,
        lines_as_json,
        print_lines,
        score_lines,
    )
    from lyricgen.evaluation.scores import load_checkpoints

    lines = read_lines(options.lines, options.encoding)
    loaded = load_checkpoints(paths, options.recall, together=bool(options.together))
    found = score_lines(loaded, lines)
    if options.csv or options.jsonl:
        return (lines_as_csv if options.csv else lines_as_json)(found)
    print_lines(found, options.lines)
    return None


def _measure_memorisation(options: Namespace, paths: list[Path], _: object) -> dict[str, Any]:
    from lyricgen.evaluation.memorisation import measure
    from lyricgen.evaluation.memorisation_tables import plain_memorisation, print_memorisation
    from lyricgen.evaluation.scores import open_checkpoints

    numbers = {name: getattr(options, name) for name in ("count", "temperature", "seed")}
    opened = open_checkpoints(paths, options.recall)
    found = [(each, measure(each.model, each.splits, **numbers)) for each in opened]
    if not options.json:
        print_memorisation(found)
    if options.png is not None:
        from lyricgen.evaluation.plots import plot_memorisation

        _save_plot(options, "png", "memorisation", plot_memorisation(found))
    return plain_memorisation(found)


def _write_heat(options: Namespace, paths: list[Path], text: "TextArgument | None") -> None:
    from lyricgen.evaluation.heat_page import beginning_of_split, beginning_of_text, heat_page
    from lyricgen.evaluation.scores import load_checkpoints, open_checkpoints

    if text is None:
        [evaluated] = open_checkpoints(paths, options.recall)
        model = evaluated.model
        read, source = beginning_of_split(evaluated, options.split, options.heat_chars)
    else:
        model = load_checkpoints(paths, options.recall)[0].model
        read, source = beginning_of_text(model, text, options.unknown, options.heat_chars)
    page = heat_page(model, read, str(paths[0]), source).encode()
    _save(options, "heat", f"surprisal of {source}, by {paths[0]}", page)


def _plot_gates(options: Namespace, paths: list[Path], text: "TextArgument") -> None:
    from lyricgen.evaluation.gate_plot import notes, plot_gates
    from lyricgen.evaluation.own_text import text_for_gates
    from lyricgen.evaluation.scores import load_checkpoints

    model = load_checkpoints(paths)[0].model
    figure, missing = plot_gates(model, text_for_gates(text, model), options.layer, options.units)
    for line in notes(model, options.units, missing):
        show(line)
    _save_plot(options, "gates", f"gates of {paths[0]} over {text.name}", figure)


def _save_plot(options: Namespace, name: str, title: str, figure: "Figure") -> None:
    stream = BytesIO()
    figure.savefig(stream, format="png")
    _save(options, name, title, stream.getvalue())


def _save(options: Namespace, name: str, title: str, content: bytes) -> None:
    """Write a file to the path that the option `name` gives.

    Without --json, print the title and the path.
    """
    path = getattr(options, name)
    with open_output(as_option(name), path) as stream:
        stream.write(content)
    if not options.json:
        show(f"{title}: {path}")


TASKS: dict[str, Callable[..., Any]] = {
    "figures": _score_splits,
    "text": _score_text,
    "lines": _score_lines,
    "memorisation": _measure_memorisation,
    "heat": _write_heat,
    "gates": _plot_gates,
}


if __name__ == "__main__":
    main()
