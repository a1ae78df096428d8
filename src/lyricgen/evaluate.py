"""Evaluate trained models: python -m lyricgen.evaluate [CHECKPOINT …]; look into one: --heat."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lyricgen.cli.command_line import Parser, run
from lyricgen.console import show, show_json
from lyricgen.errors import UserError
from lyricgen.evaluation.options import ALL, add_options, asked
from lyricgen.files import replacing

if TYPE_CHECKING:
    from lyricgen.evaluation.curves import Curves
    from lyricgen.evaluation.figures import Figures

# torch and matplotlib take seconds, which --help need not wait for: they are imported where they
# are needed.


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    parser = Parser("evaluate", "Evaluate trained models, or look into one.", several=True)
    add_options(parser)
    run(parser, _evaluate, arguments)


def _evaluate(options: argparse.Namespace) -> None:
    modes = asked(options)
    # with --json nothing else may stand on standard output
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        plain: dict[str, Any] = {}
        for mode in modes:
            plain |= MODES[mode](options) or {}
    if options.json:
        from lyricgen.files import to_json

        show_json(to_json(plain))


def _show_figures(options: argparse.Namespace) -> dict[str, Any]:
    _check(options, "png", ".png")
    from lyricgen.evaluate import writing
    from lyricgen.evaluation.report import print_tables, to_plain

    found, drawn = _measure(options)
    if not options.json:
        print_tables(found, drawn)
    if options.png is not None:
        from lyricgen.evaluation.picture import draw

        with writing("--png", options.png) as stream:
            draw(found, drawn).savefig(stream, format="png")
        if not options.json:
            show(f"figures: {options.png}")
    return to_plain(found, drawn)


def _measure(options: argparse.Namespace) -> "tuple[Figures, Curves | None]":
    from lyricgen.evaluation.checkpoints import open_checkpoints
    from lyricgen.evaluation.curves import check_curves, curves
    from lyricgen.evaluation.figures import figures

    evaluated = open_checkpoints(_paths(options))
    parts = list(evaluated[0].parts)
    if options.part is not None:
        evaluated[0].check_part(options.part)
    if options.curves:
        check_curves(evaluated)
    parts = parts if options.part is None else [options.part]
    found = figures(evaluated, parts, resamples=options.resamples, seed=options.seed)
    return found, curves(found) if options.curves else None


def _score_text(options: argparse.Namespace) -> dict[str, Any]:
    from lyricgen.evaluation.own_text import read_text_argument
    from lyricgen.evaluation.text_report import score_text, text_table, to_plain
    from lyricgen.stacking import put_whole

    text = read_text_argument(options.text, options.encoding)
    numbers = (options.resamples, options.seed)
    found = score_text(_paths(options), text, options.unknown, *numbers)
    if not options.json:
        put_whole(text_table(found, text, options.resamples))
    return to_plain(found, text, *numbers)


def _show_memorisation(options: argparse.Namespace) -> dict[str, Any]:
    _check(options, "png", ".png")
    from lyricgen.evaluate import writing
    from lyricgen.evaluation.checkpoints import open_checkpoints
    from lyricgen.evaluation.memorisation_report import measure_checkpoint, tables, to_plain
    from lyricgen.stacking import put_whole

    evaluated = open_checkpoints(_paths(options))
    found = [
        measure_checkpoint(each, options.count, options.temperature, options.seed)
        for each in evaluated
    ]
    if not options.json:
        for each in found:
            for table in tables(each):
                put_whole(table)
    if options.png is not None:
        from lyricgen.evaluation.memorisation_picture import draw

        with writing("--png", options.png) as stream:
            draw(found).savefig(stream, format="png")
        if not options.json:
            show(f"memorisation: {options.png}")
    return to_plain(found)


def _write_heat(options: argparse.Namespace) -> None:
    _check(options, "heat", ".html")
    from lyricgen.evaluate import writing
    from lyricgen.evaluation.heat_page import heat_page
    from lyricgen.evaluation.heat_source import from_argument, from_part
    from lyricgen.evaluation.own_text import read_text_argument

    path = _path(options, "--heat")
    if options.text is None:
        from lyricgen.evaluation.checkpoints import open_checkpoints

        source = from_part(open_checkpoints([path])[0], options.part, options.heat_chars)
    else:
        text = read_text_argument(options.text, options.encoding)
        source = from_argument(path, text, options.unknown, options.heat_chars)
    page = heat_page(source.model, source.text, str(path), source.told)
    with writing("--heat", options.heat) as stream:
        stream.write(page.encode())
    show(f"surprisal of {source.told}, by {path}: {options.heat}")


def _draw_gates(options: argparse.Namespace) -> None:
    _check(options, "gates", ".png")
    if options.text is None:
        raise UserError("--gates needs --text TEXT, characters for the model to read")
    from lyricgen.evaluate import writing
    from lyricgen.evaluation.gate_plot import draw, notes
    from lyricgen.evaluation.own_text import read_text_argument, replace_controls
    from lyricgen.models.files.checkpoint import load

    path, text = _path(options, "--gates"), read_text_argument(options.text, options.encoding)
    # a file ends with a newline, which a model of lines reads no text after
    read = text.text if text.file is None else text.text.removesuffix("\n")
    model = load(path)
    read, _ = replace_controls(read, text.name, model)  # what is left is told as unknown
    units = None if options.units == ALL else options.units
    figure, missing = draw(model, read, options.layer, units)
    with writing("--gates", options.gates) as stream:
        figure.savefig(stream, format="png")
    if missing:
        show(
            f"no installed font has {len(missing)} of the characters: their code points are shown; "
            "install a font that has them (for Chinese: apt-get install fonts-noto-cjk)"
        )
    for line in notes(model, units):
        show(line)
    show(f"gates of {path} over {text.name}: {options.gates}")


def _check(options: argparse.Namespace, name: str, suffix: str) -> None:
    """Refuse a file to write that could not be, before anything slow is imported."""
    path = getattr(options, name)
    if path is not None:
        from lyricgen.evaluate import check_output

        check_output(f"--{name}", path, suffix)


def _paths(options: argparse.Namespace) -> list[Path]:
    from lyricgen.runs.newest import newest_checkpoint

    if not options.checkpoints:
        options.checkpoints = [newest_checkpoint()]  # found and told once, whatever is asked for
    paths: list[Path] = options.checkpoints
    return paths


def _path(options: argparse.Namespace, option: str) -> Path:
    if len(options.checkpoints) > 1:
        raise UserError(f"{option} shows one model's: name one checkpoint")
    return _paths(options)[0]


MODES = {
    "figures": _show_figures,
    "text": _score_text,
    "memorisation": _show_memorisation,
    "heat": _write_heat,
    "gates": _draw_gates,
}


def check_output(option: str, path: Path, suffix: str) -> None:
    """Refuse, before any work, a file that could not be written.

    Raises:
        UserError: another suffix, no directory for it, or itself one.
    """
    if path.suffix.lower() != suffix:
        raise UserError(f"{option} {str(path)!r}: give a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise UserError(f"{option} {str(path)!r}: there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise UserError(f"{option} {str(path)!r} is a directory: name a file")


@contextmanager
def writing(option: str, path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes its name when it is whole.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with replacing(path, follow_link=True) as stream:
            yield stream
    except OSError as error:
        raise UserError(f"{option} {str(path)!r} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
