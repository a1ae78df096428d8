"""Print texts from a trained model: python -m lyricgen.generate [CHECKPOINT] [--prefix 分开]."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lyricgen.cli.command_line import Parser, run
from lyricgen.cli.generate_options import add_options
from lyricgen.errors import UserError

if TYPE_CHECKING:
    from lyricgen.generation.texts import Generated
    from lyricgen.models.trained_model import TrainedModel

T = TypeVar("T")

FILLING = ("temperature", "seed", "count", "sweeps", "gap", "compare")  # what goes with --fill
HERE = ("checkpoint", "debug", "prefix", "format", "watch", "compare")  # what this module reads


def main(arguments: list[str] | None = None) -> None:
    """Run the command; what the user can mend is one line and exit status 2."""
    parser = Parser("generate", "Print texts from a trained model.")
    add_options(parser)
    run(parser, _generate, arguments)


def _generate(options: argparse.Namespace) -> None:
    _refuse_idle(options)
    # torch takes seconds, which --help need not wait for
    from lyricgen.generation.output import headings, print_columns, print_json, print_texts
    from lyricgen.models.files.checkpoint import load
    from lyricgen.runs.newest import newest_checkpoint

    named = [path for path in (options.checkpoint, *(options.compare or [])) if path is not None]
    paths: list[Path] = named or [newest_checkpoint()]
    models = [load(path) for path in paths]
    if options.watch:
        _watch(models[0], options)
    elif options.format == "jsonl":
        described = _of_each(_described, models, paths, options)
        print_json(described, paths if options.compare else None)
    elif options.compare:
        print_columns(headings(paths, models), _of_each(_texts, models, paths, options))
    else:
        print_texts(_texts(models[0], options))


def _of_each(
    write: Callable[["TrainedModel", argparse.Namespace], list[T]],
    models: list["TrainedModel"],
    paths: list[Path],
    options: argparse.Namespace,
) -> list[list[T]]:
    """Write with each model; of several, an error names the one that cannot."""
    written = []
    for model, path in zip(models, paths, strict=True):
        try:
            written.append(write(model, options))
        except UserError as error:
            raise UserError(f"{path}: {error}" if options.compare else str(error)) from error
    return written


def _described(model: "TrainedModel", options: argparse.Namespace) -> list["Generated"]:
    from lyricgen.generation.texts import generate

    return generate(model, **_asked(options))


def _texts(model: "TrainedModel", options: argparse.Namespace) -> list[str]:
    from lyricgen.generation.output import marked, with_score
    from lyricgen.generation.texts import continue_prefixes

    if options.fill:
        from lyricgen.generation.filling import fill_texts

        given = {name: getattr(options, name) for name in FILLING if name != "compare"}
        known = {name: value for name, value in given.items() if value is not None}
        return fill_texts(model, options.fill, **known)
    if options.beams:
        return [with_score(one) for one in _described(model, options)]
    written, writer = continue_prefixes(model, **_asked(options))
    return [marked(one.prefix + writer.decode(one.shown), one.ended) for one in written]


def _watch(model: "TrainedModel", options: argparse.Namespace) -> None:
    from lyricgen.generation.output import Stream
    from lyricgen.generation.texts import continue_prefixes

    asked = _asked(options)
    stream = Stream(model.normalised(asked["prefixes"][0]))
    try:
        [one], _ = continue_prefixes(model, watch=stream, **asked)
        stream.mark(one.ended)
    finally:
        stream.end()


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `generation.texts.generate`: the given options; it has defaults for the rest."""
    given = {name: value for name, value in vars(options).items() if name not in HERE}
    return {
        "prefixes": options.prefix or [""],
        **{name: value for name, value in given.items() if value is not None},
    }


def _refuse_idle(options: argparse.Namespace) -> None:
    """Refuse what would change nothing."""
    given = [
        name
        for name, value in vars(options).items()
        if value is not None and name not in ("checkpoint", "debug")
    ]
    for name in given:
        if options.fill and name not in ("fill", *FILLING):
            raise UserError(f"{_typed(name)} does not go with --fill")
        if not options.fill and name in ("sweeps", "gap"):
            raise UserError(f"{_typed(name)} goes with --fill")
        if options.beams and name in ("seed", "generator"):
            raise UserError(f"{_typed(name)} is for drawing, and --beams searches without drawing")
        if options.watch and name in ("fill", "beams", "novel", "compare"):
            raise UserError(f"--watch does not go with {_typed(name)}: only one of them")
    if options.watch and options.format == "jsonl":
        raise UserError("--watch shows a text itself: leave --format jsonl out")
    if options.watch and (len(options.prefix or [""]) > 1 or (options.count or 1) > 1):
        raise UserError("--watch shows one text as it is written: ask for one prefix, --count 1")
    if options.compare and len(options.compare) + (options.checkpoint is not None) < 2:
        raise UserError("--compare needs two checkpoints or more")


def _typed(name: str) -> str:
    return "--" + name.replace("_", "-")


if __name__ == "__main__":
    main()
