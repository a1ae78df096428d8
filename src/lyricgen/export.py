"""Write a model file to share: python -m lyricgen.export [CHECKPOINT …] [--out FILE]."""

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

from lyricgen.cli.command_line import Parser, check_output, open_output, run
from lyricgen.console import show
from lyricgen.errors import UserError

SUFFIX = ".safetensors"
OPTIONS = {
    "--out FILE": f"file to write (default: NAME{SUFFIX} in this directory, with the run's name)",
    "--force": "replace FILE if it exists",
    "--network-only": "of model=hybrid, write the network alone, without the counts of n-grams",
}
COUNTS = (
    "It holds counts of n-grams, from which much of the training text can be read. --network-only "
    "leaves them out of a file of model=hybrid."
)
# settings that `hide_personal` hides in any group
PERSONAL = {"init_from", "resume", "path", "prefixes"}


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend prints one line and gives status 2."""
    run(create_parser(), _export, arguments)


def create_parser() -> Parser:
    """Create the parser of the command's arguments."""
    parser = Parser(
        "export",
        "Write a model, or several as one (an ensemble), to a safetensors file, to share.",
    )
    parser.add_options(OPTIONS, {"FILE": Path})
    return parser


def _export(options: argparse.Namespace) -> None:
    out: Path | None = options.out
    if out is not None:
        _check_path(out, options.force)
    paths, several = options.checkpoints, len(options.checkpoints) > 1
    if several and options.network_only:
        raise UserError("--network-only is for single models: leave it out, or name one checkpoint")

    # --help must not wait the seconds that torch takes to load
    from lyricgen.generation.ensembles import join_models
    from lyricgen.models.card import card
    from lyricgen.models.checkpoint import load, to_bytes
    from lyricgen.runs.newest import newest_checkpoint

    models = [load(path) for path in paths or [newest_checkpoint()]]
    model = join_models(models) if several else models[0]
    if options.network_only:
        model = model.network_only()
    if out is None:
        name = model.options.get("name")  # a file may hold any name
        name = name if isinstance(name, str) else model.network.description
        plain = re.sub(r"[^\w-]+", "_", name).strip("_")
        out = Path(f"{plain[:60] or 'model'}{SUFFIX}")
        _check_path(out, options.force)
    described = card(model)
    described["options"] = hide_personal(described["options"])
    content = to_bytes(described, model.network.state_dict())
    with open_output("--out", out) as stream:
        stream.write(content)
    show(f"{out}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    if model.holds_counts:
        show(COUNTS)


def hide_personal(options: dict[str, Any]) -> dict[str, Any]:
    """Copy a run's options with None for paths and prefixes, which are personal."""
    return {
        key: None if key in PERSONAL else hide_personal(value) if isinstance(value, dict) else value
        for key, value in options.items()
    }


def _check_path(out: Path, force: bool | None) -> None:
    """Check the path of the file to write; refuse an existing file unless `force` is true."""
    check_output("--out", out, SUFFIX)
    if out.exists() and not force:
        raise UserError(f"{str(out)!r} is there already: name another, or add --force")


if __name__ == "__main__":
    main()
