"""Going on with a run: which one, by which overrides, and whether it is still the same one."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lyricgen.errors import UserError
from lyricgen.runs import BEST, RECORD, earlier_summary, newest_run

# What does not change the mathematics of training, only how long it goes on, where and how it is
# watched. All other keys must be as they were.
FREE = (
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.profiler",
    "callbacks",
    "logger",
    "name",
    "resume",
    "data.path",
    "data.max_bytes",
)
# Options of Hydra's command line that take the argument after them.
_WITH_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-i", "--info", "--experimental-rerun"),
    *("-cn", "--config-name", "-cd", "--config-dir", "-cp", "--config-path"),
)


def expand(arguments: list[str]) -> list[str]:
    """Turn `resume=` among a command's arguments into the run's recorded overrides.

    Args:
        arguments: as they were typed.

    Returns:
        Options, since Hydra's parser refuses one between two overrides; then the recorded
        overrides, those typed now, and what makes Hydra work in the run's directory.

    Raises:
        UserError: no such run, or one that cannot be resumed so.
    """
    options, overrides = _split(arguments)
    wanted = [one.partition("=")[2] for one in overrides if _key(one) == "resume"]
    if not wanted or wanted[-1] in ("null", ""):
        return [*options, *overrides]
    typed = [one for one in overrides if _key(one) != "resume"]
    for one in (*options, *typed):
        if one in ("-m", "--multirun") or _key(one) in ("hydra.run.dir", "hydra.mode"):
            raise UserError(f"resume={wanted[-1]} goes on in that run's directory: leave out {one}")
    directory = _run_directory(re.sub(r"^(['\"])(.*)\1$", r"\2", wanted[-1]))
    recorded_options, recorded = _recorded(directory)
    keys = {_key(one) for one in typed}
    return [
        *options,
        *(
            part
            for name, value in recorded_options
            if name not in options
            for part in (name, value)
        ),
        *(one for one in recorded if _key(one) not in keys),
        *typed,
        f"hydra.run.dir={_quoted(str(directory))}",
        f"resume={_quoted(str(directory))}",
    ]


@dataclass(frozen=True)
class Past:
    """What a run brings along that is gone on with; nothing for a new one."""

    checkpoint: Path | None = None  # to go on from
    steps: int = 0  # that it has made
    text: str | None = None  # digest of what it had read
    sizes: dict[str, int] = field(default_factory=dict)  # of the run's growing files then
    wall_seconds: float = 0.0  # that it had taken
    summary: dict[str, Any] = field(default_factory=dict)
    finished: str | None = None  # why it is, or what would make it longer; None if it goes on


def take_up(
    directory: Path, options: dict[str, Any], checkpoint: tuple[Path, dict[str, Any]] | None
) -> Past:
    """Find where a run stands.

    Args:
        directory: of the run.
        options: plain values, the configuration now.
        checkpoint: to go on from, and what is in it; None for none.

    Raises:
        UserError: the configuration is not the run's, or nothing was asked to be resumed here.
    """
    summary = earlier_summary(directory)
    if options["resume"] is None:
        if summary is not None:
            raise UserError(
                f"{str(directory)!r} holds a run already: leave hydra.run.dir out, name another "
                f"directory, or go on with it by resume={shlex.quote(str(directory))}"
            )
        return Past()
    if Path(options["resume"]) != directory.resolve():
        raise UserError(
            f"resume={options['resume']}: it belongs on the command line, not in a file"
        )
    summary = summary or {}
    recorded = checkpoint[1]["lyricgen"]["options"] if checkpoint else summary.get("options")
    _refuse_changes(recorded, options)
    if checkpoint is None or options["model"]["kind"] == "ngram":  # counting has no half-way
        why = "it has kept no checkpoint" if checkpoint is None else "its n-grams are counted"
        finished = why if summary.get("status") == "finished" else None
        return Past(summary=summary, finished=finished)
    path, content = checkpoint
    epoch, max_epochs = content["epoch"], options["trainer"]["max_epochs"]
    if max_epochs <= epoch:
        raise UserError(f"trainer.max_epochs={max_epochs}: the run is in epoch {epoch + 1} already")
    return Past(
        path,
        content["global_step"],
        content["run"]["text"],
        content["run"]["sizes"],
        content["run"]["wall_seconds"],
        summary,
        _finished(content, options) if summary.get("status") == "finished" else None,
    )


def changed(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What must not change and did: "key=recorded value (now: other value)", sorted by key."""
    before, after = _flat(recorded), _flat(now)
    return [
        f"{key}={_shown(before, key)} (now: {_shown(after, key)})"
        for key in sorted(before.keys() | after.keys())
        if _shown(before, key) != _shown(after, key) and not _is_free(key)
    ]


def _refuse_changes(recorded: dict[str, Any] | None, options: dict[str, Any]) -> None:
    differences = changed(recorded, options) if recorded else []
    if differences:
        raise UserError(
            f"resume: a run goes on as it began, but {'; '.join(differences)}: leave these out, "
            "or start a new run"
        )


def _finished(content: dict[str, Any], options: dict[str, Any]) -> str | None:
    """Why a run is finished, or what would make it longer; None where that was asked for."""
    stopping = options["callbacks"]["early_stopping"]
    counts = [
        state["wait_count"]
        for name, state in content["callbacks"].items()
        if name.startswith("EarlyStopping")
    ]
    if stopping["enabled"] and counts and counts[0] >= stopping["patience"]:
        return "a larger callbacks.early_stopping.patience makes it longer"
    if content["global_step"] == options["trainer"]["max_steps"]:
        return "its trainer.max_steps are made; start a new run for more"
    if content["epoch"] + 1 >= options["trainer"]["max_epochs"]:
        return "a larger trainer.max_epochs makes it longer"
    return None


def _run_directory(wanted: str) -> Path:
    directory = newest_run() if wanted == "latest" else Path(wanted).expanduser()
    if directory.is_file() and directory.parent.name == "checkpoints":
        directory = directory.parent.parent
    if (directory / "multirun.yaml").exists():
        jobs = sorted(path.parent for path in directory.glob(f"*/{RECORD}"))
        unfinished = [
            job for job in jobs if (earlier_summary(job) or {}).get("status") != "finished"
        ]
        example = f", as in resume={shlex.quote(str(unfinished[0]))}" if unfinished else ""
        raise UserError(
            f"resume={wanted} is a sweep: name the directory of one of its jobs{example}"
        )
    if not (directory / RECORD / "overrides.yaml").is_file():
        raise UserError(
            f"resume={wanted}: {str(directory)!r} is not the directory of a run that has begun "
            f"(it has no {RECORD}/overrides.yaml): name one under outputs/runs, or resume=latest"
        )
    return directory.resolve()


def _recorded(directory: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """The options of the command line, then the overrides, that a run was last composed from."""
    record = directory / RECORD
    try:
        overrides: Any = OmegaConf.to_container(OmegaConf.load(record / "overrides.yaml"))
        # those of the last resume, if there was one
        overrides = (earlier_summary(directory) or {}).get("overrides", overrides)
        hydra: Any = OmegaConf.to_container(OmegaConf.load(record / "hydra.yaml"))["hydra"]  # type: ignore[index,call-overload]
        options = [
            ("--config-dir", str(source["path"]))
            for source in hydra["runtime"]["config_sources"]
            if source["provider"] == "command-line"
        ]
        if hydra["job"]["config_name"] != "train":
            options.append(("--config-name", str(hydra["job"]["config_name"])))
        search = [one for one in hydra["overrides"]["hydra"] if one.startswith("hydra.searchpath=")]
        if not (isinstance(overrides, list) and all(isinstance(one, str) for one in overrides)):
            raise ValueError("overrides are not a list of strings")
    except Exception as error:  # yaml, OmegaConf and a wrong shape each have errors of their own
        raise UserError(
            f"the record in {str(record)!r} cannot be read ({type(error).__name__}): start a new "
            f"run, from init_from={shlex.quote(str(directory / 'checkpoints' / BEST))} if that one "
            "is there"
        ) from error
    return options, [*overrides, *search]


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Options with their values, and overrides."""
    options: list[str] = []
    overrides: list[str] = []
    for one in arguments:
        is_value = bool(options) and options[-1] in _WITH_VALUE and "=" not in one
        (options if one.startswith("-") or is_value else overrides).append(one)
    return options, overrides


def _key(override: str) -> str:
    """What an override sets: cell of cell=lstm, sampler of ++sampler@x=random."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def _quoted(value: str) -> str:
    """A value that Hydra's grammar gives back as it is."""
    value = re.sub(r"\\+(?='|$)", lambda slashes: slashes[0] * 2, value)
    return "'" + value.replace("'", "\\'") + "'"


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flat(value, f"{above}{key}.") if nested else {f"{above}{key}": value}
    return flat


def _shown(values: dict[str, Any], key: str) -> str:
    if key not in values:
        return "absent"
    value = values[key]
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(list(value)) if isinstance(value, list | tuple) else str(value)


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)
