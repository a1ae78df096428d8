"""The recorded command line of a run or sweep, which `resume=` and `like=` repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lyricgen.cli.hydra_private import parse_by_grammar
from lyricgen.cli.known_settings import GRID_POINTS, default_choices
from lyricgen.cli.recorded_settings import INDEPENDENT, PLAIN, restore_changed
from lyricgen.cli.typed_values import quote_texts
from lyricgen.console import tell
from lyricgen.errors import UserError
from lyricgen.runs.directories import HYDRA_FOLDER, MULTIRUN
from lyricgen.runs.newest import tell_taken
from lyricgen.runs.record_files import RecordError, read_yaml
from lyricgen.runs.references import NEWEST, find_directory
from lyricgen.runs.state import start_anew
from lyricgen.runs.summary import RunSummary
from lyricgen.settings import OLDER, belongs_to, complete, key

_TYPED = "command-line"  # Hydra's name for the source --config-dir
_HYDRA, OVERRIDES = f"{HYDRA_FOLDER}/hydra.yaml", f"{HYDRA_FOLDER}/overrides.yaml"
# Settings of the directory of a run or sweep, which `resume=` decides.
DIRECTORY_SETTINGS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.mode")


@dataclass(frozen=True)
class RecordedCommand:
    """The last command line of a run or sweep; options stand with their values."""

    directory: Path
    is_sweep: bool
    options: Sequence[tuple[str, str]]
    overrides: Sequence[str]

    def options_beside(self, typed: Sequence[str]) -> list[str]:
        """Return the recorded options, word by word, but for those that are typed."""
        return [word for option in self.options if option[0] not in typed for word in option]

    def overrides_like(self, typed: Sequence[str], texts: Sequence[str]) -> list[str]:
        """Return the recorded overrides that a new run keeps beside the typed ones.

        A group that is chosen anew begins with its own settings, unless it is one of `INDEPENDENT`.
        A new text replaces the recorded one. A default that has changed since keeps its recorded
        value, unless a new text or choice may change it. The new run fills settings that said
        `auto`.

        Args:
            typed: the typed overrides.
            texts: the override that names texts, if any.
        """
        groups = default_choices().keys()
        replaced = {key(one) for one in (*typed, *texts)} | _settings_of_points(typed)
        chosen = replaced & groups
        replaced |= set() if self.is_sweep else {"sweep"}
        replaced |= {"data"} if "data.path" in replaced else set()
        replaced |= {"layers"} if "depth" in replaced else set()  # which the choice may set
        kept = [
            one
            for one in self.overrides
            if key(one) not in replaced and not belongs_to(key(one), list(chosen - INDEPENDENT))
        ]
        if self.is_sweep or self.options or replaced & (groups - INDEPENDENT - {"sweep"}):
            return kept
        earlier = RunSummary.read_earlier(self.directory)
        if earlier is not None and earlier.options:
            restored = restore_changed(complete(earlier.unfilled), kept)
            new = (*replaced, *chosen)
            kept += [one for one in restored if not belongs_to(key(one), new)]
        return kept


def _settings_of_points(overrides: Sequence[str]) -> set[str]:
    """List the settings that all points of a typed sweep.points= share."""
    typed = [one.partition("=")[2] for one in overrides if key(one) == GRID_POINTS]
    points = parse_by_grammar(typed[-1]) if typed else None
    if not isinstance(points, list) or not all(isinstance(one, dict) for one in points):
        return set()
    each = [{key(str(name)) for name in one} for one in points]
    return set.intersection(*each) if each else set()


def find_command(setting: str, reference: str) -> RecordedCommand:
    """Find the command line of the run or sweep that resume= or like= names.

    Raises:
        UserError: no run or sweep that has begun is named so, or its record cannot be read.
    """
    directory = find_directory(reference)
    if not (directory / MULTIRUN).is_file() and not (directory / OVERRIDES).is_file():
        raise UserError(
            f"{setting}={reference}: {str(directory)!r} is not the directory of a run or a sweep "
            f"that has begun (it has neither {OVERRIDES} nor {MULTIRUN}): name one under outputs, "
            f"or {setting}=latest; a new run may start with the weights of a model: "
            "init_from=CHECKPOINT"
        )
    if reference == NEWEST:
        tell_taken(directory)
    return read_command(directory.resolve())


def read_command(directory: Path) -> RecordedCommand:
    """Read the last command line of a run or sweep.

    Raises:
        UserError: the record cannot be read.
    """
    is_sweep = (directory / MULTIRUN).exists()
    record = directory / (MULTIRUN if is_sweep else _HYDRA)
    try:
        configuration = read_yaml(record)
        read = configuration["hydra"]
        known = {name: read[name] for name in ("runtime", "job", "overrides")}
        hydra: Any = OmegaConf.merge(OmegaConf.structured(HydraConf), known)
        typed: Any = hydra.overrides
        if not is_sweep:
            typed.task = read_yaml(directory / OVERRIDES)
            # the overrides of the last resume, if any
            earlier = RunSummary.read_earlier(directory)
            configuration = (earlier and earlier.options) or OLDER
            if earlier is not None and "overrides" in earlier.model_fields_set:
                typed.task = earlier.overrides
        sources = [one for one in hydra.runtime.config_sources if one.provider == _TYPED]
        options = [("--config-dir", str(one.path)) for one in sources]
        if hydra.job.config_name != "train":
            options.append(("--config-name", str(hydra.job.config_name)))
        parse: Any = OverridesParser.create().parse_overrides
        task, for_hydra = (parse(OmegaConf.to_container(one)) for one in (typed.task, typed.hydra))
    except (RecordError, HydraException, OmegaConfBaseException, TypeError, KeyError) as error:
        why = str(error) if isinstance(error, RecordError) else "it is not what Hydra writes"
        raise UserError(
            f"the record {str(record)!r} cannot be read ({why}): {start_anew(directory)}"
        ) from error
    # a sweep also keeps its engine and its sweeper
    kept = [
        one
        for one in for_hydra
        if one.key_or_group not in DIRECTORY_SETTINGS
        and (is_sweep or one.key_or_group == "hydra.searchpath")
    ]
    kept = _drop_old_settings(kept)
    overrides = [str(one.input_line) for one in [*task, *kept] if one.key_or_group != "resume"]
    # records omit the backslash before ${x} in a text
    parts = [quote_texts([one], multirun=is_sweep) if "${" in one else [one] for one in overrides]
    if "recipe" not in configuration:  # of an earlier version, which had none
        parts.insert(0, [PLAIN])
    flat = [part for each in parts for part in each]
    return RecordedCommand(directory, is_sweep, options, flat)


def _drop_old_settings(overrides: list[Override]) -> list[Override]:
    """Leave out launcher settings that only an earlier version had, and tell the user."""
    engines = [one.value() for one in overrides if one.key_or_group == "hydra/launcher"]
    if not engines or engines[-1] not in ("cpus", "processes"):
        return overrides
    kept = []
    for one in overrides:
        name = one.key_or_group
        if name == "hydra.launcher.n_jobs" or not name.startswith("hydra.launcher."):
            kept.append(one)
        else:
            engine = f"hydra/launcher={engines[-1]}"
            tell(f"{one.input_line} is left out: {engine} has no such setting now")
    return kept
