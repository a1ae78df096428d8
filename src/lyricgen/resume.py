"""Going on with a run: which one, by which overrides, and whether it is still the same one."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lyricgen.errors import UserError
from lyricgen.runs import LAST, PREVIOUS, Run, newest_run

# What does not change the mathematics of training, only how long it goes on, where and how it is
# watched. All other keys must be as they were.
FREE = (
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.deterministic",
    "trainer.float32_matmul_precision",
    "trainer.profiler",
    "callbacks",
    "logger",
    "name",
    "resume",
    "data.path",
    "data.max_bytes",
)


def expand(arguments: list[str]) -> list[str]:
    """Turn `resume=` among a command's arguments into the run's recorded overrides.

    Args:
        arguments: as they were typed.

    Returns:
        The recorded overrides, then those typed now, then what makes Hydra work in the run's
        directory and leave its record there alone. Without `resume=`, the arguments as they are.

    Raises:
        UserError: no such run, or one that cannot be resumed so.
    """
    wanted = [one.partition("=")[2] for one in arguments if one.startswith("resume=")]
    if not wanted or wanted[-1] in ("null", ""):
        return [one for one in arguments if not one.startswith("resume=")]
    typed = [one for one in arguments if not one.startswith("resume=")]
    for one in typed:
        if one in ("-m", "--multirun") or one.startswith(("hydra.run.dir=", "hydra.mode=")):
            raise UserError(f"resume={wanted[-1]} goes on in that run's directory: leave out {one}")
    directory = _run_directory(wanted[-1])
    _refuse_what_nothing_compares(directory, typed)
    keys = {_key(one) for one in typed}
    options, recorded = _recorded(directory)
    return [
        *([] if any(one.startswith(("--config-", "-c")) for one in typed) else options),
        *(one for one in recorded if _key(one) not in keys),
        *typed,
        f"hydra.run.dir={_quoted(str(directory))}",
        "hydra.output_subdir=null",
        f"resume={_quoted(str(directory))}",
    ]


@dataclass(frozen=True)
class Past:
    """What a run brings along that is gone on with; nothing for a new one."""

    checkpoint: Path | None = None
    steps: int = 0  # that the checkpoint has made
    text: str | None = None  # digest of what it had read
    sizes: dict[str, int] = field(default_factory=dict)  # of the run's growing files then
    wall_seconds: float = 0.0  # that it had taken
    summary: dict[str, Any] = field(default_factory=dict)
    is_complete: bool = False  # the run is finished, and nothing was asked for beyond


def take_up(run: Run, options: dict[str, Any], content: dict[str, Any] | None) -> Past:
    """Find where a run stands.

    Args:
        run: claimed.
        options: plain values, the configuration now.
        content: of the checkpoint to go on from; None for none.

    Raises:
        UserError: the directory holds a run and `resume` was not asked for; the configuration is
            not the run's.
    """
    if options["resume"] is None:
        if run.taken:
            raise UserError(
                f"{str(run.directory)!r} holds a run already: leave hydra.run.dir out, name "
                f"another directory, or go on with it by resume={shlex.quote(str(run.directory))}"
            )
        return Past()
    summary = run.earlier_summary
    if content is None:
        return Past(summary=summary)
    recorded = content["lyricgen"]["options"]
    differences = changed(recorded, options)
    if differences:
        raise UserError(
            f"resume: a run goes on as it began, but {'; '.join(differences)}: leave these out, "
            "or start a new run"
        )
    longer = options["trainer"]["max_epochs"] > recorded["trainer"]["max_epochs"]
    waits = options["callbacks"]["early_stopping"] != recorded["callbacks"]["early_stopping"]
    return Past(
        run.checkpoints / LAST,
        content["global_step"],
        content["run"]["text"],
        content["run"]["sizes"],
        content["run"]["wall_seconds"],
        summary,
        is_complete=summary.get("status") == "finished" and not longer and not waits,
    )


def changed(recorded: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What must not change and did: "key=recorded value (now: other value)", sorted by key."""
    before, after = _flat(recorded), _flat(now)
    return [
        f"{key}={_shown(before, key)} (now: {_shown(after, key)})"
        for key in sorted(before.keys() | after.keys())
        if _shown(before, key) != _shown(after, key) and not _is_free(key)
    ]


def _run_directory(wanted: str) -> Path:
    directory = newest_run() if wanted == "latest" else Path(wanted).expanduser()
    if directory.is_file() and directory.parent.name == "checkpoints":
        directory = directory.parent.parent
    if (directory / "multirun.yaml").exists():
        jobs = sorted(str(path.parent) for path in directory.glob("*/.hydra"))
        first = f", as in resume={jobs[0]}" if jobs else ""
        raise UserError(f"resume={wanted} is a sweep: name the directory of one of its jobs{first}")
    if not (directory / ".hydra" / "overrides.yaml").is_file():
        raise UserError(
            f"resume={wanted}: {str(directory)!r} is not a run's directory (it has no "
            ".hydra/overrides.yaml): name one under outputs/runs, or resume=latest"
        )
    return directory.resolve()


def _refuse_what_nothing_compares(directory: Path, typed: list[str]) -> None:
    """Without a checkpoint a run begins anew, as it is recorded."""
    if any((directory / "checkpoints" / name).exists() for name in (LAST, PREVIOUS)):
        return
    for one in typed:
        if "=" in one and not _is_free(_key(one)) and not _key(one).startswith("hydra"):
            raise UserError(
                f"{str(directory)!r} has no checkpoint yet and begins anew as it was: leave out "
                f"{one}, or start a new run"
            )


def _recorded(directory: Path) -> tuple[list[str], list[str]]:
    """The options of the command line, then the overrides, that a run was composed from."""
    record = directory / ".hydra"
    try:
        overrides: Any = OmegaConf.to_container(OmegaConf.load(record / "overrides.yaml"))
        hydra: Any = OmegaConf.to_container(OmegaConf.load(record / "hydra.yaml"))["hydra"]  # type: ignore[index,call-overload]
        folders = [
            source["path"]
            for source in hydra["runtime"]["config_sources"]
            if source["provider"] == "command-line"
        ]
        search = [one for one in hydra["overrides"]["hydra"] if one.startswith("hydra.searchpath=")]
    except Exception as error:  # yaml, OmegaConf and a wrong shape each have errors of their own
        raise UserError(
            f"the record in {str(record)!r} cannot be read ({type(error).__name__}): start the "
            "run anew"
        ) from error
    options = [part for folder in folders for part in ("--config-dir", folder)]
    return options, [*overrides, *search]


def _key(override: str) -> str:
    """What an override sets: cell of cell=lstm, sampler of +sampler@x=random."""
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
