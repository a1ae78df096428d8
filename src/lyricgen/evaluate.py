"""Evaluate trained models: python -m lyricgen.evaluate [CHECKPOINT …]; look into one: --heat."""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lyricgen.cli.command_line import Parser, run
from lyricgen.cli.output_file import check_output, writing
from lyricgen.console import show, show_json
from lyricgen.errors import UserError
from lyricgen.evaluation.options import ALL, add_options, tasks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lyricgen.evaluation.own_text import TextArgument

# torch and matplotlib take seconds, which --help need not wait for: they are imported where they
# are needed.


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    parser = Parser("evaluate", "Evaluate trained models, or look into one.", several=True)
    add_options(parser)
    run(parser, _evaluate, arguments)


def _evaluate(options: argparse.Namespace) -> None:
    tasks = tasks_of(options)
    for name, suffix in (("png", ".png"), ("heat", ".html"), ("gates", ".png")):
        path = getattr(options, name)
        if path is not None:
            check_output(f"--{name}", path, suffix)
            if name in tasks and len(options.checkpoints) > 1:
                raise UserError(f"--{name} shows one model's: name one checkpoint")
    # with --json nothing else may stand on standard output
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        from lyricgen.evaluation.own_text import read_text_argument
        from lyricgen.files import to_json
        from lyricgen.runs.newest import newest_checkpoint

        text = None
        if options.text is not None:
            text = read_text_argument(options.text, options.encoding)
        paths = options.checkpoints or [newest_checkpoint()]
        plain = [TASKS[task](options, paths, text) for task in tasks]
    if options.json:
        show_json(to_json(plain[0]))


def _score_parts(options: argparse.Namespace, paths: list[Path], _: object) -> dict[str, Any]:
    from lyricgen.evaluation.checkpoints import open_checkpoints
    from lyricgen.evaluation.curves import curves
    from lyricgen.evaluation.scores import score_parts
    from lyricgen.evaluation.tables import plain_scores, print_scores

    evaluated = open_checkpoints(paths)
    parts = list(evaluated[0].parts) if options.part is None else [options.part]
    evaluated[0].check_part(parts[0])
    if options.curves and evaluated[0].model.fills_gaps:
        raise UserError(
            "--curves asks what the characters before are worth, and this model sees both sides: "
            "leave it out"
        )
    scores = score_parts(evaluated, parts, resamples=options.resamples, seed=options.seed)
    found = curves(scores) if options.curves else None
    if not options.json:
        print_scores(scores, found)
    if options.png is not None:
        from lyricgen.evaluation.plots import draw_scores

        _save(options, "png", "figures", draw_scores(scores, found))
    return plain_scores(scores, found)


def _score_text(
    options: argparse.Namespace, paths: list[Path], text: "TextArgument"
) -> dict[str, Any]:
    from lyricgen.evaluation.checkpoints import load_checkpoints
    from lyricgen.evaluation.own_text import score_text
    from lyricgen.evaluation.tables import plain_text_figures, print_text_figures

    numbers = {"resamples": options.resamples, "seed": options.seed}
    found = score_text(load_checkpoints(paths), text, options.unknown, **numbers)
    if not options.json:
        print_text_figures(found, text, options.resamples)
    return plain_text_figures(found, text, **numbers)


def _measure_memorisation(
    options: argparse.Namespace, paths: list[Path], _: object
) -> dict[str, Any]:
    from lyricgen.evaluation.checkpoints import open_checkpoints
    from lyricgen.evaluation.memorisation import measure_checkpoint
    from lyricgen.evaluation.tables import plain_memorisation, print_memorisation

    numbers = (options.count, options.temperature, options.seed)
    found = [(each, measure_checkpoint(each, *numbers)) for each in open_checkpoints(paths)]
    if not options.json:
        for each, memorisation in found:
            print_memorisation(each, memorisation)
    if options.png is not None:
        from lyricgen.evaluation.plots import draw_memorisation

        _save(options, "png", "memorisation", draw_memorisation(found))
    return plain_memorisation(found)


def _write_heat(
    options: argparse.Namespace, paths: list[Path], text: "TextArgument | None"
) -> None:
    from lyricgen.evaluation.checkpoints import load_checkpoints, open_checkpoints
    from lyricgen.evaluation.heat_page import beginning_of_part, beginning_of_text, heat_page

    if text is None:
        [evaluated] = open_checkpoints(paths)
        model = evaluated.model
        read, source = beginning_of_part(evaluated, options.part, options.heat_chars)
    else:
        model = load_checkpoints(paths)[0].model
        read, source = beginning_of_text(model, text, options.unknown, options.heat_chars)
    page = heat_page(model, read, str(paths[0]), source)
    _save(options, "heat", f"surprisal of {source}, by {paths[0]}", page)


def _draw_gates(options: argparse.Namespace, paths: list[Path], text: "TextArgument") -> None:
    from lyricgen.evaluation.checkpoints import load_checkpoints
    from lyricgen.evaluation.gate_plot import draw, notes
    from lyricgen.evaluation.own_text import replace_controls

    [checkpoint] = load_checkpoints(paths)
    # a file ends with a newline, which a model of lines reads no text after
    read = text.text if text.file is None else text.text.removesuffix("\n")
    # control characters that are left are refused as unknown ones
    read, _ = replace_controls(read, text.name, checkpoint.model)
    units = None if options.units == ALL else options.units
    figure, missing = draw(checkpoint.model, read, options.layer, units)
    if missing:
        show(
            f"no installed font has {len(missing)} of the characters: their code points are shown; "
            "install a font that has them (for Chinese: apt-get install fonts-noto-cjk)"
        )
    for line in notes(checkpoint.model, units):
        show(line)
    _save(options, "gates", f"gates of {paths[0]} over {text.name}", figure)


def _save(options: argparse.Namespace, name: str, title: str, content: "str | Figure") -> None:
    """Write a page or a plot to the file that an option names, and say so."""
    path = getattr(options, name)
    with writing(f"--{name}", path) as stream:
        if isinstance(content, str):
            stream.write(content.encode())
        else:
            content.savefig(stream, format="png")
    if not options.json:
        show(f"{title}: {path}")


TASKS: dict[str, Callable[..., dict[str, Any] | None]] = {
    "figures": _score_parts,
    "text": _score_text,
    "memorisation": _measure_memorisation,
    "heat": _write_heat,
    "gates": _draw_gates,
}


if __name__ == "__main__":
    main()
