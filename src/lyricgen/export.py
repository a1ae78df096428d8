"""Write a model file to share: python -m lyricgen.export [CHECKPOINT] [--out FILE]."""

import argparse
import hashlib
import re
from pathlib import Path
from typing import Any

from lyricgen.cli.command_line import Parser, check_output, run, writing
from lyricgen.console import show
from lyricgen.errors import UserError

SUFFIX = ".safetensors"
PERSONAL = {"init_from", "resume", "path", "prefixes"}  # settings of any group


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error that the user can mend prints one line and gives status 2."""
    run(_parser(), _export, arguments)


def _export(options: argparse.Namespace) -> None:
    out: Path | None = options.out
    if out is not None:
        _check_place(out, options.force)

    # --help must not wait the seconds that torch takes to load
    from lyricgen.models.card import card
    from lyricgen.models.checkpoint import load, to_bytes
    from lyricgen.runs.newest import newest_checkpoint

    model = load(options.checkpoint or newest_checkpoint())
    if out is None:
        out = Path(_file_name(model.options.get("name"), model.network.description))
        _check_place(out, options.force)
    described = card(model)
    described["options"] = shared(described["options"])
    content = to_bytes(described, model.network.state_dict())
    with writing("--out", out) as stream:
        stream.write(content)
    show(f"{out}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def shared(options: dict[str, Any]) -> dict[str, Any]:
    """Copy a run's options with None for paths and prefixes, which are personal."""
    return {
        key: None if key in PERSONAL else shared(value) if isinstance(value, dict) else value
        for key, value in options.items()
    }


def _check_place(out: Path, force: bool) -> None:
    """Refuse a file that cannot be written or would be lost."""
    check_output("--out", out, SUFFIX)
    if out.exists() and not force:
        raise UserError(f"{str(out)!r} is there already: name another, or add --force")


def _file_name(name: Any, description: str) -> str:
    """Make a safe file name from the run's name, which a file may have chosen freely."""
    plain = re.sub(r"[^\w-]+", "_", name if isinstance(name, str) else description).strip("_")
    return f"{plain[:60] or 'model'}{SUFFIX}"


def _parser() -> Parser:
    parser = Parser("export", "Write a model to a safetensors file, to share.")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"file to write (default: NAME{SUFFIX} in this directory, with the run's name)",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    return parser


if __name__ == "__main__":
    main()
