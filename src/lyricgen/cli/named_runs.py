"""Runs on command lines: the models of --run and --best, and completion by the tab key."""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from lyricgen.console import tell
from lyricgen.errors import UserError, escape_line
from lyricgen.reporting.ranking import choose_metric, rank_records
from lyricgen.reporting.records import parse_conditions, read_all, select
from lyricgen.runs.directories import has_checkpoint, outputs_directory
from lyricgen.runs.newest import checkpoint_in, tell_taken
from lyricgen.runs.references import NEWEST, find_run, list_directories, name_of, shorten_ids

BEST = "--best"
LIKE = "like="
RUN_SETTINGS = (LIKE, "resume=")  # settings of train whose values are references to runs


def resolve_models(options: argparse.Namespace) -> None:
    """Put the checkpoints of --run or --best into `options.checkpoints`, and name each of them.

    Raises:
        UserError: models are named in two ways, or no checkpoint or no single run fits.
    """
    given = {"CHECKPOINT": options.checkpoints, "--run": options.run, BEST: options.best}
    several = [name for name, value in given.items() if value or (name == BEST and value == [])]
    if len(several) > 1:
        raise UserError(f"{' and '.join(several)} both name models: leave one of them out")
    if options.best is not None:
        options.checkpoints = [_find_best(options.best)]
    else:
        options.checkpoints = [checkpoint_in(find_run(reference)) for reference in options.run]
    for checkpoint in options.checkpoints:
        tell_taken(checkpoint)


def _find_best(conditions: Sequence[str]) -> Path:
    """Find the checkpoint of the best run on one text that fulfils conditions and has one."""
    records = select(read_all([]).records, parse_conditions(conditions, BEST), BEST)
    ranked = rank_records(records)
    metric = choose_metric(ranked)
    outputs = outputs_directory()
    for record in ranked:
        directory = outputs / record.directory.relative_to(outputs.resolve())
        if has_checkpoint(directory):
            count = f"{len(ranked)} finished run{'s' if len(ranked) > 1 else ''}"
            tell(f"best of {count} by {metric}: {record.figures[metric]:.2f}")
            return checkpoint_in(directory)
        tell(escape_line(f"{directory} is better, but has no checkpoint"))
    raise UserError(f"{BEST}: no run that fulfils the conditions has a checkpoint")


def list_references() -> list[str]:
    """List the names and ids of all runs.

    Bash expands the words of a completion, so a name with other characters is left out.
    """
    directories = list_directories()
    names = sorted(set(map(name_of, directories)))
    plain = [name for name in names if re.fullmatch(r"[\w.,=+-]+", name)]
    return [NEWEST, *plain, *shorten_ids(directories)]


def complete_run_setting(word: str) -> list[str]:
    """List values of a setting in `RUN_SETTINGS`; nothing for another word."""
    name, equals, _ = word.partition("=")
    is_one = f"{name}{equals}" in RUN_SETTINGS
    return [f"{name}={reference}" for reference in list_references()] if is_one else []


def drop_run_settings(words: Iterable[str]) -> list[str]:
    """Return the words that set none of `RUN_SETTINGS`, which Hydra alone does not understand."""
    return [word for word in words if not word.startswith(RUN_SETTINGS)]


def complete_words(before: Sequence[str], word: str, module: ModuleType) -> list[str]:
    """List words that may continue a command other than train; nothing for names of files.

    Args:
        before: the words between the command and the word to complete.
        word: beginning of the word to complete.
        module: module of the command. It has `create_parser`; it may have `ACTIONS`, the names of
            actions that the first word chooses and that take references to runs.
    """
    actions = getattr(module, "ACTIONS", {})
    action = before[0] if before and before[0] in actions else ""
    if word.startswith("-"):
        parser = module.create_parser(action) if actions else module.create_parser()
        return [name for name in parser.known if name.startswith("--")]
    option = next((one for one in reversed(before) if one.startswith("--")), "")
    if option == "--run" or action:
        return list_references()
    return [] if before else list(actions)
